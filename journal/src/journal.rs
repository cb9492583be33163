//! The journal's front: what the request path, the pages and the metrics hold of it.

use crate::{
    accounts::{Accounts, Ledger, LossReason},
    health::{Health, Notice},
    queue::Queue,
};
use mcpmeter_observer::CallRecord;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

/// A handle on the open journal; cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

impl Journal {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Hands a finished record over. Never waits, locks or wakes a thread; if the queue is full the record is
    /// counted as lost. After the writer has been closed a record stays in the queue, and in the accounts.
    pub fn accept(&self, record: Box<CallRecord>) {
        self.shared.queue.accept(record, &self.shared.ledger);
    }

    /// Counts finished calls of which no record was made.
    pub fn lose(&self, reason: LossReason, records: u64) {
        if records > 0 {
            self.shared.ledger.count_never_queued(reason, records);
        }
    }

    /// Where every finished record is at this moment.
    pub fn accounts(&self) -> Accounts {
        self.shared.ledger.snapshot()
    }

    /// Whether the disk and PostgreSQL can be reached.
    pub fn health(&self) -> Health {
        self.shared.notice.read()
    }
}

/// What the request path, the writer and the shipper have in common.
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) ledger: Ledger,
    pub(crate) notice: Notice,
    /// The writer is to finish what is queued and end.
    pub(crate) closing: AtomicBool,
    /// The highest number in the outbox that PostgreSQL certainly has; the writer deletes up to here.
    retirable: AtomicI64,
}

impl Shared {
    pub(crate) const fn new(queue: Queue, ledger: Ledger, notice: Notice) -> Self {
        Self { queue, ledger, notice, closing: AtomicBool::new(false), retirable: AtomicI64::new(0) }
    }

    /// Everything up to this number may be deleted from the outbox.
    pub(crate) fn retire(&self, up_to: i64) {
        self.retirable.fetch_max(up_to, Ordering::Release);
    }

    pub(crate) fn retirable(&self) -> i64 {
        self.retirable.load(Ordering::Acquire)
    }
}
