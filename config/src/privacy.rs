//! `[privacy]`: what of people and their secrets is kept.

use crate::{ClientIp, HashRotation, Secret, SecretPattern};

/// `[privacy]`: what of a client is kept in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privacy {
    /// How much of the client's address is kept.
    pub client_ip: ClientIp,
    /// The key of hashes, at least 16 bytes; there where `client_ip` is [`ClientIp::Hash`].
    pub hash_key: Option<Secret>,
    /// How long the hash of one address stays the same.
    pub hash_rotation: HashRotation,
    /// What is taken out of texts beside the kinds that are known.
    pub redact: Vec<SecretPattern>,
    /// Kinds of personal data that are not taken out.
    pub keep: Vec<Personal>,
}

/// A kind of personal data that redaction knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personal {
    /// E-mail addresses.
    Email,
    /// Phone numbers.
    Phone,
    /// Numbers of payment cards.
    Card,
    /// Japanese individual numbers.
    MyNumber,
    /// International bank account numbers.
    Iban,
}

impl Default for Privacy {
    fn default() -> Self {
        Self {
            client_ip: ClientIp::Prefix,
            hash_key: None,
            hash_rotation: HashRotation::Month,
            redact: Vec::new(),
            keep: Vec::new(),
        }
    }
}
