//! An issuer's public keys (RFC 7517), and how they are kept up to date: read at the start, again when they have grown old,
//! and when a token names a key that is not among them, which is how issuers change keys. What was read stays in force
//! while its source is away.

use super::fetch::fetch;
use crate::reload::{Stamp, stamp};
use arc_swap::ArcSwapOption;
use http::{HeaderMap, header};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use mcpmeter_config::Jwks;
use mcpmeter_journal::chain;
use serde::Deserialize;
use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use tracing::{info, warn};

/// For how long keys are taken as they are, unless their server says how long.
const USUAL_AGE: Duration = Duration::from_secs(600);
/// The bounds of what the server may say.
const MIN_AGE: Duration = Duration::from_secs(60);
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// A key that is not known makes us ask again, but not more often: whoever invents keys must not make us a nuisance.
const MIN_PERIOD: Duration = Duration::from_secs(10);
/// How often a file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The most keys of a set; no issuer has that many.
const MAX_KEYS: usize = 64;

/// The keys of one issuer. Shared by all workers.
pub(super) struct KeySet {
    source: Jwks,
    known: ArcSwapOption<Keys>,
    /// Held by the one who reads; with it, when that was last tried.
    reading: Mutex<Option<Instant>>,
}

/// Keys as they were read.
pub(super) struct Keys {
    /// Tells this reading from all others.
    pub(super) reading: u64,
    keys: Vec<Key>,
    read_at: Instant,
    max_age: Duration,
    /// Of a file.
    stamp: Option<Stamp>,
}

struct Key {
    id: Option<String>,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<KeyAlgorithm>,
    curve: Option<EllipticCurve>,
    key: DecodingKey,
}

impl KeySet {
    /// Of a file they are there at once. Where that fails, it is tried again, and told, when they are needed.
    pub(super) fn new(source: &Jwks) -> Self {
        let known = match source {
            Jwks::File(path) => read_file(path, None).ok().flatten().map(Arc::new),
            Jwks::Url { .. } => None,
        };
        Self { source: source.clone(), known: known.into(), reading: Mutex::default() }
    }

    /// The keys that are known, however old: until there are newer ones, they stay in force.
    pub(super) fn any(&self) -> Option<Arc<Keys>> {
        self.known.load_full()
    }

    fn are_old(&self) -> bool {
        self.known.load().as_ref().is_none_or(|keys| keys.read_at.elapsed() >= keys.max_age)
    }

    /// Whether they should be read, and nobody does.
    pub(super) fn is_due(&self) -> bool {
        let period = self.period(self.known.load().is_some());
        let is_idle = |tried: Option<Instant>| tried.is_none_or(|tried| tried.elapsed() >= period);
        self.are_old() && self.reading.try_lock().is_ok_and(|tried| is_idle(*tried))
    }

    /// The keys, read again if nobody has for a while. `known` are those that did not do; the others that come at the same
    /// time wait for the first. Fails only if there have never been any.
    pub(super) async fn read(&self, known: Option<&Arc<Keys>>) -> Option<Arc<Keys>> {
        let mut tried = self.reading.lock().await;
        let current = self.known.load_full();
        let is_news = match (&current, known) {
            (Some(current), Some(known)) => !Arc::ptr_eq(current, known),
            _ => !self.are_old(),
        };
        if is_news || tried.is_some_and(|tried| tried.elapsed() < self.period(current.is_some())) {
            return current;
        }
        *tried = Some(Instant::now());
        match self.read_source(current.as_deref()).await {
            Ok(Some(keys)) => {
                info!(keys = keys.keys.len(), source = %self.source_name(), "the issuer's keys were read");
                self.known.store(Some(Arc::new(keys)));
            }
            Ok(None) => {}
            Err(error) => warn!(
                error = chain(&error), source = %self.source_name(), stay = current.is_some(),
                "cannot read the issuer's keys"
            ),
        }
        self.known.load_full()
    }

    /// How long it takes until the source is asked again.
    fn period(&self, has_keys: bool) -> Duration {
        match self.source {
            Jwks::Url { .. } if has_keys => MIN_PERIOD,
            _ => LOOK,
        }
    }

    /// What the source says now; `None` for a file that has not changed.
    async fn read_source(&self, current: Option<&Keys>) -> io::Result<Option<Keys>> {
        match &self.source {
            Jwks::File(path) => read_file(path, current),
            Jwks::Url { url, ca_file } => {
                let (headers, text) = fetch(url, ca_file.as_deref()).await?;
                Ok(Some(Keys::parse(&text, max_age(&headers), None)?))
            }
        }
    }

    fn source_name(&self) -> String {
        match &self.source {
            Jwks::File(path) => path.display().to_string(),
            Jwks::Url { url, .. } => url.to_string(),
        }
    }
}

fn read_file(path: &Path, current: Option<&Keys>) -> io::Result<Option<Keys>> {
    let stamp = stamp(path);
    if current.is_some_and(|current| current.stamp.is_some() && current.stamp == stamp) {
        return Ok(None);
    }
    Ok(Some(Keys::parse(&std::fs::read(path)?, LOOK, stamp)?))
}

/// Whether there are keys in a file.
pub(super) fn examine(path: &Path) -> io::Result<()> {
    read_file(path, None).map(drop)
}

/// `Cache-Control: max-age` (RFC 9111, 5.2.2.1), within reason.
fn max_age(headers: &HeaderMap) -> Duration {
    let control = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let age = control.into_iter().flat_map(|control| control.split(','));
    let age = age.filter_map(|directive| directive.trim().strip_prefix("max-age=")).next();
    let age = age.and_then(|seconds| seconds.parse().ok()).map_or(USUAL_AGE, Duration::from_secs);
    age.clamp(MIN_AGE, MAX_AGE)
}

/// A set in which a key that we do not understand does no harm.
#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    fn parse(text: &[u8], max_age: Duration, stamp: Option<Stamp>) -> io::Result<Self> {
        let document: Document = serde_json::from_slice(text).map_err(io::Error::other)?;
        let keys: Vec<_> = document.keys.into_iter().filter_map(Key::of).take(MAX_KEYS).collect();
        if keys.is_empty() {
            return Err(io::Error::other("there is no key in it that could check a signature"));
        }
        Ok(Self { reading: fastrand::u64(..), keys, read_at: Instant::now(), max_age, stamp })
    }

    /// The keys that may have made a token: the one that it names, or any for its algorithm if it names none.
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &DecodingKey> {
        let is_named = move |key: &&Key| id.is_none() || key.id.as_deref() == id;
        self.keys.iter().filter(is_named).filter(move |key| key.is_for(algorithm)).map(|key| &key.key)
    }
}

impl Key {
    fn of(value: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let common = &jwk.common;
        if common.public_key_use.as_ref().is_some_and(|of| *of != PublicKeyUse::Signature) {
            return None;
        }
        let curve = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(of) => Some(of.curve.clone()),
            AlgorithmParameters::OctetKeyPair(of) => Some(of.curve.clone()),
            AlgorithmParameters::RSA(_) => None,
            // A shared secret is no public key.
            _ => return None,
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: common.key_id.clone(), algorithm: common.key_algorithm, curve, key })
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        let fits = match algorithm {
            Algorithm::ES256 => self.curve == Some(EllipticCurve::P256),
            Algorithm::ES384 => self.curve == Some(EllipticCurve::P384),
            Algorithm::EdDSA => self.curve == Some(EllipticCurve::Ed25519),
            _ => self.key.family() == AlgorithmFamily::Rsa,
        };
        fits && self.algorithm.is_none_or(|only| only == algorithm.into())
    }
}
