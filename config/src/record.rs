//! `[record]`: what is kept beside the rows.

use std::fmt;

/// `[record]`: bodies of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of which calls bodies are kept, on routes that do not say otherwise.
    pub bodies: Bodies,
    /// The most bytes of a body, from 1 KiB to 60 KiB; what is longer is cut.
    pub bodies_max_bytes: u32,
    /// The age in days at which bodies are deleted; never above `store.retention_days` where that is set.
    pub bodies_retention_days: u32,
    /// The first seals bodies, any opens them. There is one wherever a route keeps bodies.
    pub bodies_key: Vec<BodyKey>,
}

/// Of which calls bodies are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bodies {
    /// Of none.
    #[default]
    Off,
    /// Of those that failed.
    Errors,
    /// Of all but those that were refused.
    All,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            bodies: Bodies::Off,
            bodies_max_bytes: 16 << 10,
            bodies_retention_days: 7,
            bodies_key: Vec::new(),
        }
    }
}

/// 256 secret bits. `Debug` prints `****`.
#[derive(Clone, PartialEq, Eq)]
pub struct BodyKey([u8; 32]);

impl BodyKey {
    /// Hides the bits from now on.
    pub const fn new(bits: [u8; 32]) -> Self {
        Self(bits)
    }

    /// The bits themselves, for the one who seals or opens. Never log them and never put them into an error.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for BodyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}
