//! Whether a caller who was let in still would be: for streams, which outlast the check of their head. Asks nobody; it is
//! told when keys change.

use super::Denied;
use crate::{
    clock::Clock,
    key_ring::{KeyRing, KnownKey},
};
use mcpmeter_observer::Failure;
use std::{fmt, sync::Arc};

/// A caller's right to go on, by the key it came with.
#[derive(Clone)]
pub(crate) struct Standing {
    pub(super) ring: Arc<KeyRing>,
    pub(super) key: Arc<KnownKey>,
    pub(super) clock: Clock,
}

impl Standing {
    /// Returns, with what to say, when the key is good no more: revoked, expired, or exchanged and the time of grace over.
    pub(crate) async fn lost(self) -> Failure {
        let refusal = self.ring.ended(&self.key, || self.clock.timestamp()).await;
        Failure { http_status: None, ..Denied::bad_key(refusal).failure().clone() }
    }
}

/// Says nothing of the keys.
impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standing(…)")
    }
}
