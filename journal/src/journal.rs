//! The journal's front: what the request path, the pages and the metrics hold of it.

use crate::{
    accounts::{Accounts, Ledger, LossReason},
    body::{BodyAccounts, BodyKeys, Desk},
    health::{Health, Notice},
    ring::Ring,
    sample::ProcessSample,
};
use mcpmeter_observer::CallRecord;
use std::{
    borrow::Borrow,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
        mpsc::SyncSender,
    },
};
use uuid::Uuid;

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
    /// counted as lost. Once this has returned, the death of the process no longer loses the record. After the
    /// writer has been closed in good order a record is counted as lost.
    pub fn accept(&self, record: impl Borrow<CallRecord>) {
        let record = record.borrow();
        self.shared.ring.accept(record, &self.shared.ledger);
        self.shared.bodies.take(record);
    }

    /// What bodies of calls are sealed with from now on. Without a key they are dropped and counted.
    pub fn seal_bodies_with(&self, keys: BodyKeys) {
        self.shared.bodies.use_keys(keys);
    }

    /// What has become of bodies since the process began.
    pub fn bodies(&self) -> BodyAccounts {
        self.shared.bodies.books.read()
    }

    /// Counts finished calls of which no record was made.
    pub fn lose(&self, reason: LossReason, records: u64) {
        if records > 0 {
            self.shared.ledger.count_never_queued(reason, records);
        }
    }

    /// Hands over what processes used. Never waits; what there is no room for, and what no store can hold (numbers that
    /// are not finite, an instance with a NUL), is counted by [`Journal::lost_samples`] and loses no call.
    pub fn sample(&self, samples: Vec<ProcessSample>) {
        let taken =
            |sample: ProcessSample| sample.is_storable() && self.shared.samples.try_send(sample).is_ok();
        let lost = samples.into_iter().map(taken).filter(|taken| !taken).count();
        self.shared.lose_samples(lost as u64);
    }

    /// Samples that will never be stored, since the process began.
    pub fn lost_samples(&self) -> u64 {
        self.shared.lost_samples.load(Ordering::Relaxed)
    }

    /// Where every finished record is at this moment.
    pub fn accounts(&self) -> Accounts {
        self.shared.ledger.snapshot()
    }

    /// How many damaged files were set aside since the process began, that at its beginning included.
    pub fn set_aside_files(&self) -> u64 {
        self.shared.set_aside.load(Ordering::Relaxed)
    }

    /// Whether the disk and PostgreSQL can be reached.
    pub fn health(&self) -> Health {
        self.shared.notice.read()
    }
}

/// What the request path, the writer and the shipper have in common.
pub(crate) struct Shared {
    pub(crate) ring: Ring,
    pub(crate) ledger: Ledger,
    pub(crate) notice: Notice,
    /// The writer is to finish what is queued and end.
    pub(crate) closing: AtomicBool,
    /// The highest number in the outbox that PostgreSQL certainly has; the writer deletes up to here.
    retirable: AtomicI64,
    /// Where bodies of calls are made fit to be stored.
    pub(crate) bodies: Arc<Desk>,
    /// The way of samples to the writer.
    samples: SyncSender<ProcessSample>,
    lost_samples: AtomicU64,
    /// Damaged files that were set aside.
    set_aside: AtomicU64,
    /// The number of a file that a reader found damaged; 0 for none.
    damaged: AtomicU64,
    /// How often the file has been replaced.
    life: Mutex<u64>,
    /// The identity that the outbox had when the file was opened; absent before that.
    spool_id: OnceLock<Uuid>,
}

impl Shared {
    pub(crate) fn new(
        ring: Ring,
        ledger: Ledger,
        notice: Notice,
        samples: SyncSender<ProcessSample>,
        bodies: Arc<Desk>,
    ) -> Self {
        Self {
            ring,
            ledger,
            notice,
            closing: AtomicBool::default(),
            retirable: AtomicI64::default(),
            bodies,
            samples,
            lost_samples: AtomicU64::default(),
            set_aside: AtomicU64::default(),
            damaged: AtomicU64::default(),
            life: Mutex::default(),
            spool_id: OnceLock::new(),
        }
    }

    /// The file is open, and its outbox has this identity.
    pub(crate) fn tell_open(&self, spool_id: Uuid) {
        // It is opened once; a file that comes in its place is its continuation.
        self.spool_id.get_or_init(|| spool_id);
    }

    /// The identity that the outbox had when the file was opened; `None` as long as it is not.
    pub(crate) fn spool_id(&self) -> Option<Uuid> {
        self.spool_id.get().copied()
    }

    /// Which life of the SQLite file this is: the numbers of the outbox mean something in one life only.
    pub(crate) fn life(&self) -> u64 {
        *self.lock_life()
    }

    /// Counts something if it was read from the file in its present life.
    pub(crate) fn in_life(&self, life: u64, count: impl FnOnce()) {
        let now = self.lock_life();
        if *now == life {
            count();
        }
    }

    /// The file is about to be replaced; returns what PostgreSQL certainly has of it. Nothing of the old life is
    /// counted after this.
    pub(crate) fn end_life(&self) -> i64 {
        let mut life = self.lock_life();
        *life += 1;
        self.retirable()
    }

    fn lock_life(&self) -> MutexGuard<'_, u64> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many samples will never be stored.
    pub(crate) fn lose_samples(&self, samples: u64) {
        self.lost_samples.fetch_add(samples, Ordering::Relaxed);
    }

    /// A damaged file was set aside.
    pub(crate) fn count_set_aside(&self) {
        self.set_aside.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody could not read the file with that inode because it is damaged; the writer sees to it.
    pub(crate) fn report_damage(&self, inode: u64) {
        self.damaged.store(inode, Ordering::Relaxed);
    }

    /// Whether damage of the file with that inode was reported; asked once.
    pub(crate) fn take_damage_of(&self, inode: u64) -> bool {
        self.damaged.swap(0, Ordering::Relaxed) == inode
    }

    /// Everything up to this number may be deleted from the outbox.
    pub(crate) fn retire(&self, up_to: i64) {
        self.retirable.fetch_max(up_to, Ordering::Release);
    }

    pub(crate) fn retirable(&self) -> i64 {
        self.retirable.load(Ordering::Acquire)
    }
}
