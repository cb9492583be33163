//! What several exchanges of one client have in common: its session, its legacy stream, its cancellations.
//!
//! The only state that is shared between connections, and so between threads. Every lock here is held for a
//! look-up or a move, never across a body or a wait; an exchange that names no session takes none. The tables
//! are bounded: beyond their limit the conversation that was idle longest is forgotten, its open calls ended.

mod resumption;
mod table;

pub(crate) use resumption::{Detached, Resumption};
pub(crate) use table::Conversations;

use crate::{
    call::{Text, Tick},
    correlator::{OpenCall, OpenCalls},
    jsonrpc::IdToken,
    outcome::Outcome,
    word::{MatchKind, Status},
};
use sha2::{Digest, Sha256};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Cancellations remembered per conversation; an older one's call has long ended.
pub(crate) const MAX_CANCELS: usize = 64;
/// Calls that may wait for the stream of one conversation. Beyond that the one that waits longest ends: a server that
/// answers nothing must not fill the memory.
const MAX_WAITING: usize = 4096;
/// How long a cancelled call may still be answered on another exchange, in nanoseconds.
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
    /// What may still come on a resumed stream.
    resumption: Resumption,
    /// Set when it is in no table any more, so that nobody would ever ask for what is put here: how the calls end
    /// that were open in it.
    ended: Option<Status>,
    cancels: VecDeque<Cancel>,
    /// A call or a cancellation has come since they were last compared, or a cancelled call may still be answered.
    is_unswept: bool,
}

/// A client's wish to have a call of its own cancelled.
#[derive(Debug)]
pub(crate) struct Cancel {
    pub(crate) id: IdToken,
    /// Its words, capped and redacted.
    pub(crate) reason: Option<Text>,
    pub(crate) at: Tick,
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

    /// A call whose answer will come on the conversation's stream. Given back if the conversation has ended, with
    /// the status that such a call gets.
    pub(crate) fn push_open(&self, call: OpenCall) -> Result<(), (OpenCall, Status)> {
        let mut state = self.state();
        if let Some(status) = state.ended {
            return Err((call, status));
        }
        state.open.push(call);
        state.is_unswept = true;
        match state.open.len() {
            0..=MAX_WAITING => Ok(()),
            _ => Err((state.open.take_oldest(), Status::UpstreamError)),
        }
    }

    /// The call that an answer on the conversation's stream ends.
    pub(crate) fn take_answered(&self, id: &IdToken) -> Option<(OpenCall, MatchKind)> {
        let mut state = self.state();
        let streams = state.streams;
        let (call, kind) = state.open.take_on_channel(id)?;
        Some((call, if streams > 1 && kind == MatchKind::Exact { MatchKind::Ambiguous } else { kind }))
    }

    /// Something about a call was seen before its answer: the oldest that `is_meant` says is told of it.
    pub(crate) fn tell_open(&self, is_meant: impl Fn(&OpenCall) -> bool, tell: impl FnOnce(&mut OpenCall)) {
        if let Some(call) = self.state().open.iter_mut().find(|call| is_meant(call)) {
            tell(call);
        }
    }

    /// The call with this id, whose end was told beside the channel.
    pub(crate) fn take_exact(&self, id: &IdToken) -> Option<OpenCall> {
        self.state().open.take_exact(id).map(|(call, _)| call)
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

    /// Whether an answer may still come for a call in it.
    fn has_open(&self) -> bool {
        let state = self.state();
        !state.open.is_empty() || state.resumption.has_calls()
    }

    fn has_stream(&self) -> bool {
        self.state().streams > 0
    }

    /// The client wants a call of its own cancelled.
    pub(crate) fn note_cancel(&self, cancel: Cancel) {
        let mut state = self.state();
        if state.cancels.len() == MAX_CANCELS {
            state.cancels.pop_front();
        }
        state.cancels.push_back(cancel);
        state.is_unswept = true;
        self.cancels_seen.store(true, Ordering::Release);
    }

    /// A request with this id comes behind all cancellations so far, so that none of them means it. Since 2026-07-28 a
    /// client may use an id again.
    pub(crate) fn forget_cancel(&self, id: &IdToken) {
        if self.cancels_seen.load(Ordering::Acquire) {
            self.state().cancels.retain(|cancel| cancel.id != *id);
        }
    }

    /// Whether a call has been cancelled, and for which reason if one was given. Costs no lock as long as nothing ever
    /// was.
    pub(crate) fn cancel_of(&self, id: &IdToken) -> Option<Option<Text>> {
        if !self.cancels_seen.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state();
        let cancel = state.cancels.iter().rev().find(|cancel| cancel.id == *id)?;
        Some(cancel.reason.clone())
    }

    /// Keeps the calls of a stream that ended, in case it is resumed. Given back if the conversation has ended, for
    /// a client closes its streams and deletes its session in either order.
    pub(crate) fn detach(&self, mut detached: Detached) -> Result<(), (Vec<OpenCall>, Status)> {
        let mut state = self.state();
        if let Some(status) = state.ended {
            return Err((detached.calls.take_all(), status));
        }
        state.is_unswept = true;
        match state.resumption.detach(detached) {
            forgotten if forgotten.is_empty() => Ok(()),
            forgotten => Err((forgotten, Status::UpstreamError)),
        }
    }

    /// Asks or changes what resumed streams may bring.
    pub(crate) fn with_resumption<T>(&self, what: impl FnOnce(&mut Resumption) -> T) -> T {
        what(&mut self.state().resumption)
    }

    /// The conversation is over: everything that was open in it. Calls that come later end with the status.
    fn take_everything(&self, status: Status) -> Vec<OpenCall> {
        let mut state = self.state();
        state.ended = Some(status);
        let mut calls = state.open.take_all();
        calls.extend(state.resumption.take_where(|_| true));
        calls
    }

    /// The calls whose time has run out, with how they end.
    fn take_expired(&self, now: Tick) -> Vec<(OpenCall, Outcome)> {
        let mut state = self.state();
        let State { open, resumption, cancels, is_unswept, .. } = &mut *state;
        let mut expired = resumption.take_expired(now);
        if !std::mem::take(is_unswept) || (open.is_empty() && !resumption.has_calls()) {
            return expired;
        }
        for Cancel { id, reason, at } in cancels {
            if now.nanos_since(*at) < CANCEL_GRACE {
                *is_unswept = true;
                continue;
            }
            let is_meant = |call: &mut OpenCall| call.id == *id;
            let calls = open.take_where(is_meant).into_iter().chain(resumption.take_where(is_meant));
            expired.extend(calls.map(|mut call| {
                call.record.cancel_requested = true;
                (call, Outcome::cancelled(reason.clone()))
            }));
        }
        expired
    }
}

/// The first 128 bits of the SHA-256 of something that must not be kept, as 32 hexadecimal digits.
pub(crate) fn hash_secret(secret: &[u8]) -> Text {
    let digest = Sha256::digest(secret);
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
