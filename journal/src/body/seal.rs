//! The encryption of bodies: AES-256-GCM with a random nonce. What a body belongs to (call, side, length, whether it is
//! cut) is authenticated with it, so that none can be passed off as another's.
//!
//! A key is told by its id, the beginning of a hash of it, so that keys can be exchanged: the first seals, any opens. With
//! random nonces of 96 bits one key may seal 2^32 bodies (NIST SP 800-38D, 8.3); whoever keeps more exchanges it before.

use super::SealedBody;
use mcpmeter_observer::{Body, BodySide, CallRecord, Text, Timestamp};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use std::fmt;
use uuid::Uuid;

/// What is hashed before a key for its id, so that the id says nothing about the key elsewhere.
const ID_OF: &[u8] = b"mcpmeter body key id\0";
/// What is authenticated before everything else: another form gets another one.
const FORM: &[u8] = b"mcpmeter body 1\0";
/// Bytes of the hash in an id.
const ID_BYTES: usize = 8;

/// A key of bodies. Shows nothing but its id.
pub struct BodyKey {
    id: String,
    key: LessSafeKey,
}

/// The keys that are known: the first seals, all open.
#[derive(Debug, Default)]
pub struct BodyKeys(Vec<BodyKey>);

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenBodyError {
    /// None of the keys is the one that it was sealed with.
    #[error("it was sealed with the key {key_id}, which is not among those of record.bodies_key{}", listed(.known))]
    NoKey {
        /// The id of that key.
        key_id: String,
        /// The ids of those that are there.
        known: Vec<String>,
    },
    /// It is not what was sealed with that key for this call.
    #[error("it was changed after it was sealed with the key {key_id}")]
    Damaged {
        /// The id of that key.
        key_id: String,
    },
}

fn listed(ids: &[String]) -> String {
    if ids.is_empty() { String::new() } else { format!(" ({})", ids.join(", ")) }
}

impl BodyKey {
    /// From 256 random bits.
    pub fn new(key: &[u8; 32]) -> Self {
        let hash = digest(&SHA256, &[ID_OF, key].concat());
        let id = hash.as_ref()[..ID_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        let key = UnboundKey::new(&AES_256_GCM, key).expect("a key of AES-256 has 32 bytes");
        Self { id, key: LessSafeKey::new(key) }
    }

    /// 16 hexadecimal digits that tell it from others.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for BodyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyKey({})", self.id)
    }
}

/// Whose body it is.
pub(super) struct Owner {
    pub(super) call_id: Uuid,
    pub(super) created_at: Timestamp,
    pub(super) user_id: Option<Text>,
    pub(super) organization_id: Option<Text>,
}

impl Owner {
    pub(super) fn of(record: &CallRecord) -> Self {
        Self {
            call_id: record.id.0,
            created_at: record.created_at,
            user_id: record.user_id.clone(),
            organization_id: record.organization_id.clone(),
        }
    }
}

impl BodyKeys {
    /// The first of them seals.
    pub const fn new(keys: Vec<BodyKey>) -> Self {
        Self(keys)
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The body as it may be stored; `None` if there is no key, or the system has no random bits.
    pub(super) fn seal(&self, owner: &Owner, side: BodySide, body: Body) -> Option<SealedBody> {
        let key = self.0.first()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let Body { text, bytes, is_cut } = body;
        let mut sealed = Vec::with_capacity(NONCE_LEN + text.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        let mut encrypted = text.into_bytes();
        let belongs = Aad::from(belongs(owner.call_id, side, bytes, is_cut));
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.key.seal_in_place_separate_tag(nonce, belongs, &mut encrypted).ok()?;
        sealed.extend_from_slice(&encrypted);
        sealed.extend_from_slice(tag.as_ref());
        Some(SealedBody {
            call_id: owner.call_id,
            side,
            created_at: owner.created_at,
            user_id: owner.user_id.clone(),
            organization_id: owner.organization_id.clone(),
            key_id: key.id.clone(),
            bytes,
            is_cut,
            sealed,
        })
    }

    /// The text of the body.
    ///
    /// # Errors
    ///
    /// When none of the keys is the one that it was sealed with, or it is not what was sealed.
    pub fn open(&self, body: &SealedBody) -> Result<String, OpenBodyError> {
        let key_id = &body.key_id;
        let key = self.0.iter().find(|key| key.id == *key_id).ok_or_else(|| OpenBodyError::NoKey {
            key_id: key_id.clone(),
            known: self.0.iter().map(|key| key.id.clone()).collect(),
        })?;
        let damaged = || OpenBodyError::Damaged { key_id: key_id.clone() };
        let (nonce, encrypted) = body.sealed.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let belongs = Aad::from(belongs(body.call_id, body.side, body.bytes, body.is_cut));
        let mut opened = encrypted.to_vec();
        let text = key.key.open_in_place(nonce, belongs, &mut opened).map_err(|_| damaged())?;
        String::from_utf8(text.to_vec()).map_err(|_| damaged())
    }
}

fn belongs(call_id: Uuid, side: BodySide, bytes: u64, is_cut: bool) -> Vec<u8> {
    let (side, cut) = (side.as_str().as_bytes()[0], u8::from(is_cut));
    // A store holds it as a signed number.
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).to_be_bytes();
    [FORM, call_id.as_bytes(), &[side, cut], &bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { call_id: Uuid::from_u128(7), created_at: Timestamp(1), user_id: None, organization_id: None }
    }

    fn keys(numbers: &[u8]) -> BodyKeys {
        BodyKeys::new(numbers.iter().map(|number| BodyKey::new(&[*number; 32])).collect())
    }

    fn sealed(keys: &BodyKeys) -> SealedBody {
        let body = Body { text: "the text".to_owned(), bytes: 8, is_cut: false };
        keys.seal(&owner(), BodySide::Request, body).expect("sealed")
    }

    #[test]
    fn the_first_key_seals_and_any_opens() {
        let body = sealed(&keys(&[1, 2]));
        assert_eq!(keys(&[3, 1]).open(&body).as_deref(), Ok("the text"));
        assert!(!body.sealed.windows(4).any(|window| window == b"text"));
        // No two are sealed alike.
        assert_ne!(sealed(&keys(&[1])).sealed, sealed(&keys(&[1])).sealed);
        let error = keys(&[2, 3]).open(&body).expect_err("another key");
        assert!(matches!(&error, OpenBodyError::NoKey { known, .. } if known.len() == 2), "{error}");
        assert!(keys(&[]).seal(&owner(), BodySide::Answer, Body::clone(&empty())).is_none());
    }

    fn empty() -> Body {
        Body { text: String::new(), bytes: 0, is_cut: false }
    }

    #[test]
    fn nothing_of_a_body_can_be_exchanged() {
        let keys = keys(&[1]);
        let whole = sealed(&keys);
        let damage: [fn(&mut SealedBody); 7] = [
            |body| body.call_id = Uuid::from_u128(8),
            |body| body.side = BodySide::Answer,
            |body| body.bytes += 1,
            |body| body.is_cut = true,
            |body| body.sealed[0] ^= 1,
            |body| body.sealed[15] ^= 1,
            |body| body.sealed.truncate(11),
        ];
        for (place, damage) in damage.iter().enumerate() {
            let mut body = whole.clone();
            damage(&mut body);
            assert!(matches!(keys.open(&body), Err(OpenBodyError::Damaged { .. })), "{place}");
        }
    }

    #[test]
    fn a_key_shows_its_id_and_nothing_else() {
        let key = BodyKey::new(&[7; 32]);
        assert_eq!(format!("{key:?}"), format!("BodyKey({})", key.id()));
        assert_eq!(key.id().len(), 16);
    }
}
