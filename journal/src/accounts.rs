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
//! Should more leave the outbox than had come into it (a transaction of which the disk reported an error, and that had
//! happened all the same, was tried again), the rest is counted as recovered: no counter ever falls.
//!
//! Counts begin with the process. What an earlier process left in the queue and in the outbox is *recovered*; it
//! enters the books when the file is opened, which a full disk may delay. Without PostgreSQL the SQLite table is the store itself: written is stored, and the outbox only holds what
//! an earlier configuration left there.

use mcpmeter_observer::Timestamp;
use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
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
    /// It lay in the queue of a process that did not come to an orderly end, and the queue was gone at the next start,
    /// or in the hands of another process.
    QueueGone,
    /// It was finished after the journal had been closed. Once the writer has ended there is nobody to write a gap row
    /// for it; whoever stops the program says the number.
    Closed,
}

impl LossReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::QueueFull,
        Self::DiskError,
        Self::Quarantined,
        Self::BatchTooLarge,
        Self::OutboxFull,
        Self::Oversize,
        Self::Corrupt,
        Self::QueueGone,
        Self::Closed,
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
            Self::QueueGone => "queue_gone",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One snapshot; all numbers are records. Those of what was finished, stored and lost never fall.
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
    /// When the oldest record was finished that the disk is being asked to take; absent while it takes everything.
    pub queued_since: Option<Timestamp>,
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
    /// Records that are in the queue still, because the disk did not take them.
    pub(crate) queued: u64,
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
    /// Unknown until the file is open.
    opening: OnceLock<Opening>,
    finished: AtomicU64,
    written: AtomicU64,
    stored: AtomicU64,
    /// Lost before they were written, and after.
    lost_early: [AtomicU64; LossReason::ALL.len()],
    lost_late: [AtomicU64; LossReason::ALL.len()],
    /// What has left the outbox beyond what had come into it.
    found: AtomicU64,
    /// The highest number in the outbox that `written` (or `recovered`) counts.
    written_seq: AtomicI64,
    /// See [`Accounts::queued_since`]; 0 for nothing.
    queued_since: AtomicI64,
}

impl Ledger {
    /// Books of a process that has not opened its file.
    pub(crate) fn new(embedded: bool) -> Self {
        Self { embedded, ..Self::default() }
    }

    /// Enters what an earlier process left; once, before anything is counted as written.
    pub(crate) fn begin(&self, opening: Opening) {
        self.written_seq.fetch_max(opening.seq, Ordering::Release);
        if self.opening.set(opening).is_ok() {
            self.count_lost_late(LossReason::Corrupt, opening.corrupt);
        }
    }

    /// What an earlier process left; nothing as long as the file is not open.
    pub(crate) fn opening(&self) -> Opening {
        self.opening.get().copied().unwrap_or_default()
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
        self.find(records);
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
        self.find(records);
        self.lost_late[reason as usize].fetch_add(records, Ordering::Release);
    }

    /// So many are about to leave the outbox; notes what they are more than there should be.
    fn find(&self, leaving: u64) {
        let Accounts { outbox, .. } = self.snapshot();
        if !self.embedded {
            self.found.fetch_add(leaving.saturating_sub(outbox), Ordering::Release);
        }
    }

    /// When the oldest record was finished that the disk is about to be asked to take; nothing if it has taken all.
    pub(crate) fn note_queued_since(&self, oldest: Option<Timestamp>) {
        self.queued_since.store(oldest.map_or(0, |oldest| oldest.0), Ordering::Relaxed);
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
        let [late, early] = [&self.lost_late, &self.lost_early].map(read);
        let shipped = self.stored.load(Ordering::Acquire);
        let found = self.found.load(Ordering::Acquire);
        let written = self.written.load(Ordering::Acquire);
        let opening = self.opening();
        let finished = self.finished.load(Ordering::Acquire);
        // What has come into the outbox, and what of it has left it.
        let before = opening.outbox + opening.stored + opening.corrupt;
        let late_total = late.iter().sum::<u64>();
        let (entered, left, stored) = if self.embedded {
            (before, opening.stored + late_total, opening.stored + written)
        } else {
            (before + written + found, shipped + late_total, shipped)
        };
        // Two that leave at once may each have found less than they are together.
        let found = found + left.saturating_sub(entered);
        let outbox = entered.saturating_sub(left);
        let queued = (finished + opening.queued).saturating_sub(written + early.iter().sum::<u64>());
        let mut lost = early;
        for (lost, late) in lost.iter_mut().zip(late) {
            *lost += late;
        }
        let since = Timestamp(self.queued_since.load(Ordering::Relaxed));
        Accounts {
            finished,
            recovered: before + opening.queued + found,
            queued,
            outbox,
            stored,
            queued_since: Some(since).filter(|since| queued > 0 && since.0 != 0),
            lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_counter_ever_falls_whatever_turns_out_to_be_stored() {
        let ledger = Ledger::new(false);
        ledger.begin(Opening { outbox: 4, corrupt: 2, seq: 4, ..Opening::default() });
        let mut last = ledger.snapshot();
        let mut look = || {
            let now = ledger.snapshot();
            assert!(now.balance(), "{now:?}");
            assert!(now.finished >= last.finished && now.stored >= last.stored, "{last:?} {now:?}");
            for reason in LossReason::ALL {
                assert!(now.lost(reason) >= last.lost(reason), "{reason}: {last:?} {now:?}");
            }
            last = now;
            now
        };
        (0..10).for_each(|_| ledger.count_finished());
        ledger.count_written(10, 14);
        assert_eq!(look().outbox, 14);
        // A damaged file, of which PostgreSQL had more than anybody knew.
        ledger.count_lost_late(LossReason::Corrupt, 5);
        assert_eq!((look().outbox, last_corrupt(&ledger)), (9, 7));
        ledger.count_stored(14);
        assert_eq!((look().outbox, last_corrupt(&ledger)), (0, 7));
        // And what comes afterwards is seen to wait.
        ledger.count_finished();
        ledger.count_written(1, 15);
        assert_eq!(look().outbox, 1);
    }

    fn last_corrupt(ledger: &Ledger) -> u64 {
        ledger.snapshot().lost(LossReason::Corrupt)
    }

    #[test]
    fn what_an_earlier_process_left_enters_the_books_when_the_file_is_opened() {
        let ledger = Ledger::new(false);
        ledger.count_finished();
        assert_eq!((ledger.snapshot().recovered, ledger.snapshot().queued), (0, 1));
        ledger.begin(Opening { outbox: 3, queued: 2, seq: 3, ..Opening::default() });
        let accounts = ledger.snapshot();
        assert_eq!((accounts.recovered, accounts.queued, accounts.outbox), (5, 3, 3));
        assert!(accounts.balance());
        ledger.count_written(3, 6);
        let accounts = ledger.snapshot();
        assert_eq!((accounts.queued, accounts.outbox), (0, 6));
        assert!(accounts.balance());
    }
}
