//! Where the request path leaves a finished record: bounded, and never a reason to wait.
//!
//! Accepting is one counter and one push. It takes no lock, makes no system call and wakes nobody: the writer
//! comes by on its own tick, because whoever wakes a thread pays for it (microseconds instead of nanoseconds).
//! When the queue is full the newest record is dropped and counted; what is already queued is never given up
//! for it.

use crate::accounts::{Ledger, LossReason};
use crossbeam_queue::ArrayQueue;
use mcpmeter_observer::CallRecord;

/// The queue between the request path and the writer.
pub(crate) struct Queue {
    records: ArrayQueue<Box<CallRecord>>,
}

impl Queue {
    /// A queue for at most `records` (at least one) records; the memory for their places is taken at once.
    pub(crate) fn new(records: usize) -> Self {
        Self { records: ArrayQueue::new(records.max(1)) }
    }

    /// Takes the record, or counts it as lost.
    pub(crate) fn accept(&self, record: Box<CallRecord>, ledger: &Ledger) {
        // Counted before it can be taken, so that no snapshot finds more taken than finished.
        ledger.count_finished();
        if self.records.push(record).is_err() {
            ledger.count_lost(LossReason::QueueFull, 1);
        }
    }

    /// Moves the oldest records into `batch` until that holds `limit`.
    #[expect(clippy::vec_box, reason = "the request path boxed them; unboxing would copy every record")]
    pub(crate) fn take_into(&self, batch: &mut Vec<Box<CallRecord>>, limit: usize) {
        while batch.len() < limit {
            let Some(record) = self.records.pop() else { break };
            batch.push(record);
        }
    }

    /// How many records wait.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }
}
