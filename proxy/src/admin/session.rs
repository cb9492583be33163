//! Who has exchanged the token for a cookie. Kept in memory only: a restart ends all sessions. What a cookie holds is
//! random and not the token; here there is only its hash.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Sessions at a time; one more ends the oldest.
const MAX_SESSIONS: usize = 1_000;

/// The open ones, by the hash of what their cookies hold, and when each was begun.
#[derive(Default)]
pub(super) struct Sessions {
    begun: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Sessions {
    /// How long one lasts: a day's work.
    pub(super) const LIFETIME: Duration = Duration::from_secs(12 * 3600);

    fn begun(&self) -> MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one; gives what its cookie holds.
    pub(super) fn open(&self, now: Instant) -> String {
        let mut secret = [0; 32];
        let random = crate::tls::provider().secure_random;
        random.fill(&mut secret).expect("the operating system has randomness, or TLS would not work either");
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let mut begun = self.begun();
        begun.retain(|_, begun| now.duration_since(*begun) < Self::LIFETIME);
        let oldest = begun.iter().min_by_key(|(_, begun)| **begun).map(|(key, _)| *key);
        if let Some(oldest) = oldest.filter(|_| begun.len() >= MAX_SESSIONS) {
            begun.remove(&oldest);
        }
        begun.insert(key_of(&secret), now);
        secret
    }

    /// Whether a cookie is that of an open session.
    pub(super) fn is_open(&self, secret: &str) -> bool {
        self.is_open_at(secret, Instant::now())
    }

    fn is_open_at(&self, secret: &str, now: Instant) -> bool {
        self.begun().get(&key_of(secret)).is_some_and(|begun| now.duration_since(*begun) < Self::LIFETIME)
    }

    /// Ends one.
    pub(super) fn close(&self, secret: &str) {
        self.begun().remove(&key_of(secret));
    }

    /// Ends all.
    pub(super) fn clear(&self) {
        self.begun().clear();
    }
}

fn key_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_closed_or_old() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (one, other) = (sessions.open(now), sessions.open(now));
        assert_ne!(one, other);
        assert!(sessions.is_open(&one) && sessions.is_open(&other) && !sessions.is_open(""));
        sessions.close(&one);
        assert!(!sessions.is_open(&one) && sessions.is_open(&other));
        assert!(!sessions.is_open_at(&other, now + Sessions::LIFETIME));
    }

    #[test]
    fn one_too_many_ends_the_oldest() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let first = sessions.open(start);
        let second = sessions.open(start + Duration::from_millis(1));
        for _ in 2..=MAX_SESSIONS {
            sessions.open(start + Duration::from_millis(2));
        }
        assert!(!sessions.is_open(&first) && sessions.is_open(&second));
        assert_eq!(sessions.begun().len(), MAX_SESSIONS);
    }
}
