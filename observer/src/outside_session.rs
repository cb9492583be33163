//! Cancellations of clients without a session (WIRE.md 1.3 and 1.4, rule 7): they come on an exchange of their own and
//! name nothing but an id, which many clients use at once.
//!
//! Who cancels is known by credentials and address alone, so a cancellation only counts if exactly one open call could
//! be meant. Up to 2025-11-25 only: afterwards a client cancels by closing the answer's stream. No lock is taken until
//! somebody cancels, and nothing is allocated but once.

use crate::{
    call::{Text, Tick},
    jsonrpc::IdToken,
};
use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
};

/// Counters of open calls. Two calls that share one are taken for two that could be meant: a cancellation is missed then,
/// never attributed to the wrong call.
const COUNTERS: usize = 4096;
/// Cancellations that wait for the end of their call. Beyond that the oldest is forgotten.
const MAX_CANCELS: usize = 256;

/// A client and an id of its, as far as they can be told: the hash of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SoftKey(u64);

/// The open calls without a session, counted, and what was cancelled of them.
#[derive(Debug, Default)]
pub(crate) struct OutsideSession {
    hasher: RandomState,
    open: OnceLock<Box<[AtomicU16]>>,
    cancels: Mutex<VecDeque<SoftCancel>>,
    /// Spares everybody the lock as long as nothing is cancelled.
    pending: AtomicUsize,
}

#[derive(Debug)]
struct SoftCancel {
    key: SoftKey,
    reason: Option<Text>,
    at: Tick,
}

impl OutsideSession {
    /// The key of a client's id.
    pub(crate) fn key(&self, credentials: Option<&[u8]>, client_ip: Option<&str>, id: &IdToken) -> SoftKey {
        SoftKey(self.hasher.hash_one((credentials, client_ip, id)))
    }

    fn counter(&self, key: SoftKey) -> &AtomicU16 {
        let counters = self.open.get_or_init(|| (0..COUNTERS).map(|_| AtomicU16::new(0)).collect());
        &counters[key.0 as usize % COUNTERS]
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SoftCancel>> {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins; it is to be ended by [`Self::end`].
    pub(crate) fn begin(&self, key: SoftKey) {
        self.counter(key).fetch_add(1, Ordering::AcqRel);
    }

    /// A client cancels what exactly one call could be.
    pub(crate) fn note_cancel(&self, key: SoftKey, reason: Option<Text>, at: Tick) {
        if self.counter(key).load(Ordering::Acquire) != 1 {
            return;
        }
        let mut cancels = self.lock();
        if cancels.len() == MAX_CANCELS {
            cancels.pop_front();
        }
        cancels.push_back(SoftCancel { key, reason, at });
        self.pending.store(cancels.len(), Ordering::Release);
    }

    /// Whether a call that was asked at that instant has been cancelled since, and for which reason if one was given.
    pub(crate) fn cancel_of(&self, key: SoftKey, asked_at: Tick) -> Option<Option<Text>> {
        if self.pending.load(Ordering::Acquire) == 0 {
            return None;
        }
        let cancels = self.lock();
        let found = cancels.iter().find(|cancel| cancel.key == key && cancel.at >= asked_at)?;
        Some(found.reason.clone())
    }

    /// A call that was asked at that instant has ended.
    pub(crate) fn end(&self, key: SoftKey, asked_at: Tick) {
        self.counter(key).fetch_sub(1, Ordering::AcqRel);
        if self.pending.load(Ordering::Acquire) > 0 {
            let mut cancels = self.lock();
            cancels.retain(|cancel| cancel.key != key || cancel.at < asked_at);
            self.pending.store(cancels.len(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unclaimed_cancellations_are_bounded_and_go_with_their_call() {
        let outside = OutsideSession::default();
        for n in 0..2 * MAX_CANCELS {
            let key = SoftKey(n as u64);
            outside.begin(key);
            outside.note_cancel(key, None, Tick(1));
        }
        assert_eq!(outside.lock().len(), MAX_CANCELS);
        for n in 0..2 * MAX_CANCELS {
            outside.end(SoftKey(n as u64), Tick(0));
        }
        assert!(outside.lock().is_empty());
        assert_eq!(outside.pending.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_shared_counter_makes_a_cancellation_ambiguous() {
        let outside = OutsideSession::default();
        let (one, other) = (SoftKey(5), SoftKey(5 + COUNTERS as u64));
        outside.begin(one);
        outside.begin(other);
        outside.note_cancel(one, None, Tick(1));
        assert_eq!(outside.cancel_of(one, Tick(0)), None);
        outside.end(other, Tick(0));
        outside.note_cancel(one, None, Tick(2));
        assert_eq!(outside.cancel_of(one, Tick(0)), Some(None));
        assert_eq!(outside.cancel_of(one, Tick(3)), None, "a later call with the same id");
    }
}
