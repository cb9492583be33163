//! Tokens that were found valid a moment ago: a signature takes as long to check as a call takes to carry, and a client
//! sends the same token with every call. Only a hash of a token is kept, for a minute at most, and never longer than the
//! token or its issuer's keys.

use mcpmeter_observer::Caller;
use ring::digest::{SHA256, digest};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long nobody looks again.
const MAX_AGE: Duration = Duration::from_secs(60);
/// So that workers do not wait for each other.
const SHARDS: usize = 16;
/// Tokens of a shard; when there are more, they are all forgotten, and checked again.
const MAX_TOKENS: usize = 1_024;

/// What identifies a token.
pub(super) type Fingerprint = [u8; 32];

/// The valid tokens.
#[derive(Default)]
pub(super) struct Remembered {
    shards: [Mutex<HashMap<Fingerprint, Entry>>; SHARDS],
}

struct Entry {
    caller: Arc<Caller>,
    scopes: Arc<[String]>,
    /// Which reading of the issuer's keys found it valid.
    reading: u64,
    until: Instant,
}

pub(super) fn fingerprint(token: &str) -> Fingerprint {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl Remembered {
    fn shard(&self, token: &Fingerprint) -> &Mutex<HashMap<Fingerprint, Entry>> {
        &self.shards[usize::from(token[0]) % SHARDS]
    }

    /// Whose token it is, and its scopes, if it was valid with these keys.
    pub(super) fn find(
        &self,
        token: &Fingerprint,
        reading: u64,
        now: Instant,
    ) -> Option<(Arc<Caller>, Arc<[String]>)> {
        let shard = self.shard(token).lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.get(token).filter(|entry| entry.reading == reading && now < entry.until)?;
        Some((Arc::clone(&entry.caller), Arc::clone(&entry.scopes)))
    }

    /// Remembers a token that is valid for that long.
    pub(super) fn remember(
        &self,
        token: Fingerprint,
        (caller, scopes): (&Arc<Caller>, &Arc<[String]>),
        reading: u64,
        (now, lasts): (Instant, Duration),
    ) {
        let mut shard = self.shard(&token).lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= MAX_TOKENS {
            shard.clear();
        }
        let (caller, scopes) = (Arc::clone(caller), Arc::clone(scopes));
        shard.insert(token, Entry { caller, scopes, reading, until: now + lasts.min(MAX_AGE) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_token_is_remembered_for_a_while_and_with_the_keys_that_made_it_valid() {
        let (remembered, now, token) = (Remembered::default(), Instant::now(), fingerprint("a.b.c"));
        let known = (&Arc::new(super::super::nobody()), &Arc::from(vec!["x".to_owned()]));
        assert!(remembered.find(&token, 1, now).is_none());
        remembered.remember(token, known, 1, (now, SECOND));
        assert!(remembered.find(&token, 1, now).is_some());
        assert!(remembered.find(&token, 2, now).is_none(), "the issuer has changed its keys");
        assert!(remembered.find(&token, 1, now + SECOND).is_none(), "it has expired");
        assert!(remembered.find(&fingerprint("a.b.d"), 1, now).is_none());
        remembered.remember(token, known, 1, (now, 1_000 * SECOND));
        assert!(remembered.find(&token, 1, now + 59 * SECOND).is_some());
        assert!(remembered.find(&token, 1, now + 60 * SECOND).is_none());
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let (remembered, now) = (Remembered::default(), Instant::now());
        let known = (&Arc::new(super::super::nobody()), &Arc::from(Vec::new()));
        for number in 0..20 * SHARDS * MAX_TOKENS / 16 {
            remembered.remember(fingerprint(&number.to_string()), known, 1, (now, SECOND));
        }
        let kept: usize = remembered.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(kept <= SHARDS * MAX_TOKENS, "{kept}");
    }
}
