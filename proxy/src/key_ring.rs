//! What a proxy knows of the keys: who a secret belongs to, without a lock, a query or an allocation per request.
//!
//! A key is found by the public id in its secret, and the secret's whole hash is compared in constant time: how long an
//! answer takes says nothing about a hash, and ids are no secret. Until the keys have been read once nobody is told that
//! his key is wrong ([`KeyRefusal::Unready`]); a store that is away later leaves the keys that are known.
//!
//! `current` reads what has changed and writes back when keys were used. Nothing here decides what a key may be used for.

mod current;

use crate::api_key::{PublicId, Secret};
use arc_swap::ArcSwapOption;
use mcpmeter_config::{Pattern, StoreUrl};
use mcpmeter_journal::{ApiKey, BadPostgresUrl, KeyStore, PreviousSecret, TlsError};
use mcpmeter_observer::{Text, Timestamp};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};
use subtle::ConstantTimeEq;
use tokio::{sync::watch, time::sleep};

/// A use is noted again this much later, in microseconds: a key that many use at a time is not written to by all of them.
const NOTED_AGAIN_US: i64 = 1_000_000;
/// How long nobody looks whether a key has ended that nothing is said about.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// No use is known.
const NEVER: i64 = i64::MIN;

/// The keys of one proxy.
#[derive(Debug, Default)]
pub(crate) struct KeyRing {
    /// Absent until they have been read once.
    keys: ArcSwapOption<Keys>,
    /// Tells those whose streams hang on a key that some key has changed.
    changed: watch::Sender<()>,
}

type Keys = HashMap<PublicId, Arc<KnownKey>>;

/// A key that is known, and when it was used here.
#[derive(Debug)]
pub(crate) struct KnownKey {
    /// As the store has it; its `last_used_at` is as old as its last change.
    pub(crate) key: ApiKey,
    /// The routes it is good for; absent for all.
    pub(crate) routes: Option<Box<[Pattern]>>,
    /// The tools it may call, in the same way.
    pub(crate) tools: Option<Box<[Pattern]>>,
    /// When it was last used here, in microseconds since 1970.
    used_at: AtomicI64,
    /// What of that the store has been told.
    told_at: AtomicI64,
}

/// Why a key is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyRefusal {
    /// It is no key of ours: it has another form, or a typo.
    Malformed,
    /// There is no such key, or it has another secret.
    Unknown,
    /// The key has expired, or has another secret by now, and the time of grace is over.
    Expired,
    /// The key was revoked.
    Revoked,
    /// The keys have not been read yet: nobody can tell. To be answered with 503, never with 401.
    Unready,
}

/// Why the keys' store cannot be used, whether or not it is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadStore {
    /// The database's URL.
    #[error(transparent)]
    Url(#[from] BadPostgresUrl),
    /// TLS towards it.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The keys in the store of the configuration. Connects to nothing yet.
pub(crate) fn key_store(url: &StoreUrl) -> Result<KeyStore, BadStore> {
    match url {
        StoreUrl::Sqlite(file) => Ok(KeyStore::sqlite(file)),
        StoreUrl::Postgres(url) => Ok(KeyStore::postgres(&url.expose().parse()?)?),
    }
}

impl KeyRing {
    /// The key that this secret opens now; notes that it was used.
    pub(crate) fn find(&self, presented: &str, now: Timestamp) -> Result<Arc<KnownKey>, KeyRefusal> {
        let secret = Secret::parse(presented).ok_or(KeyRefusal::Malformed)?;
        let keys = self.keys.load();
        let keys = keys.as_ref().ok_or(KeyRefusal::Unready)?;
        let known = keys.get(&secret.id()).ok_or(KeyRefusal::Unknown)?;
        known.check(&secret, now)?;
        known.note_use(now);
        Ok(Arc::clone(known))
    }

    /// Returns when a key that was good is so no more. `now` is the wall clock; one that is set forth meanwhile is noticed
    /// within [`LONGEST_WAIT`].
    pub(crate) async fn ended(&self, key: &KnownKey, now: impl Fn() -> Timestamp) -> KeyRefusal {
        let mut changed = self.changed.subscribe();
        loop {
            let until = match self.standing(key, now()) {
                Ok(until) => until,
                Err(refusal) => return refusal,
            };
            let left = until.map(|until| until.0.saturating_sub(now().0).max(0).unsigned_abs());
            let wait = left.map_or(LONGEST_WAIT, |us| Duration::from_micros(us).min(LONGEST_WAIT));
            tokio::select! {
                // Without a sender there is nobody left to tell anything.
                Ok(()) = changed.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Until when a key is good that was, as far as is known; `None` for ever.
    fn standing(&self, was: &KnownKey, now: Timestamp) -> Result<Option<Timestamp>, KeyRefusal> {
        let keys = self.keys.load();
        let current = PublicId::parse(&was.key.id).and_then(|id| keys.as_ref()?.get(&id));
        let key = &current.ok_or(KeyRefusal::Unknown)?.key;
        if key.revoked_at.is_some() {
            return Err(KeyRefusal::Revoked);
        }
        // Exchanged since: the time of grace holds for streams, too.
        let exchanged = key.hash.0 != was.key.hash.0;
        let grace = key.previous.as_ref().filter(|previous| previous.hash.0 == was.key.hash.0);
        let end = match (exchanged, grace) {
            (true, None) => return Err(KeyRefusal::Expired),
            (true, Some(previous)) => Some(previous.valid_until),
            (false, _) => None,
        };
        let end = end.into_iter().chain(key.expires_at).min();
        if end.is_some_and(|end| end <= now) { Err(KeyRefusal::Expired) } else { Ok(end) }
    }

    /// Whether the keys have been read once.
    pub(crate) fn is_ready(&self) -> bool {
        self.keys.load().is_some()
    }

    /// The keys that are known, to be changed and then given to [`Self::know`].
    fn known(&self) -> Keys {
        self.keys.load().as_deref().cloned().unwrap_or_default()
    }

    /// Puts keys as they are now among others.
    fn add(&self, keys: &mut Keys, changed: Vec<ApiKey>) {
        let known = self.keys.load();
        for key in changed {
            // What has another id was not made by this program, and no secret can lead to it.
            let Some(id) = PublicId::parse(&key.id) else { continue };
            let former = known.as_ref().and_then(|known| known.get(&id));
            keys.insert(id, Arc::new(KnownKey::new(key, former.map(|former| &**former))));
        }
    }

    /// Knows these keys from now on, and no others.
    fn know(&self, keys: Keys) {
        self.keys.store(Some(Arc::new(keys)));
        self.changed.send_replace(());
    }

    /// The uses that the store has not been told yet; from now on it has.
    fn take_uses(&self) -> Vec<(Text, Timestamp)> {
        let keys = self.keys.load();
        let Some(keys) = keys.as_ref() else { return Vec::new() };
        keys.values().filter_map(|known| known.take_use()).collect()
    }

    /// Uses that the store could not be told after all.
    fn give_back(&self, uses: &[(Text, Timestamp)]) {
        let keys = self.keys.load();
        let Some(keys) = keys.as_ref() else { return };
        let ids = uses.iter().filter_map(|(id, _)| PublicId::parse(id));
        ids.filter_map(|id| keys.get(&id)).for_each(|known| known.told_at.store(NEVER, Relaxed));
    }
}

impl KnownKey {
    /// A key as it is now, with what is known of its uses.
    fn new(key: ApiKey, former: Option<&Self>) -> Self {
        // A use that is noted in this very moment is noted in the former one only; the next one comes.
        let carry = |at: fn(&Self) -> &AtomicI64| former.map_or(NEVER, |former| at(former).load(Relaxed));
        let (used_at, told_at) = (carry(|known| &known.used_at), carry(|known| &known.told_at));
        let patterns = |texts: &[Text]| {
            let patterns = texts.iter().map(|text| Pattern::new(&**text)).collect();
            (!texts.is_empty()).then_some(patterns)
        };
        let (routes, tools) = (patterns(&key.routes), patterns(&key.tools));
        Self { key, routes, tools, used_at: used_at.into(), told_at: told_at.into() }
    }

    fn check(&self, secret: &Secret<'_>, now: Timestamp) -> Result<(), KeyRefusal> {
        let hash = secret.hash().0;
        // Both are compared, whatever the first says.
        let is_present = bool::from(hash.ct_eq(&self.key.hash.0));
        let is_previous =
            self.key.previous.as_ref().is_some_and(|previous| hash.ct_eq(&previous.hash.0).into());
        let is_over = |previous: &PreviousSecret| previous.valid_until <= now;
        match &self.key {
            _ if !is_present && !is_previous => Err(KeyRefusal::Unknown),
            // From here on the caller has, or had, the key: he may be told.
            ApiKey { revoked_at: Some(_), .. } => Err(KeyRefusal::Revoked),
            ApiKey { expires_at: Some(at), .. } if *at <= now => Err(KeyRefusal::Expired),
            ApiKey { previous: Some(previous), .. } if !is_present && is_over(previous) => {
                Err(KeyRefusal::Expired)
            }
            _ => Ok(()),
        }
    }

    fn note_use(&self, now: Timestamp) {
        if now.0.saturating_sub(self.used_at.load(Relaxed)) >= NOTED_AGAIN_US {
            self.used_at.store(now.0, Relaxed);
        }
    }

    fn take_use(&self) -> Option<(Text, Timestamp)> {
        let used_at = self.used_at.load(Relaxed);
        let is_new = used_at > self.told_at.load(Relaxed);
        is_new.then(|| {
            self.told_at.store(used_at, Relaxed);
            (Arc::clone(&self.key.id), Timestamp(used_at))
        })
    }
}

#[cfg(test)]
mod tests;
