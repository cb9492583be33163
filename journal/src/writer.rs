//! The one thread that writes the SQLite file.
//!
//! Every 100 ms it looks at the queue (`ring`) and makes what is there durable in one transaction, together with
//! how far it has come in the queue, with the gaps in the books, and with the deletion of what PostgreSQL
//! already has. The queue outlives the process, so that a longer tick loses nothing and saves syncs. The
//! records stay in the queue until they are durable; the writer's own memory is one segment's worth of them.
//!
//! If the file cannot be written (disk full, locked) it tries again with growing pauses, and says so once;
//! meanwhile the queue absorbs, and then counts what it drops. A file that turns out to be damaged is set aside
//! and the work goes on in a new one. Beyond the outbox's quota the newest records are dropped and counted.
//! Nothing that happens here is ever waited for by a request, and nothing here panics on what a disk does.

mod batch;
mod damage;
mod round;

use self::{batch::Batch, round::Round};
use crate::{
    accounts::LossReason,
    backoff::Backoff,
    chain::chain,
    file::FileError,
    gap::Gaps,
    inscribe::{Sheet, Target},
    journal::Shared,
    lock::FileLock,
    orders::Order,
    quota::Quota,
    ring::Drain,
    trouble,
};
use mcpmeter_observer::CallRecord;
use rusqlite::Connection;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{error, info, warn};
use uuid::Uuid;

/// How often the queue is looked at: the longest that a record waits for its transaction.
const TICK: Duration = Duration::from_millis(100);
/// How long an ending process waits for a disk that takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sees every record once, on the writer's thread, before it is durable and whatever becomes of it: the live
/// tail and the metrics. It should be quick, since the next records wait for it.
pub type OnTaken = Box<dyn FnMut(&[CallRecord]) + Send>;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    file: PathBuf,
    connection: Connection,
    /// The identity of the outbox, in case that a damaged file cannot tell.
    spool_id: Uuid,
    target: Target,
    drain: Drain,
    round: Round,
    sheet: Sheet,
    /// Absent for the store.
    quota: Option<Quota>,
    /// Whether the outbox has reached its quota.
    is_full: bool,
    gaps: Gaps,
    orders: Receiver<Order>,
    on_taken: OnTaken,
    /// Deleted from the outbox up to here.
    retired: i64,
    /// Whether the last attempt to write failed.
    failing: bool,
    /// When the last damaged file was set aside.
    replaced: Option<Instant>,
    /// Somebody who read the file, or changed it, found it damaged.
    damaged: Option<String>,
    backoff: Backoff,
    _lock: Arc<FileLock>,
}

/// What the writer works with but does not make itself.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) file: PathBuf,
    pub(crate) connection: Connection,
    pub(crate) spool_id: Uuid,
    pub(crate) target: Target,
    pub(crate) drain: Drain,
    pub(crate) quota: Option<Quota>,
    pub(crate) gaps: Gaps,
    pub(crate) orders: Receiver<Order>,
    pub(crate) on_taken: OnTaken,
    pub(crate) lock: Arc<FileLock>,
}

/// Why nothing could be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("the journal's file is damaged, and no new one can be made")]
    File(#[from] FileError),
}

impl Writer {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            shared: parts.shared,
            file: parts.file,
            connection: parts.connection,
            spool_id: parts.spool_id,
            target: parts.target,
            drain: parts.drain,
            round: Round::default(),
            sheet: Sheet::default(),
            quota: parts.quota,
            is_full: false,
            gaps: parts.gaps,
            orders: parts.orders,
            on_taken: parts.on_taken,
            retired: 0,
            failing: false,
            replaced: None,
            damaged: None,
            backoff: Backoff::new(),
            _lock: parts.lock,
        }
    }

    /// Works until the journal is closed; returns how many records could not be written.
    pub(crate) fn run(mut self) -> u64 {
        let mut deadline = None;
        loop {
            // Looked at before the tick, so that a whole tick follows whatever was done before the closing.
            let closing = self.shared.closing.load(Ordering::Acquire);
            let pause = self.tick();
            if closing {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                // Somebody who keeps on handing over records does not keep the process alive.
                if Instant::now() >= deadline || !self.failing && self.is_drained() {
                    return self.end();
                }
            }
            self.wait(pause);
        }
    }

    fn is_drained(&mut self) -> bool {
        self.round.is_done() && self.drain.pending().is_empty()
    }

    /// Does what there is to do, and says how long to pause.
    fn tick(&mut self) -> Duration {
        while let Ok(order) = self.orders.try_recv() {
            self.obey(order);
        }
        self.round.begin(&mut self.drain);
        self.gaps.observe(&self.shared.ledger);
        self.shared.notice.begin_disk_work();
        let written = self.replace_if_damaged().and_then(|()| self.write());
        self.shared.notice.end_disk_work();
        self.failing = written.is_err();
        self.tell(written.as_ref().err());
        self.round.tell_if_done();
        match written {
            Err(WriteError::Sqlite(error)) if trouble::is_damage(&error) => {
                self.damaged = Some(chain(&error));
                if self.may_replace() { Duration::ZERO } else { self.backoff.wait() }
            }
            Err(_) => self.backoff.wait(),
            Ok(()) if self.round.is_done() => TICK,
            Ok(()) => Duration::ZERO,
        }
    }

    fn tell(&self, error: Option<&WriteError>) {
        let told = match error {
            None => Ok(()),
            Some(WriteError::Sqlite(error)) => Err(trouble::advise(error, &self.file)),
            Some(error) => Err(chain(error)),
        };
        if self.shared.notice.tell_disk(told.clone()) {
            match told {
                Ok(()) => info!("the journal's file can be written again"),
                Err(error) => {
                    error!(error, "the journal's file cannot be written: finished calls wait in the queue");
                }
            }
        }
    }

    /// Makes the next batch durable, with everything that goes with it.
    fn write(&mut self) -> Result<(), WriteError> {
        let retirable = self.shared.retirable();
        let ranges = self.round.batch();
        if ranges.is_empty() && retirable == self.retired && !self.gaps.is_open() {
            return Ok(());
        }
        self.look_at_quota(ranges.iter().map(|range| range.bytes() as u64).sum())?;
        let mut batch = Batch {
            ranges: &ranges,
            target: self.target,
            refuse: self.is_full,
            retire: (retirable > self.retired).then_some(retirable),
            drain: &mut self.drain,
            sheet: &mut self.sheet,
            on_taken: &mut self.on_taken,
            gaps: &self.gaps,
        };
        let outcome = batch.write(&mut self.connection).inspect_err(|_| batch.show_all())?;
        outcome.count(&self.shared.ledger);
        self.retired = retirable;
        self.gaps.settle();
        for range in &ranges {
            self.drain.settle(range);
        }
        self.round.settle(&ranges);
        self.backoff.reset();
        Ok(())
    }

    /// Sees whether the outbox may take so many more bytes.
    fn look_at_quota(&mut self, bytes: u64) -> rusqlite::Result<()> {
        let Some(quota) = self.quota.as_ref().filter(|_| bytes > 0) else { return Ok(()) };
        let is_full = quota.is_exceeded_by(bytes, &self.connection)?;
        if is_full != self.is_full {
            self.is_full = is_full;
            let max_bytes = quota.max_bytes();
            if is_full {
                error!(
                    max_bytes,
                    "the outbox is full: finished calls are lost until PostgreSQL takes what is there, or \
                     store.outbox_max_mib is raised"
                );
            } else {
                info!(max_bytes, "the outbox has room again");
            }
        }
        Ok(())
    }

    /// Carries out what somebody asks for.
    fn obey(&mut self, order: Order) {
        match order {
            Order::Wake => {}
            Order::Flush(done) => self.round.call_back(done),
            Order::Work(work) => {
                let done = catch_unwind(AssertUnwindSafe(|| work(&mut self.connection)));
                match done {
                    Ok(Ok(())) => {}
                    Ok(Err(damage)) => self.damaged = Some(damage),
                    Err(_) => error!("whoever wanted something of the journal's file panicked"),
                }
            }
        }
    }

    fn wait(&mut self, pause: Duration) {
        match self.orders.recv_timeout(pause) {
            Ok(order) => self.obey(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(pause),
        }
    }

    /// Leaves the file tidy, and what the disk did not take where the next process finds it.
    fn end(mut self) -> u64 {
        let unwritten = if self.is_drained() { 0 } else { self.shared.ledger.snapshot().queued };
        if unwritten > 0 {
            self.give_up(unwritten);
        } else if let Err(error) = self.drain.delete(&self.connection) {
            warn!(error = chain(&error), "cannot delete the queue's file");
        }
        // Folds the log into the file. A reader may be in the way; then the next process does it.
        drop(self.connection.execute_batch("pragma wal_checkpoint(truncate)"));
        unwritten
    }

    fn give_up(&self, records: u64) {
        match self.drain.file() {
            Some(file) => error!(
                records,
                file = %file.display(),
                "the journal's file took nothing to the end: finished calls stay in the queue for the next start"
            ),
            None => {
                self.shared.ledger.count_lost(LossReason::DiskError, records);
                error!(records, "the journal's file took nothing to the end: finished calls are lost");
            }
        }
    }
}
