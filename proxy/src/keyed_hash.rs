//! Keyed hashes: the same value gives the same 22 characters, and nobody who has not the key can tell which value that
//! was, not even by trying all of them. Pure: whoever asks says what time it is. Never shows a key.
//!
//! The key that is configured is not used itself: one is derived from it for every purpose (HMAC-SHA-256), so that a
//! hash of one purpose says nothing about one of another, and for every period of time where hashes are to change. Of
//! two periods nobody can tell which hashes belong together; all proxies with the same key agree all the same.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{civil::Date, tz::TimeZone};
use mcpmeter_config::{HashRotation, Secret};
use mcpmeter_observer::Timestamp;
use sha2::Sha256;
use std::ops::Range;

/// Bytes of the hash that are kept: 128 bits, or 22 characters. No two of 2⁶⁴ values have the same.
const KEPT_BYTES: usize = 16;

/// Hashes values of one purpose.
#[derive(Clone)]
pub(crate) struct KeyedHash(Hmac<Sha256>);

/// A stretch of time in which a hash stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Period {
    /// `2026-03-01`, `2026-03`, or nothing where hashes never change.
    name: String,
    /// The instants that belong to it.
    instants: Range<Timestamp>,
}

impl KeyedHash {
    /// Hashes that stay the same as long as the key does.
    pub(crate) fn lasting(key: &Secret, purpose: &str) -> Self {
        Self::derive(key, purpose, "")
    }

    /// Hashes that are others in every period.
    pub(crate) fn of_period(key: &Secret, purpose: &str, period: &Period) -> Self {
        Self::derive(key, purpose, &period.name)
    }

    fn derive(key: &Secret, purpose: &str, period: &str) -> Self {
        let mut derivation = with_key(key.expose().as_bytes());
        // NUL is in neither, so that no two pairs are spelled alike.
        for part in ["mcpmeter", "\0", purpose, "\0", period] {
            derivation.update(part.as_bytes());
        }
        Self(with_key(&derivation.finalize().into_bytes()))
    }

    /// The hash: 22 characters of `A-Z a-z 0-9 - _`.
    pub(crate) fn hash(&self, value: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(value);
        URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..KEPT_BYTES])
    }
}

fn with_key(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

impl Period {
    /// The period of an instant.
    pub(crate) fn of(rotation: HashRotation, at: Timestamp) -> Self {
        let date = date_of(at);
        let (name, first, next) = match rotation {
            HashRotation::Never => (String::new(), None, None),
            HashRotation::Day => (date.to_string(), Some(date), date.tomorrow().ok()),
            HashRotation::Month => {
                let last = date.last_of_month();
                (date.strftime("%Y-%m").to_string(), Some(date.first_of_month()), last.tomorrow().ok())
            }
        };
        let from = first.and_then(instant_of).unwrap_or(Timestamp(i64::MIN));
        Self { name, instants: from..next.and_then(instant_of).unwrap_or(Timestamp(i64::MAX)) }
    }

    /// Whether the instant belongs to it.
    pub(crate) fn contains(&self, at: Timestamp) -> bool {
        self.instants.contains(&at)
    }
}

/// The day in UTC. A clock that is beyond all years is on the last day.
fn date_of(at: Timestamp) -> Date {
    let at = jiff::Timestamp::from_microsecond(at.0).unwrap_or(jiff::Timestamp::MAX);
    at.to_zoned(TimeZone::UTC).date()
}

/// When the day begins.
fn instant_of(date: Date) -> Option<Timestamp> {
    Some(Timestamp(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn key() -> Secret {
        Secret::new("0123456789abcdef0123456789abcdef")
    }

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect("an instant").as_microsecond())
    }

    #[test]
    fn a_hash_is_what_it_was_in_every_version() {
        // Computed with Python's hmac module: stored rows must mean the same for ever.
        let lasting = KeyedHash::lasting(&key(), "test").hash(b"value");
        assert_eq!(lasting, "xX_BSTgmfQ5Lk9NJjXjELQ");
        let period = Period::of(HashRotation::Day, at("2026-03-01T23:59:59.999999Z"));
        assert_eq!(KeyedHash::of_period(&key(), "test", &period).hash(b"value"), "v5GKjb8vBeZgpgN8ceQkAg");
        let period = Period::of(HashRotation::Month, at("2026-03-01T00:00:00Z"));
        assert_eq!(KeyedHash::of_period(&key(), "test", &period).hash(b"value"), "Mf89Cx2Cdz8aIbW9cln67Q");
    }

    #[test]
    fn no_two_keys_purposes_periods_or_values_share_a_hash() {
        let mut seen = HashSet::new();
        for secret in ["0123456789abcdef", "0123456789abcdeg"].map(Secret::new) {
            for purpose in ["a", "b", ""] {
                let periods = ["2026-03-01", "2026-03-02", "2026-04-01"].map(|day| {
                    let at = at(&format!("{day}T12:00:00Z"));
                    [HashRotation::Day, HashRotation::Month].map(|rotation| Period::of(rotation, at))
                });
                let mut names = HashSet::new();
                for period in periods.iter().flatten().filter(|period| names.insert(period.name.clone())) {
                    for value in ["", "x", "y"] {
                        let hash = KeyedHash::of_period(&secret, purpose, period).hash(value.as_bytes());
                        assert!(hash.len() == 22 && seen.insert(hash), "{purpose} {period:?} {value}");
                    }
                }
                assert!(seen.insert(KeyedHash::lasting(&secret, purpose).hash(b"x")));
            }
        }
        assert_eq!(seen.len(), 2 * 3 * (5 * 3 + 1));
    }

    #[test]
    fn a_period_begins_and_ends_at_midnight_of_utc() {
        for (rotation, inside, before, after) in [
            (
                HashRotation::Day,
                "2026-03-01T12:00:00Z",
                "2026-02-28T23:59:59.999999Z",
                "2026-03-02T00:00:00Z",
            ),
            (
                HashRotation::Month,
                "2028-02-29T12:00:00Z",
                "2028-01-31T23:59:59.999999Z",
                "2028-03-01T00:00:00Z",
            ),
            (
                HashRotation::Month,
                "2026-12-31T23:59:59Z",
                "2026-11-30T23:59:59.999999Z",
                "2027-01-01T00:00:00Z",
            ),
        ] {
            let period = Period::of(rotation, at(inside));
            assert!(
                period.contains(at(inside)) && !period.contains(at(before)) && !period.contains(at(after))
            );
            assert_eq!(period, Period::of(rotation, Timestamp(period.instants.start.0)));
            assert_eq!(period, Period::of(rotation, Timestamp(period.instants.end.0 - 1)));
            assert_ne!(period.name, Period::of(rotation, at(after)).name);
        }
        let always = Period::of(HashRotation::Never, at("2026-03-01T12:00:00Z"));
        assert!(always.contains(at("1970-01-01T00:00:00Z")) && always.contains(at("9999-12-30T00:00:00Z")));
        for extreme in [i64::MIN, i64::MAX - 1, 0] {
            for rotation in [HashRotation::Day, HashRotation::Month, HashRotation::Never] {
                Period::of(rotation, Timestamp(extreme));
            }
        }
    }
}
