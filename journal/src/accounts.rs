//! The books about the books: where every finished call is, at any moment.
//!
//! ```text
//! finished + recovered = queued + outbox + stored + lost
//! ```
//!
//! Four counters only ever grow: *finished* (before a record enters the queue), *written* (after the SQLite
//! transaction that holds it is durable), *stored* (after PostgreSQL's commit is certain) and *lost* (apart for
//! what was lost before it was written, and after). `queued` and `outbox` are what lies between two of them, so
//! the equation holds in every snapshot by construction; a record that is in the writer's hands counts as
//! queued until it is durable. A snapshot reads the counters from the last stage to the first: each record is
//! counted by an earlier stage before a later one can see it, hence no difference is ever negative.
//!
//! Counts begin with the process. What an earlier process left in the queue and in the outbox is *recovered*.
//! Without PostgreSQL the SQLite table is the store itself: written is stored, and the outbox only holds what
//! an earlier configuration left there.

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
    /// PostgreSQL was away for so long that the outbox has reached its quota.
    OutboxFull,
    /// It is larger than the queue can hold; the observer's caps keep records far below that.
    Oversize,
    /// It lay in a part of the file, or of the queue, that was found damaged.
    Corrupt,
}

impl LossReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::DiskError,
        Self::Quarantined,
        Self::BatchTooLarge,
        Self::OutboxFull,
        Self::Oversize,
        Self::Corrupt,
    ];

    /// The reason as metrics and pages spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::DiskError => "disk_error",
            Self::Quarantined => "quarantined",
            Self::BatchTooLarge => "batch_too_large",
            Self::OutboxFull => "outbox_full",
            Self::Oversize => "oversize",
            Self::Corrupt => "corrupt",
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
    /// Found in the queue and in the outbox of an earlier process when this one began.
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

/// What the books begin with: how an earlier process left things.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Opening {
    /// Records in the outbox, also those that were moved there from the queue.
    pub(crate) outbox: u64,
    /// Records that were moved from the queue into the table that is the store.
    pub(crate) stored: u64,
    /// Records that were found damaged.
    pub(crate) corrupt: u64,
    /// The highest number in the outbox.
    pub(crate) seq: i64,
}

/// The counters behind the accounts. Each is written by one stage and read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Whether the SQLite table is the store.
    embedded: bool,
    opening: Opening,
    finished: AtomicU64,
    written: AtomicU64,
    stored: AtomicU64,
    /// Lost before they were written, and after.
    lost_early: [AtomicU64; LossReason::ALL.len()],
    lost_late: [AtomicU64; LossReason::ALL.len()],
    /// The highest number in the outbox that `written` (or `recovered`) counts.
    written_seq: AtomicI64,
}

impl Ledger {
    /// Books that begin with what an earlier process left.
    pub(crate) fn new(embedded: bool, opening: Opening) -> Self {
        let ledger = Self { embedded, opening, written_seq: AtomicI64::new(opening.seq), ..Self::default() };
        ledger.count_lost_late(LossReason::Corrupt, opening.corrupt);
        ledger
    }

    pub(crate) fn count_finished(&self) {
        // Ordered by the segment's state, which is stored after and loaded before.
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

    /// Records that were never written are lost; those that PostgreSQL refuses were in the outbox.
    pub(crate) fn count_lost(&self, reason: LossReason, records: u64) {
        match reason {
            LossReason::Quarantined => self.count_lost_late(reason, records),
            _ => self.count_lost_early(reason, records),
        }
    }

    /// Records are lost on their way from the queue to the disk.
    pub(crate) fn count_lost_early(&self, reason: LossReason, records: u64) {
        self.lost_early[reason as usize].fetch_add(records, Ordering::Release);
    }

    /// Records are lost that had been written.
    pub(crate) fn count_lost_late(&self, reason: LossReason, records: u64) {
        self.lost_late[reason as usize].fetch_add(records, Ordering::Release);
    }

    /// How many records are lost for the reason.
    pub(crate) fn lost(&self, reason: LossReason) -> u64 {
        [&self.lost_early, &self.lost_late]
            .map(|lost| lost[reason as usize].load(Ordering::Acquire))
            .iter()
            .sum()
    }

    /// Where everything is now.
    pub(crate) fn snapshot(&self) -> Accounts {
        let read = |lost: &[AtomicU64; LossReason::ALL.len()]| {
            LossReason::ALL.map(|reason| lost[reason as usize].load(Ordering::Acquire))
        };
        let [mut late, early] = [&self.lost_late, &self.lost_early].map(read);
        let shipped = self.stored.load(Ordering::Acquire);
        let written = self.written.load(Ordering::Acquire);
        let finished = self.finished.load(Ordering::Acquire);
        let recovered = self.opening.outbox + self.opening.stored + self.opening.corrupt;
        // What has come into the outbox, and what of it has left it.
        let (entered, left, stored) = if self.embedded {
            (recovered, self.opening.stored, self.opening.stored + written)
        } else {
            (recovered + written, shipped, shipped)
        };
        let queued = finished.saturating_sub(written + early.iter().sum::<u64>());
        // Records of a damaged outbox count as lost; that PostgreSQL had some of them already is learnt later.
        let corrupt = LossReason::Corrupt as usize;
        let others = late.iter().sum::<u64>() - late[corrupt];
        late[corrupt] = late[corrupt].min(entered.saturating_sub(left + others));
        let outbox = entered.saturating_sub(left + others + late[corrupt]);
        let mut lost = early;
        for (lost, late) in lost.iter_mut().zip(late) {
            *lost += late;
        }
        Accounts { finished, recovered, queued, outbox, stored, lost }
    }
}
