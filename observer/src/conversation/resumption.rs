//! What a session still owes to the streams that ended: answers that may come when such a stream is resumed, and what
//! came already and may come again (WIRE.md 1.4, rule 5). Everything in it is bounded.
//!
//! What is owed stays here until it comes, whichever stream brings it: a resumed stream may break off, too, and servers
//! number the events of several streams alike, so that what a client resumes behind does not say for sure which one it
//! goes on with. Within a session an id is never used twice (revisions up to 2025-11-25), so the id does.

use crate::{
    budget::Permit,
    call::Tick,
    correlator::{OpenCall, OpenCalls},
    jsonrpc::IdToken,
    outcome::Outcome,
    tasks::TaskQuestion,
    word::{MatchKind, Origin, Status, StatusDetail},
};
use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
};

/// Streams of one session whose calls may wait. Beyond that the calls of the oldest end.
const MAX_STREAMS: usize = 4096;
/// Answered calls and open questions that are remembered of one session: a stream that is resumed sends the last answers
/// again, not old ones. Beyond that the oldest is forgotten.
const MAX_REMEMBERED: usize = 64;
/// How long an answer can be fetched by resuming its stream, in nanoseconds.
const DETACHED_TTL: u64 = 15 * 60 * 1_000_000_000;

/// What resumed streams may bring.
#[derive(Debug, Default)]
pub(crate) struct Resumption {
    detached: VecDeque<Detached>,
    /// Questions about tasks on streams that ended.
    questions: VecDeque<TaskQuestion>,
    /// Hashes of the ids of the last calls whose answers could come again.
    answered: VecDeque<u64>,
}

/// The calls of a stream that ended before their answers.
#[derive(Debug)]
pub(crate) struct Detached {
    pub(crate) calls: OpenCalls,
    /// Hashes of the ids of the stream's events.
    pub(crate) event_ids: Vec<u64>,
    pub(crate) since: Tick,
    /// For its calls, together with those of all other sessions.
    pub(crate) _permit: Permit,
}

impl Resumption {
    /// Whether any call's answer may still come.
    pub(crate) fn has_calls(&self) -> bool {
        !self.detached.is_empty()
    }

    /// Whether anything is owed.
    pub(crate) fn is_owed(&self) -> bool {
        self.has_calls() || !self.questions.is_empty()
    }

    /// Keeps the calls of a stream that ended. Gives those that had to make room.
    pub(crate) fn detach(&mut self, detached: Detached) -> Vec<OpenCall> {
        let oldest = if self.detached.len() == MAX_STREAMS { self.detached.pop_front() } else { None };
        self.detached.push_back(detached);
        oldest.map(|mut oldest| oldest.calls.take_all()).unwrap_or_default()
    }

    /// The call that an answer on a resumed stream ends. Which stream had emitted the event it was resumed behind only
    /// matters where the answer's id does not say enough.
    pub(crate) fn take_call(&mut self, id: &IdToken, event_id: u64) -> Option<(OpenCall, MatchKind)> {
        let detached = &mut self.detached;
        let taken = detached.iter_mut().find_map(|stream| stream.calls.take_exact(id)).or_else(|| {
            let resumed = detached.iter_mut().rev().find(|stream| stream.event_ids.contains(&event_id))?;
            match id {
                // An answer with another id may be one that came before; only one without any can be meant by its place.
                IdToken::Missing if resumed.calls.len() == 1 => {
                    Some((resumed.calls.take_oldest(), MatchKind::Positional))
                }
                _ => resumed.calls.take_on_channel(id),
            }
        });
        self.forget_empty();
        taken
    }

    /// Keeps the questions about tasks of a stream that ended.
    pub(crate) fn keep_questions(&mut self, questions: Vec<TaskQuestion>) {
        for question in questions {
            push_bounded(&mut self.questions, question);
        }
    }

    /// The question that an answer on a resumed stream belongs to.
    pub(crate) fn take_question(&mut self, id: &IdToken) -> Option<TaskQuestion> {
        let at = self.questions.iter().position(|question| question.id == *id)?;
        self.questions.remove(at)
    }

    /// A stream that could be resumed has brought the answer to a call.
    pub(crate) fn note_answered(&mut self, id: &IdToken) {
        push_bounded(&mut self.answered, hash_id(id));
    }

    /// Whether a call has been answered on a stream that could be resumed.
    pub(crate) fn was_answered(&self, id: &IdToken) -> bool {
        self.answered.contains(&hash_id(id))
    }

    /// Takes the calls that `wanted` says.
    pub(crate) fn take_where(&mut self, mut wanted: impl FnMut(&mut OpenCall) -> bool) -> Vec<OpenCall> {
        let taken =
            self.detached.iter_mut().flat_map(|stream| stream.calls.take_where(&mut wanted)).collect();
        self.forget_empty();
        taken
    }

    /// The calls whose time has run out, with how they end.
    pub(crate) fn take_expired(&mut self, now: Tick) -> Vec<(OpenCall, Outcome)> {
        let mut expired = Vec::new();
        // Streams are kept in the order in which they ended.
        while self.detached.front().is_some_and(|stream| now.nanos_since(stream.since) >= DETACHED_TTL) {
            let calls = self.detached.pop_front().map(|mut stream| stream.calls.take_all());
            let outcome = Outcome::new(Status::UpstreamError, StatusDetail::DetachedExpired, Origin::Client);
            expired.extend(calls.into_iter().flatten().map(|call| (call, outcome.clone())));
        }
        expired
    }

    fn forget_empty(&mut self) {
        self.detached.retain(|stream| !stream.calls.is_empty());
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == MAX_REMEMBERED {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// An id, to be recognised again but not to be kept.
fn hash_id(id: &IdToken) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
