//! What several exchanges of one client have in common: its session, its legacy stream, its cancellations.
//!
//! The only state that is shared between connections, and so between threads. Every lock here is held for a
//! look-up or a move, never across a body or a wait; an exchange that names no session takes none. The tables
//! are bounded: beyond their limit the conversation that was idle longest is forgotten, its open calls ended.

use crate::{
    call::{Text, Tick},
    correlator::{OpenCall, OpenCalls},
    jsonrpc::IdToken,
    word::{MatchKind, StatusDetail},
};
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

/// Conversations that one table of one instance remembers.
const MAX_CONVERSATIONS: usize = 16_384;
/// Tables are cut into parts with a lock each, so that cores rarely meet.
const SHARDS: usize = 16;
/// Cancellations remembered per conversation; an older one's call has long ended.
const MAX_CANCELS: usize = 64;
/// How long an answer can be fetched by resuming its stream, in nanoseconds.
const DETACHED_TTL: u64 = 15 * 60 * 1_000_000_000;
/// How long a cancelled call on a shared channel may still be answered, in nanoseconds.
const CANCEL_GRACE: u64 = 5 * 1_000_000_000;

/// What the opening of a session told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SessionInfo {
    pub(crate) protocol_version: Option<Text>,
    pub(crate) client_name: Option<Text>,
    pub(crate) client_version: Option<Text>,
}

/// One client's conversation with one instance.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// The hash of its key: what a record says instead of the session id.
    pub(crate) hash: Text,
    /// Set when `initialize` is answered.
    pub(crate) info: OnceLock<SessionInfo>,
    cancels_seen: AtomicBool,
    last_seen: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Calls of a legacy client, whose answers come on its stream.
    open: OpenCalls,
    /// An `initialize` of a legacy client on its way: its id, and what it said of the client.
    initialize: Option<(IdToken, SessionInfo)>,
    /// Streams that announced this conversation's endpoint and are still there.
    streams: u32,
    /// Answers that may still come on a resumed stream.
    detached: Vec<Detached>,
    cancels: VecDeque<(IdToken, Tick)>,
}

/// The calls of a stream that ended before their answers.
#[derive(Debug)]
pub(crate) struct Detached {
    pub(crate) calls: OpenCalls,
    /// Hashes of the ids of the stream's events.
    pub(crate) event_ids: Vec<u64>,
    pub(crate) since: Tick,
}

impl Conversation {
    fn new(key: &[u8], now: Tick) -> Self {
        Self {
            hash: hash_secret(key),
            info: OnceLock::new(),
            cancels_seen: AtomicBool::new(false),
            last_seen: AtomicU64::new(now.0),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics; were it ever to, a half-done move is still better than no records.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call whose answer will come on the conversation's stream.
    pub(crate) fn push_open(&self, call: OpenCall) {
        self.state().open.push(call);
    }

    /// The call that an answer on the conversation's stream ends.
    pub(crate) fn take_answered(&self, id: &IdToken) -> Option<(OpenCall, MatchKind)> {
        let mut state = self.state();
        let streams = state.streams;
        let (call, kind) = state.open.take_on_channel(id)?;
        Some((call, if streams > 1 && kind == MatchKind::Exact { MatchKind::Ambiguous } else { kind }))
    }

    /// The calls that a failed POST had asked for.
    pub(crate) fn take_where(&self, wanted: impl FnMut(&mut OpenCall) -> bool) -> Vec<OpenCall> {
        self.state().open.take_where(wanted)
    }

    /// Notes a legacy client's `initialize`, whose answer will come on the stream.
    pub(crate) fn begin_initialize(&self, id: IdToken, client: SessionInfo) {
        self.state().initialize = Some((id, client));
    }

    /// The legacy client's `initialize` that an answer belongs to.
    pub(crate) fn take_initialize(&self, id: &IdToken) -> Option<SessionInfo> {
        self.state().initialize.take_if(|(open, _)| open == id).map(|(_, client)| client)
    }

    pub(crate) fn open_stream(&self) {
        self.state().streams += 1;
    }

    /// A stream has closed; with the last one go the calls that nobody can answer any more.
    pub(crate) fn close_stream(&self) -> Vec<OpenCall> {
        let mut state = self.state();
        state.streams = state.streams.saturating_sub(1);
        if state.streams == 0 { state.open.take_all() } else { Vec::new() }
    }

    fn has_stream(&self) -> bool {
        self.state().streams > 0
    }

    /// The client wants a call of its own cancelled.
    pub(crate) fn note_cancel(&self, id: IdToken, now: Tick) {
        let mut state = self.state();
        if state.cancels.len() == MAX_CANCELS {
            state.cancels.pop_front();
        }
        state.cancels.push_back((id, now));
        self.cancels_seen.store(true, Ordering::Release);
    }

    /// Whether a call has been cancelled. Costs no lock as long as nothing ever was.
    pub(crate) fn is_cancelled(&self, id: &IdToken) -> bool {
        self.cancels_seen.load(Ordering::Acquire) && self.state().cancels.iter().any(|(open, _)| open == id)
    }

    /// Keeps the calls of a stream that ended, in case it is resumed.
    pub(crate) fn detach(&self, detached: Detached) {
        self.state().detached.push(detached);
    }

    /// The calls of the newest ended stream that emitted the event, or else of all ended ones (rule 5).
    pub(crate) fn adopt(&self, event_id: u64) -> OpenCalls {
        let mut state = self.state();
        let newest = state.detached.iter().rposition(|detached| detached.event_ids.contains(&event_id));
        if let Some(at) = newest {
            return state.detached.remove(at).calls;
        }
        let mut all = OpenCalls::default();
        for detached in state.detached.drain(..) {
            all.append(detached.calls);
        }
        all
    }

    /// The conversation is over: everything that was open in it.
    fn take_everything(&self) -> Vec<OpenCall> {
        let mut state = self.state();
        let mut calls = state.open.take_all();
        calls.extend(state.detached.drain(..).flat_map(|mut detached| detached.calls.take_all()));
        calls
    }

    /// The calls whose time has run out, with the reason.
    fn take_expired(&self, now: Tick) -> Vec<(OpenCall, StatusDetail)> {
        let mut state = self.state();
        let is_old = |since: Tick, limit: u64| now.0.saturating_sub(since.0) >= limit;
        let mut expired = Vec::new();
        for mut detached in state.detached.extract_if(.., |detached| is_old(detached.since, DETACHED_TTL)) {
            expired.extend(
                detached.calls.take_all().into_iter().map(|call| (call, StatusDetail::DetachedExpired)),
            );
        }
        let State { open, cancels, .. } = &mut *state;
        let cancelled = |call: &mut OpenCall| {
            cancels.iter().any(|(id, since)| *id == call.id && is_old(*since, CANCEL_GRACE))
        };
        expired
            .extend(open.take_where(cancelled).into_iter().map(|call| (call, StatusDetail::CancelNotified)));
        expired
    }
}

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
        let found = self.shard(key).get(key).map(Arc::clone)?;
        found.last_seen.store(now.0, Ordering::Relaxed);
        Some(found)
    }

    /// The conversation with this key, made if need be; and the calls of one that had to make room.
    pub(crate) fn get_or_insert(&self, key: &[u8], now: Tick) -> (Arc<Conversation>, Vec<OpenCall>) {
        let mut shard = self.shard(key);
        if let Some(found) = shard.get(key) {
            found.last_seen.store(now.0, Ordering::Relaxed);
            return (Arc::clone(found), Vec::new());
        }
        let forgotten =
            if shard.len() >= MAX_CONVERSATIONS / SHARDS { forget_oldest(&mut shard) } else { None };
        let conversation = Arc::new(Conversation::new(key, now));
        shard.insert(key.into(), Arc::clone(&conversation));
        if forgotten.is_none() {
            self.len.fetch_add(1, Ordering::Release);
        }
        (conversation, forgotten.map(|forgotten| forgotten.take_everything()).unwrap_or_default())
    }

    /// Forgets a conversation and gives back what was open in it.
    pub(crate) fn remove(&self, key: &[u8]) -> Vec<OpenCall> {
        let removed = self.shard(key).remove(key);
        let Some(removed) = removed else { return Vec::new() };
        self.len.fetch_sub(1, Ordering::Release);
        removed.take_everything()
    }

    /// Forgets a legacy conversation unless a stream of it is still there.
    pub(crate) fn remove_without_streams(&self, key: &[u8]) -> Vec<OpenCall> {
        let has_stream = self.shard(key).get(key).is_some_and(|conversation| conversation.has_stream());
        if has_stream { Vec::new() } else { self.remove(key) }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Calls whose answers are to come on a stream that is there.
    pub(crate) fn open_calls(&self) -> usize {
        self.all().iter().map(|conversation| conversation.state().open.len()).sum()
    }

    /// The calls whose time has run out.
    pub(crate) fn take_expired(&self, now: Tick) -> Vec<(OpenCall, StatusDetail)> {
        self.all().iter().flat_map(|conversation| conversation.take_expired(now)).collect()
    }

    /// Everything that is open, because the proxy stops.
    pub(crate) fn take_everything(&self) -> Vec<OpenCall> {
        self.all().iter().flat_map(|conversation| conversation.take_everything()).collect()
    }

    fn all(&self) -> Vec<Arc<Conversation>> {
        let lock = |shard: &Mutex<Shard>| -> Vec<_> {
            shard.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
        };
        self.shards.iter().flat_map(lock).collect()
    }
}

fn forget_oldest(shard: &mut Shard) -> Option<Arc<Conversation>> {
    let oldest =
        shard.iter().min_by_key(|(_, conversation)| conversation.last_seen.load(Ordering::Relaxed))?;
    let key = oldest.0.clone();
    shard.remove(&key)
}

/// The first 128 bits of the SHA-256 of something that must not be kept, as 32 hexadecimal digits.
pub(crate) fn hash_secret(secret: &[u8]) -> Text {
    let digest = Sha256::digest(secret);
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
