//! The books about the books: where every finished call is, at any moment.
//!
//! ```text
//! finished + recovered = queued + outbox + stored + lost
//! ```
//!
//! Four counters only ever grow: *finished* (before a record enters the queue), *written* (after the SQLite
//! transaction that holds it is durable), *stored* (after PostgreSQL's commit is certain) and *lost*. `queued`
//! and `outbox` are what lies between two of them, so the equation holds in every snapshot by construction; a
//! record that is in the writer's hands counts as queued until it is durable. A snapshot reads the counters
//! from the last stage to the first: each record is counted by an earlier stage before a later one can see it,
//! hence no difference is ever negative.
//!
//! Counts begin with the process. What an earlier process left in the outbox is *recovered*. Without
//! PostgreSQL the SQLite table is the store itself: written is stored, and the outbox only holds what is
//! recovered.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

/// Why a record will never be a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossReason {
    /// It came faster than it could be written, and the queue was full.
    QueueFull,
    /// The disk took nothing until the process had to end.
    DiskError,
    /// PostgreSQL can never take it; it lies in the local table `quarantine`.
    Quarantined,
    /// It was one of more calls in a batch than are recorded of one exchange.
    BatchTooLarge,
}

impl LossReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::QueueFull, Self::DiskError, Self::Quarantined, Self::BatchTooLarge];

    /// The reason as metrics and pages spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::DiskError => "disk_error",
            Self::Quarantined => "quarantined",
            Self::BatchTooLarge => "batch_too_large",
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One snapshot; all numbers are records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accounts {
    /// Handed over by the request path since the process began.
    pub finished: u64,
    /// Found in the outbox when the process began.
    pub recovered: u64,
    /// Finished, neither durable nor lost yet.
    pub queued: u64,
    /// Durable here, not known to be stored yet.
    pub outbox: u64,
    /// In the store.
    pub stored: u64,
    lost: [u64; LossReason::ALL.len()],
}

impl Accounts {
    /// Records lost for the reason.
    pub const fn lost(&self, reason: LossReason) -> u64 {
        self.lost[reason as usize]
    }

    /// Records lost for any reason.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// Whether every call is accounted for. It always is; tests ask.
    pub fn balance(&self) -> bool {
        self.finished + self.recovered == self.queued + self.outbox + self.stored + self.lost_total()
    }
}

/// The counters behind the accounts. Each is written by one stage and read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Whether the SQLite table is the store.
    embedded: bool,
    recovered: u64,
    finished: AtomicU64,
    written: AtomicU64,
    stored: AtomicU64,
    lost: [AtomicU64; LossReason::ALL.len()],
    /// The highest number in the outbox that `written` (or `recovered`) counts.
    written_seq: AtomicI64,
}

impl Ledger {
    /// Books that begin with what is found in the outbox: how many records, and the highest number.
    pub(crate) fn new(embedded: bool, recovered: u64, written_seq: i64) -> Self {
        Self { embedded, recovered, written_seq: AtomicI64::new(written_seq), ..Self::default() }
    }

    pub(crate) fn count_finished(&self) {
        // Ordered by the queue's own push and pop, which follow.
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls that are finished and lost at once.
    pub(crate) fn count_never_queued(&self, reason: LossReason, records: u64) {
        self.finished.fetch_add(records, Ordering::Release);
        self.count_lost(reason, records);
    }

    /// Records became durable; `seq` is the highest of their numbers in the outbox.
    pub(crate) fn count_written(&self, records: u64, seq: i64) {
        self.written.fetch_add(records, Ordering::Release);
        self.written_seq.fetch_max(seq, Ordering::Release);
    }

    /// Nothing beyond this number may be shipped, or it would be counted as stored before it is as written.
    pub(crate) fn written_seq(&self) -> i64 {
        self.written_seq.load(Ordering::Acquire)
    }

    pub(crate) fn count_stored(&self, records: u64) {
        self.stored.fetch_add(records, Ordering::Release);
    }

    pub(crate) fn count_lost(&self, reason: LossReason, records: u64) {
        self.lost[reason as usize].fetch_add(records, Ordering::Release);
    }

    /// Where everything is now.
    pub(crate) fn snapshot(&self) -> Accounts {
        let lost = [0, 1, 2, 3].map(|reason: usize| self.lost[reason].load(Ordering::Acquire));
        let shipped = self.stored.load(Ordering::Acquire);
        let written = self.written.load(Ordering::Acquire);
        let finished = self.finished.load(Ordering::Acquire);
        let [queue_full, disk_error, quarantined, batch_too_large] = lost;
        let (stored, outbox) = if self.embedded {
            (written, self.recovered)
        } else {
            (shipped, (self.recovered + written).saturating_sub(shipped + quarantined))
        };
        let queued = finished.saturating_sub(written + queue_full + disk_error + batch_too_large);
        Accounts { finished, recovered: self.recovered, queued, outbox, stored, lost }
    }
}
