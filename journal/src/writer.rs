//! The one thread that writes the SQLite file.
//!
//! Every 10 ms it takes what is queued and makes it durable in one transaction, together with the deletion of
//! what PostgreSQL already has. If the file cannot be written (disk full, locked) it keeps the batch, tries
//! again with growing pauses, and says so once; meanwhile the queue absorbs, and then counts what it drops.
//! Nothing that happens here is ever waited for by a request, and nothing here panics on what a disk does.

use crate::{
    accounts::LossReason,
    backoff::Backoff,
    chain::chain,
    journal::Shared,
    lock::FileLock,
    orders::Order,
    outbox::{self, AppendError},
    quarantine, sqlite, store,
};
use mcpmeter_observer::CallRecord;
use rusqlite::{Connection, TransactionBehavior};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{error, info};

/// How often the queue is looked at: the longest that a record waits for its transaction.
const TICK: Duration = Duration::from_millis(10);
/// Records per transaction; bounds what is in the writer's hands. A full batch is followed by the next at once.
const BATCH_RECORDS: usize = 4_096;
/// How long an ending process waits for a disk that takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sees every record once, on the writer's thread, before it is written and whatever becomes of it: the live
/// tail and the metrics. It should be quick, since the next batch waits for it.
pub type OnTaken = Box<dyn FnMut(&[Box<CallRecord>]) + Send>;

/// Where the records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// To the outbox, on their way to PostgreSQL.
    Outbox,
    /// Into the table that is the store.
    Store,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
    target: Target,
    orders: Receiver<Order>,
    on_taken: OnTaken,
    /// Taken from the queue, not durable yet.
    #[expect(clippy::vec_box, reason = "the request path boxed them; unboxing would copy every record")]
    batch: Vec<Box<CallRecord>>,
    /// Taken from the queue in all; how many of those are durable; how many were given up.
    taken: u64,
    settled: u64,
    given_up: u64,
    /// Who waits for `settled` to reach what number.
    flushes: Vec<(u64, SyncSender<()>)>,
    /// Deleted from the outbox up to here.
    retired: i64,
    /// Whether the last attempt to write failed.
    failing: bool,
    backoff: Backoff,
    _lock: Arc<FileLock>,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connection: Connection,
        target: Target,
        orders: Receiver<Order>,
        on_taken: OnTaken,
        lock: Arc<FileLock>,
    ) -> Self {
        Self {
            shared,
            connection,
            target,
            orders,
            on_taken,
            batch: Vec::with_capacity(BATCH_RECORDS),
            taken: 0,
            settled: 0,
            given_up: 0,
            flushes: Vec::new(),
            retired: 0,
            failing: false,
            backoff: Backoff::new(),
            _lock: lock,
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
                let late = Instant::now() >= deadline;
                if late && self.failing {
                    self.give_up();
                }
                // Somebody who keeps on handing over records does not keep the process alive.
                if late || !self.failing && self.shared.queue.len() == 0 {
                    return self.end();
                }
            }
            if !pause.is_zero() {
                thread::park_timeout(pause);
            }
        }
    }

    /// Does what there is to do, and says how long to pause.
    fn tick(&mut self) -> Duration {
        self.take();
        let full = self.batch.len() == BATCH_RECORDS;
        let written = self.write();
        self.failing = written.is_err();
        if self.shared.notice.tell_disk(written.as_ref().map(drop).map_err(|error| chain(error))) {
            match &written {
                Ok(()) => info!("the journal's file can be written again"),
                Err(error) => error!(
                    error = chain(error),
                    "the journal's file cannot be written: finished calls wait in memory"
                ),
            }
        }
        self.obey();
        match written {
            Err(_) => self.backoff.wait(),
            Ok(()) if full => Duration::ZERO,
            Ok(()) => TICK,
        }
    }

    /// Fills the batch, unless there is one that could not be written yet.
    fn take(&mut self) {
        if !self.batch.is_empty() {
            return;
        }
        self.shared.queue.take_into(&mut self.batch, BATCH_RECORDS);
        self.taken += self.batch.len() as u64;
        // A fault in a metric must not end the recording.
        if !self.batch.is_empty() && catch_unwind(AssertUnwindSafe(|| (self.on_taken)(&self.batch))).is_err()
        {
            error!("whoever watches the records as they are taken panicked");
        }
    }

    /// Makes the batch durable, and deletes what PostgreSQL has.
    fn write(&mut self) -> Result<(), AppendError> {
        let retirable = self.shared.retirable();
        if self.batch.is_empty() && retirable == self.retired {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = match self.target {
            Target::Outbox => outbox::append(&transaction, &self.batch)?,
            Target::Store => {
                store::append(&transaction, &self.batch)?;
                None
            }
        };
        if retirable > self.retired {
            outbox::retire(&transaction, retirable)?;
        }
        transaction.commit()?;
        self.retired = retirable;
        self.settled += self.batch.len() as u64;
        self.shared.ledger.count_written(self.batch.len() as u64, last.unwrap_or(0));
        self.batch.clear();
        self.backoff.reset();
        Ok(())
    }

    /// Carries out what others asked for.
    fn obey(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Flush(done) => {
                    // Whatever its caller had accepted is in the queue or in the batch by now.
                    self.flushes.push((self.taken + self.shared.queue.len() as u64, done));
                }
                Order::SetAside(misfits, done) => {
                    let result = self.transact(|transaction| quarantine::set_aside(transaction, &misfits));
                    // The shipper may have been stopped in the meantime; then nobody needs to know.
                    drop(done.send(result));
                }
                Order::NewSpool(done) => drop(done.send(self.transact(sqlite::new_spool_id))),
            }
        }
        let settled = self.settled;
        for (_, done) in self.flushes.extract_if(.., |(wanted, _)| *wanted <= settled) {
            // A caller that ran out of patience is no longer there to be told.
            let _ = done.try_send(());
        }
    }

    fn transact<T>(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// Counts as lost what the disk did not take.
    fn give_up(&mut self) {
        loop {
            self.take();
            if self.batch.is_empty() {
                break;
            }
            self.given_up += self.batch.len() as u64;
            self.batch.clear();
        }
        if self.given_up == 0 {
            return;
        }
        self.shared.ledger.count_lost(LossReason::DiskError, self.given_up);
        error!(
            records = self.given_up,
            "the journal's file took nothing to the end: finished calls are lost"
        );
    }

    /// Leaves the file tidy.
    fn end(self) -> u64 {
        // Folds the log into the file. A reader may be in the way; then the next process does it.
        drop(self.connection.execute_batch("pragma wal_checkpoint(truncate)"));
        self.given_up
    }
}
