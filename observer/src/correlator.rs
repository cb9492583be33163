//! Which request an answer belongs to (WIRE.md 1.4).
//!
//! On Streamable HTTP the answer to a POST belongs to that POST, so ids only decide inside a batch; on a
//! channel that many requests share they decide alone. An answer whose request cannot be told is left alone:
//! a wrong row is worse than a missing match.

use crate::{
    call::{CallRecord, Tick},
    jsonrpc::IdToken,
    outside_session::SoftKey,
    word::MatchKind,
};

/// A call whose outcome is not known yet.
#[derive(Debug)]
pub(crate) struct OpenCall {
    pub(crate) record: Box<CallRecord>,
    pub(crate) id: IdToken,
    /// When the head of its exchange was read: the monotonic twin of `record.created_at`.
    pub(crate) began_at: Tick,
    /// When its request was complete.
    pub(crate) asked_at: Tick,
    /// What progress of it is told by, where one channel carries the progress of many.
    pub(crate) progress_token: IdToken,
    /// What a cancellation would know it by, where there is no session.
    pub(crate) soft_key: Option<SoftKey>,
}

/// The calls in flight on one exchange or one channel, oldest first.
#[derive(Debug, Default)]
pub(crate) struct OpenCalls(Vec<OpenCall>);

impl OpenCalls {
    pub(crate) fn push(&mut self, call: OpenCall) {
        self.0.push(call);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut OpenCall> {
        self.0.iter_mut()
    }

    /// Takes the one that waits longest. There must be one.
    pub(crate) fn take_oldest(&mut self) -> OpenCall {
        self.0.remove(0)
    }

    /// Takes all of them, oldest first.
    pub(crate) fn take_all(&mut self) -> Vec<OpenCall> {
        std::mem::take(&mut self.0)
    }

    /// Takes those that `wanted` says.
    pub(crate) fn take_where(&mut self, wanted: impl FnMut(&mut OpenCall) -> bool) -> Vec<OpenCall> {
        self.0.extract_if(.., wanted).collect()
    }

    /// Rules 2 and 3: the call that an answer on the requests' own exchange ends. `requests` is how many
    /// requests of any method the exchange carried.
    pub(crate) fn take_on_exchange(&mut self, id: &IdToken, requests: u32) -> Option<(OpenCall, MatchKind)> {
        if let Some(found) = self.take_exact(id) {
            return Some(found);
        }
        if requests == 1 && self.0.len() == 1 {
            return Some((self.0.remove(0), MatchKind::Positional));
        }
        self.take_loose(id)
    }

    /// Rule 4: the call that an answer on a shared channel ends.
    pub(crate) fn take_on_channel(&mut self, id: &IdToken) -> Option<(OpenCall, MatchKind)> {
        self.take_exact(id).or_else(|| self.take_loose(id))
    }

    /// The oldest call with this id; two with one id are first in, first out (rule 6).
    pub(crate) fn take_exact(&mut self, id: &IdToken) -> Option<(OpenCall, MatchKind)> {
        if *id == IdToken::Missing {
            return None;
        }
        let first = self.0.iter().position(|call| call.id == *id)?;
        let again = self.0[first + 1..].iter().any(|call| call.id == *id);
        Some((self.0.remove(first), if again { MatchKind::Fifo } else { MatchKind::Exact }))
    }

    /// The only call whose id is the same but for its type.
    fn take_loose(&mut self, id: &IdToken) -> Option<(OpenCall, MatchKind)> {
        let mut candidates = self.0.iter().enumerate().filter(|(_, call)| call.id.loosely_equals(id));
        let (at, _) = candidates.next().filter(|_| *id != IdToken::Missing)?;
        if candidates.next().is_some() {
            return None;
        }
        Some((self.0.remove(at), MatchKind::Loose))
    }
}
