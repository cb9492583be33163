//! The secret of a key, as clients send it: `mcpm_` + public id + `_` + secret + checksum, all of letters and digits.
//!
//! ```text
//! mcpm_3fK9aZ02_N5c0pVb7yQ2mXe81LrTdWz4HgKfUs9325XFm
//!      └──────┘ └────────────────────────────┘└────┘
//!      id, 8    secret, 30 (178 bits)         CRC-32, 6
//! ```
//!
//! The prefix is what secret scanners look for (`\bmcpm_[0-9A-Za-z]{8}_[0-9A-Za-z]{36}\b`); the checksum tells them, and
//! us, a secret from what only looks like one, without asking anybody. The id is public: rows of calls carry it as
//! `key_3fK9aZ02`, and it stays when the secret is exchanged.
//!
//! What is stored is the SHA-256 of the whole text. A hash that is slow on purpose makes guessing passwords dear; nobody
//! guesses 178 bits, and every request would pay for it. Nothing here keeps a secret, or shows it unless asked to.

use mcpmeter_journal::SecretHash;
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use std::fmt;

const PREFIX: &str = "mcpm_";
/// What stands before the public id outside of a secret.
const ID_PREFIX: &str = "key_";
/// 62 to the power of 8: of 100,000 keys two have the same id once in 40,000 times, and then one of them is refused.
const ID_CHARS: usize = 8;
/// 178 bits; 160 are the least.
const SECRET_CHARS: usize = 30;
/// 62 to the power of 6 is more than 32 bits.
const CHECKSUM_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The public id of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PublicId([u8; ID_CHARS]);

/// A secret, well-formed: whether it opens anything is for others to say.
pub(crate) struct Secret<'a> {
    text: std::borrow::Cow<'a, str>,
    id: PublicId,
}

/// The system has no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub(crate) struct NoRandomness;

impl PublicId {
    /// Any id, from the system's randomness.
    pub(crate) fn generate() -> Result<Self, NoRandomness> {
        let mut id = [0; ID_CHARS];
        fill(&mut id)?;
        Ok(Self(id))
    }

    /// The id as rows and tables have it (`key_3fK9aZ02`).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let id = text.strip_prefix(ID_PREFIX)?.as_bytes();
        id.iter().all(u8::is_ascii_alphanumeric).then_some(())?;
        id.try_into().ok().map(Self)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("letters and digits")
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ID_PREFIX}{}", self.as_str())
    }
}

impl Secret<'static> {
    /// A new secret for a key with this id. Its randomness is the operating system's (`getrandom(2)` on Linux, by way of
    /// `ring`).
    pub(crate) fn generate(id: PublicId) -> Result<Self, NoRandomness> {
        let mut secret = [0; SECRET_CHARS];
        fill(&mut secret)?;
        let secret = std::str::from_utf8(&secret).expect("letters and digits");
        let body = format!("{PREFIX}{}_{secret}", id.as_str());
        let checksum = checksum(&body);
        let checksum = std::str::from_utf8(&checksum).expect("letters and digits");
        Ok(Self { text: format!("{body}{checksum}").into(), id })
    }
}

impl<'a> Secret<'a> {
    /// Reads a secret; `None` for anything that cannot be one, such as one with a character too many or another one in a
    /// place.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let body = text.get(..text.len().checked_sub(CHECKSUM_CHARS)?)?;
        let (id, secret) = body.strip_prefix(PREFIX)?.split_once('_')?;
        let is_secret =
            secret.len() == SECRET_CHARS && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let id = id.as_bytes();
        let is_id = id.iter().all(u8::is_ascii_alphanumeric);
        let id = PublicId(id.try_into().ok().filter(|_| is_id && is_secret)?);
        (text.as_bytes()[body.len()..] == checksum(body)).then(|| Self { text: text.into(), id })
    }

    /// The public id of the key that it says it is of.
    pub(crate) const fn id(&self) -> PublicId {
        self.id
    }

    /// What is stored of it.
    pub(crate) fn hash(&self) -> SecretHash {
        let hash = digest(&SHA256, self.text.as_bytes());
        SecretHash(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// The text that clients send. Shown once, to whoever has asked for the key.
    pub(crate) fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, …)", self.id)
    }
}

/// Fills the places with letters and digits, each as likely as any other.
fn fill(places: &mut [u8]) -> Result<(), NoRandomness> {
    // The largest multiple of 62 in a byte: what lies above would make the first letters likelier.
    const EVEN: u8 = 248;
    let (random, mut filled) = (SystemRandom::new(), 0);
    while filled < places.len() {
        let mut bytes = [0; 64];
        random.fill(&mut bytes).map_err(|_| NoRandomness)?;
        for byte in bytes.into_iter().filter(|byte| *byte < EVEN).take(places.len() - filled) {
            places[filled] = ALPHABET[usize::from(byte) % ALPHABET.len()];
            filled += 1;
        }
    }
    Ok(())
}

/// CRC-32 of all that stands before it, to the base 62.
fn checksum(body: &str) -> [u8; CHECKSUM_CHARS] {
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut digits = [0; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn secret() -> Secret<'static> {
        Secret::generate(PublicId::generate().unwrap()).unwrap()
    }

    #[test]
    fn a_secret_is_read_back_with_its_id_and_its_hash() {
        let made = secret();
        let read = Secret::parse(made.expose()).unwrap();
        assert_eq!((read.id(), read.hash()), (made.id(), made.hash()));
        assert_eq!(made.expose().len(), 50);
        assert_eq!(PublicId::parse(&made.id().to_string()), Some(made.id()));
        assert_eq!(made.expose()[5..13], made.id().to_string()[4..]);
    }

    #[test]
    fn the_form_is_the_one_that_scanners_were_told() {
        // Made once and written down: what was given out must stay readable.
        let text = "mcpm_3fK9aZ02_N5c0pVb7yQ2mXe81LrTdWz4HgKfUs9325XFm";
        let read = Secret::parse(text).unwrap();
        assert_eq!(read.id().to_string(), "key_3fK9aZ02");
        assert_eq!(read.hash().0[..4], [209, 176, 117, 178]);
    }

    #[test]
    fn every_single_typo_is_seen_without_a_lookup() {
        let made = secret();
        let text = made.expose();
        for place in 0..text.len() {
            for other in ["a", "B", "7", "_", "", "xy", "ä"] {
                let typo = format!("{}{other}{}", &text[..place], &text[place + 1..]);
                assert!(typo == text || Secret::parse(&typo).is_none(), "{typo} for {text}");
            }
        }
        for other in
            ["", "mcpm_", "Bearer", "mcpm__", "ääää", &text[1..], &format!("{text} "), &text.repeat(2)]
        {
            assert!(Secret::parse(other).is_none(), "{other}");
        }
        for other in ["key_", "key_3fK9aZ0", "key_3fK9aZ022", "key_3fK9aZ0_", "3fK9aZ02", "kay_3fK9aZ02"] {
            assert!(PublicId::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn no_two_secrets_are_alike_and_all_characters_occur() {
        let id = PublicId::generate().unwrap();
        let made: HashSet<String> =
            (0..1_000).map(|_| Secret::generate(id).unwrap().expose()[14..44].to_owned()).collect();
        assert_eq!(made.len(), 1_000);
        let mut counts = [0_u32; 128];
        made.iter().flat_map(|secret| secret.bytes()).for_each(|byte| counts[usize::from(byte)] += 1);
        // 30,000 characters, 484 of each: eight standard deviations to either side.
        for byte in ALPHABET {
            let count = counts[usize::from(*byte)];
            assert!((310..=660).contains(&count), "{count} times {}", char::from(*byte));
        }
    }

    #[test]
    fn debugging_never_shows_the_secret() {
        let made = secret();
        let shown = format!("{made:?} {:?}", made.hash());
        assert!(shown.contains(&made.id().to_string()), "{shown}");
        assert!(!shown.contains(&made.expose()[14..20]), "{shown}");
    }
}
