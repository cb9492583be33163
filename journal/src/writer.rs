//! The one thread that writes the SQLite file.
//!
//! Every 100 ms it looks at the queue (`ring`) and makes what is there durable in one transaction, together with
//! how far it has come in the queue, with the gaps in the books, with what processes used, and with the deletion of what
//! PostgreSQL already has. The queue outlives the process, so that a longer tick loses nothing and saves syncs. The
//! records stay in the queue until they are durable; the writer's own memory is one segment's worth of them.
//!
//! If the file cannot be written, or not even be opened (disk full, locked), it tries again with growing pauses, and says
//! so once; meanwhile the queue absorbs, and then counts what it drops. A file that turns out to be damaged is set aside
//! and the work goes on in a new one. Beyond the outbox's quota the newest records are dropped and counted.
//! Nothing that happens here is ever waited for by a request, and nothing here panics on what a disk does.

mod batch;
mod damage;
mod ending;
mod listening;
mod round;
mod standing;

use self::{batch::Batch, round::Round};
use crate::{
    backoff::Backoff,
    body::Bodies,
    chain::chain,
    file::FileError,
    gap::Gaps,
    ground::{Ground, GroundError, Site},
    inscribe::Sheet,
    journal::Shared,
    lock::{Notebook, Noted},
    orders::Order,
    quota::Quota,
    ring::Drain,
    sample::{ProcessSample, Samples},
    trouble,
};
use mcpmeter_observer::CallRecord;
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc::Receiver},
    time::{Duration, Instant},
};
use tracing::{error, info};
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
    site: Site,
    /// A file that was opened and could not be taken into use yet.
    found: Option<Ground>,
    /// Absent as long as the file cannot be opened, and while a damaged one is being replaced.
    connection: Option<Connection>,
    /// The identity of the outbox, in case that a damaged file cannot tell; absent until the file was opened.
    spool_id: Option<Uuid>,
    drain: Drain,
    /// The queue, as it is noted for the next process.
    queue: Noted,
    /// Queues of earlier processes that are still to be written down.
    left: Vec<Noted>,
    notebook: Notebook,
    round: Round,
    sheet: Sheet,
    /// Absent for the store, and as long as the file cannot be opened.
    quota: Option<Quota>,
    /// Whether the outbox has reached its quota.
    is_full: bool,
    gaps: Gaps,
    samples: Samples,
    bodies: Bodies,
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
}

/// What the writer works with but does not make itself.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) site: Site,
    pub(crate) drain: Drain,
    pub(crate) queue: Noted,
    pub(crate) left: Vec<Noted>,
    pub(crate) notebook: Notebook,
    pub(crate) samples: Receiver<ProcessSample>,
    pub(crate) orders: Receiver<Order>,
    pub(crate) on_taken: OnTaken,
}

/// Why nothing could be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("the journal's file cannot be opened")]
    Ground(#[from] GroundError),
    #[error("the journal's file is damaged, and no new one can be made")]
    File(#[from] FileError),
    #[error("the journal has no file")]
    NoFile,
}

impl Writer {
    /// A writer that has no file yet; see [`Writer::start_on`] and [`Writer::wait_for`].
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            shared: parts.shared,
            site: parts.site,
            found: None,
            connection: None,
            spool_id: None,
            drain: parts.drain,
            queue: parts.queue,
            left: parts.left,
            notebook: parts.notebook,
            round: Round::default(),
            sheet: Sheet::default(),
            quota: None,
            is_full: false,
            gaps: Gaps::new(),
            samples: Samples::new(parts.samples),
            bodies: Bodies::default(),
            orders: parts.orders,
            on_taken: parts.on_taken,
            retired: 0,
            failing: false,
            replaced: None,
            damaged: None,
            backoff: Backoff::new(),
        }
    }

    /// Where what the disk does not take is left for the next process.
    pub(crate) fn queue_file(&self) -> Option<PathBuf> {
        self.drain.file().map(Path::to_owned)
    }

    /// Works until the journal is closed; returns how many records could not be written.
    pub(crate) fn run(mut self) -> u64 {
        let mut deadline = None;
        loop {
            // Looked at before the tick, so that a whole tick follows whatever was done before the closing.
            let closing = self.shared.closing.load(Ordering::Acquire);
            let mut pause = self.tick();
            if closing {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                // Somebody who keeps on handing over records does not keep the process alive.
                if Instant::now() >= deadline || !self.failing && self.is_drained() {
                    return self.end();
                }
                // Whoever closes does not wait for ever.
                pause = pause.min(deadline.saturating_duration_since(Instant::now()));
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
        if self.round.begin(&mut self.drain) {
            self.shared.ledger.note_queued_since(self.drain.oldest(self.round.ranges()));
        }
        self.gaps.observe(&self.shared.ledger);
        self.samples.take(&self.shared);
        self.shared.notice.begin_disk_work();
        let written = self.work_on_disk();
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

    fn work_on_disk(&mut self) -> Result<(), WriteError> {
        self.notebook.try_again();
        self.find_ground()?;
        self.replace_if_damaged()?;
        self.write()
    }

    fn tell(&self, error: Option<&WriteError>) {
        let told = match error {
            None => Ok(()),
            Some(WriteError::Sqlite(error)) => Err(trouble::advise(error, &self.site.file)),
            Some(WriteError::Ground(error)) => Err(error.advise(&self.site)),
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
        let mut connection = self.connection.take().ok_or(WriteError::NoFile)?;
        let result = self.write_to(&mut connection);
        self.connection = Some(connection);
        result
    }

    fn write_to(&mut self, connection: &mut Connection) -> Result<(), WriteError> {
        self.bodies.take(&self.shared, self.quota.as_ref(), connection)?;
        let retirable = self.shared.retirable();
        let ranges = self.round.batch();
        let has_others = self.gaps.is_open() || !self.samples.is_empty() || !self.bodies.is_empty();
        if ranges.is_empty() && retirable == self.retired && !has_others {
            return Ok(());
        }
        let bytes: u64 = ranges.iter().map(|range| range.bytes() as u64).sum();
        self.look_at_quota(bytes + self.samples.bytes(), connection)?;
        self.gaps.prepare();
        let mut batch = Batch {
            ranges: &ranges,
            target: self.site.target,
            refuse: self.is_full,
            retire: (retirable > self.retired).then_some(retirable),
            drain: &mut self.drain,
            sheet: &mut self.sheet,
            on_taken: &mut self.on_taken,
            gaps: &self.gaps,
            samples: &self.samples,
            bodies: &self.bodies,
            max_bytes: self.quota.as_ref().map(Quota::max_bytes),
        };
        let outcome = batch.write(connection).inspect_err(|_| batch.show_all())?;
        outcome.count(&self.shared);
        self.retired = retirable;
        self.gaps.settle();
        self.samples.settle(outcome.samples, &self.shared);
        self.bodies.settle(outcome.bodies, &self.shared);
        for range in &ranges {
            self.drain.settle(range);
        }
        self.round.settle(&ranges);
        if self.round.is_done() {
            self.shared.ledger.note_queued_since(None);
        }
        self.backoff.reset();
        Ok(())
    }

    /// Sees whether the outbox may take so many more bytes.
    fn look_at_quota(&mut self, bytes: u64, connection: &Connection) -> rusqlite::Result<()> {
        let Some(quota) = self.quota.as_ref().filter(|_| bytes > 0) else { return Ok(()) };
        let is_full = quota.is_exceeded_by(bytes, connection)?
            && !Bodies::make_room(quota, bytes, connection, &self.shared)?;
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
}

#[cfg(test)]
mod tests;
