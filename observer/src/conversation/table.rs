//! The conversations of one instance, by their key: bounded, and locked in parts. A conversation that leaves the
//! table has ended, and whatever was open in it ends with it.

use super::Conversation;
use crate::{call::Tick, correlator::OpenCall, outcome::Outcome, word::Status};
use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Conversations that one table of one instance remembers.
const MAX_CONVERSATIONS: usize = 16_384;
/// Longer keys are replaced by their hash: a session id may be as long as a header, and many are remembered.
const MAX_KEY: usize = 128;
/// Tables are cut into parts with a lock each, so that cores rarely meet.
const SHARDS: usize = 16;

type Shard = HashMap<Box<[u8]>, Arc<Conversation>>;

/// A bounded table of conversations by their key.
#[derive(Debug)]
pub(crate) struct Conversations {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    len: AtomicUsize,
}

impl Default for Conversations {
    fn default() -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), len: AtomicUsize::new(0) }
    }
}

impl Conversations {
    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The conversation with this key, if there is one. Costs no lock while the table is empty.
    pub(crate) fn get(&self, key: &[u8], now: Tick) -> Option<Arc<Conversation>> {
        if self.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let key = &*bounded(key);
        let found = self.shard(key).get(key).map(Arc::clone)?;
        found.last_seen.store(now.0, Ordering::Relaxed);
        Some(found)
    }

    /// The conversation with this key, made if need be; and the calls of one that had to make room.
    pub(crate) fn get_or_insert(&self, key: &[u8], now: Tick) -> (Arc<Conversation>, Vec<OpenCall>) {
        let short = &*bounded(key);
        self.get_or_insert_in(&mut self.shard(short), (key, short), now)
    }

    /// The same for a legacy conversation with one stream more. Counted before anybody else can look for it: the end of
    /// another stream must not take it away in between.
    pub(crate) fn open_stream(&self, key: &[u8], now: Tick) -> (Arc<Conversation>, Vec<OpenCall>) {
        let short = &*bounded(key);
        let mut shard = self.shard(short);
        let (conversation, forgotten) = self.get_or_insert_in(&mut shard, (key, short), now);
        conversation.open_stream();
        (conversation, forgotten)
    }

    fn get_or_insert_in(
        &self,
        shard: &mut Shard,
        (secret, key): (&[u8], &[u8]),
        now: Tick,
    ) -> (Arc<Conversation>, Vec<OpenCall>) {
        if let Some(found) = shard.get(key) {
            found.last_seen.store(now.0, Ordering::Relaxed);
            return (Arc::clone(found), Vec::new());
        }
        let forgotten = if shard.len() >= MAX_CONVERSATIONS / SHARDS { forget_oldest(shard) } else { None };
        let conversation = Arc::new(Conversation::new(secret, now));
        shard.insert(key.into(), Arc::clone(&conversation));
        if forgotten.is_none() {
            self.len.fetch_add(1, Ordering::Release);
        }
        let calls = forgotten.map(|forgotten| forgotten.take_everything(Status::UpstreamError));
        (conversation, calls.unwrap_or_default())
    }

    /// Forgets a conversation and gives back what was open in it. Calls that are still being asked in it end with
    /// the status.
    pub(crate) fn remove(&self, key: &[u8], status: Status) -> Vec<OpenCall> {
        self.remove_if(key, status, |_| true)
    }

    /// Forgets a legacy conversation unless a stream of it is still there.
    pub(crate) fn remove_without_streams(&self, key: &[u8], status: Status) -> Vec<OpenCall> {
        self.remove_if(key, status, |conversation| !conversation.has_stream())
    }

    fn remove_if(
        &self,
        key: &[u8],
        status: Status,
        wanted: impl FnOnce(&Conversation) -> bool,
    ) -> Vec<OpenCall> {
        let key = &*bounded(key);
        let removed = {
            let mut shard = self.shard(key);
            if shard.get(key).is_some_and(|conversation| wanted(conversation)) {
                shard.remove(key)
            } else {
                None
            }
        };
        let Some(removed) = removed else { return Vec::new() };
        self.len.fetch_sub(1, Ordering::Release);
        removed.take_everything(status)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Calls whose answers are to come on a stream that is there.
    pub(crate) fn open_calls(&self) -> usize {
        self.all().iter().map(|conversation| conversation.state().open.len()).sum()
    }

    /// Whether any call is still open in any of them.
    pub(crate) fn has_open(&self) -> bool {
        self.all().iter().any(|conversation| conversation.has_open())
    }

    /// The calls whose time has run out, with how they end.
    pub(crate) fn take_expired(&self, now: Tick) -> Vec<(OpenCall, Outcome)> {
        self.all().iter().flat_map(|conversation| conversation.take_expired(now)).collect()
    }

    /// Everything that is open, because the proxy stops.
    pub(crate) fn take_everything(&self) -> Vec<OpenCall> {
        let end = |conversation: &Arc<Conversation>| conversation.take_everything(Status::UpstreamError);
        self.all().iter().flat_map(end).collect()
    }

    fn all(&self) -> Vec<Arc<Conversation>> {
        let lock = |shard: &Mutex<Shard>| -> Vec<_> {
            shard.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
        };
        self.shards.iter().flat_map(lock).collect()
    }
}

fn bounded(key: &[u8]) -> Cow<'_, [u8]> {
    if key.len() > MAX_KEY { Cow::Owned(Sha256::digest(key).to_vec()) } else { Cow::Borrowed(key) }
}

fn forget_oldest(shard: &mut Shard) -> Option<Arc<Conversation>> {
    let oldest =
        shard.iter().min_by_key(|(_, conversation)| conversation.last_seen.load(Ordering::Relaxed))?;
    let key = oldest.0.clone();
    shard.remove(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_is_remembered_by_its_hash_alone() {
        let table = Conversations::default();
        let long = vec![b's'; 200_000];
        let (inserted, _) = table.get_or_insert(&long, Tick(0));
        let found = table.get(&long, Tick(1)).expect("remembered");
        assert!(Arc::ptr_eq(&inserted, &found));
        assert!(
            table.shards.iter().all(|shard| shard
                .lock()
                .expect("whole")
                .keys()
                .all(|key| key.len() <= MAX_KEY))
        );
        assert!(table.remove(&long, Status::Cancelled).is_empty());
        assert_eq!(table.len(), 0);
    }
}
