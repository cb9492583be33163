//! The task that carries the outbox into PostgreSQL: batch after batch, for ever, whatever happens to the
//! database.
//!
//! Every 0.2 to 1 s (`interval`) it reads what is durable beyond the cursor, stores it (`batch`, `shipment`), and only
//! then lets the writer delete it. After any error the connection is thrown away and the cursor asked for again,
//! which settles what became of a commit that was never answered (`settle`). It never gives a record up because
//! time has passed; over a slow link batches become smaller (`pace`). A record that PostgreSQL can never take is
//! set aside (`quarantine`) and counted. It says once that PostgreSQL cannot be used, and once that it can be
//! again. What was lost before it could be shipped is told to PostgreSQL, too (`gaps`), and what processes used
//! (`samples`), and bodies of calls (`bodies`).

mod batch;
mod bodies;
mod error;
mod gaps;
mod interval;
mod pace;
mod progress;
mod samples;
mod settle;

use self::{
    bodies::Bodies,
    error::ShipError,
    gaps::Gaps,
    pace::{LONGEST, Pace},
    progress::Progress,
    samples::Samples,
};
use crate::{
    backoff::Backoff, chain::chain, journal::Shared, lock::FileLock, migrate, orders::Orders,
    outbox::BATCH_RECORDS, outbox_reader::OutboxReader, partitions::Partitions, postgres::discard,
    postgres_url::PostgresUrl, shipment::Way,
};
use deadpool_postgres::{Object, Pool, PoolError, Timeouts};
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use uuid::Uuid;

/// How long one batch may take before the connection is taken for dead, over a link that is fast enough.
const BATCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a shipper with nothing to ship asks for the cursor, and so learns that PostgreSQL has gone.
const PING: Duration = Duration::from_secs(5);

/// The shipper. It does nothing until it is run, and stops when its future is dropped, losing nothing.
pub struct Shipper {
    shared: Arc<Shared>,
    url: PostgresUrl,
    pool: Pool,
    orders: Orders,
    outbox: OutboxReader,
    /// Nil until the file is open.
    spool_id: Uuid,
    progress: Progress,
    partitions: Partitions,
    gaps: Gaps,
    samples: Samples,
    bodies: Bodies,
    pace: Pace,
    /// How the next batch goes in: carefully as long as duplicates come.
    way: Way,
    /// The schema is to be applied before anything is shipped.
    migrate: bool,
    contact: Instant,
    backoff: Backoff,
    _lock: Arc<FileLock>,
}

/// Everything that the shipper is made of but does not make itself.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) url: PostgresUrl,
    pub(crate) pool: Pool,
    pub(crate) orders: Orders,
    pub(crate) outbox: OutboxReader,
    pub(crate) migrate: bool,
    pub(crate) lock: Arc<FileLock>,
}

/// What became of one look at the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shipped {
    Nothing,
    All,
    /// A batch, and there may be more.
    Some,
}

impl Shipper {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            progress: Progress::new(Arc::clone(&parts.shared)),
            shared: parts.shared,
            url: parts.url,
            pool: parts.pool,
            orders: parts.orders,
            outbox: parts.outbox,
            spool_id: Uuid::nil(),
            partitions: Partitions::default(),
            gaps: Gaps::default(),
            samples: Samples::default(),
            bodies: Bodies::default(),
            pace: Pace::new(BATCH_TIMEOUT),
            way: Way::Straight,
            migrate: parts.migrate,
            contact: Instant::now(),
            backoff: Backoff::new(),
            _lock: parts.lock,
        }
    }

    /// The same with another time for PostgreSQL to take a batch. One that is not answered in time is sent again,
    /// as a smaller one; 60 seconds suit every link that carries 50 kB a second.
    #[must_use]
    pub fn with_batch_timeout(self, usual: Duration) -> Self {
        Self { pace: Pace::new(usual), ..self }
    }

    /// Ships until `stop`; then ships what is left until there is nothing left, or for as long as `flush`. What
    /// remains stays in the outbox for the next process.
    pub async fn run(mut self, stop: impl Future<Output = ()>, flush: Duration) {
        tokio::select! {
            () = stop => {}
            () = self.ship_for_ever() => {}
        }
        if timeout(flush, self.ship_the_rest()).await.is_err() {
            let left = self.shared.ledger.snapshot().outbox;
            warn!(records = left, "calls remain in the outbox and will be shipped after the next start");
        }
        self.pool.close();
    }

    /// Whether there is an outbox to ship. While its disk takes nothing there may not be one.
    fn has_outbox(&mut self) -> bool {
        if self.spool_id.is_nil() {
            self.spool_id = self.shared.spool_id().unwrap_or_default();
        }
        !self.spool_id.is_nil()
    }

    async fn ship_for_ever(&mut self) {
        while !self.has_outbox() {
            sleep(interval::SHORTEST).await;
        }
        loop {
            let began = Instant::now();
            match self.ship_and_tell().await {
                Ok(Shipped::Some) => {}
                Ok(_) => {
                    let waiting = || self.shared.ledger.written_seq() - self.progress.settled;
                    interval::pass(began, waiting).await;
                }
                Err(()) => sleep(self.backoff.wait()).await,
            }
        }
    }

    async fn ship_the_rest(&mut self) {
        self.gaps.look_now();
        self.samples.look_now();
        self.bodies.look_now();
        while self.has_outbox() && !self.is_done() {
            match self.ship_and_tell().await {
                // The writer may still be at work; it needs a tick.
                Ok(Shipped::Nothing) => sleep(Duration::from_millis(10)).await,
                Ok(_) => {}
                Err(()) => sleep(self.backoff.wait()).await,
            }
        }
    }

    /// Whether every finished call is stored or lost, and what was lost and used, and what bodies there are, is told.
    fn is_done(&self) -> bool {
        let accounts = self.shared.ledger.snapshot();
        let others_are_due = self.gaps.are_due() || self.samples.are_due() || self.bodies.are_due();
        accounts.queued == 0 && accounts.outbox == 0 && !others_are_due
    }

    /// Ships one batch, and tells the world if it is news whether that worked.
    async fn ship_and_tell(&mut self) -> Result<Shipped, ()> {
        let result = self.ship_next().await;
        let text = result.as_ref().map(drop).map_err(|error| self.url.redact(&chain(error)));
        if self.shared.notice.tell_postgres(text.clone()) {
            match &text {
                Ok(()) => info!(store = %self.url, "connected to PostgreSQL"),
                Err(error) => {
                    warn!(store = %self.url, error, "cannot store calls in PostgreSQL: they wait in the outbox")
                }
            }
        }
        if result.is_ok() {
            self.backoff.reset();
        }
        result.map_err(drop)
    }

    /// Ships one batch. Dropping the future at any point is safe.
    async fn ship_next(&mut self) -> Result<Shipped, ShipError> {
        if self.contact.elapsed() > PING {
            self.progress.cursor = None;
        }
        let nothing_new =
            self.progress.cursor.is_some() && self.shared.ledger.written_seq() <= self.progress.settled;
        let gaps = self.gaps.find(&mut self.outbox).await;
        let samples = self.samples.find(&mut self.outbox).await;
        let bodies = self.bodies.find(&mut self.outbox).await;
        if nothing_new && gaps.is_empty() && samples.is_empty() && bodies.is_empty() {
            return Ok(Shipped::Nothing);
        }
        let mut connection = self.connect().await?;
        let result = Box::pin(self.ship_over(&mut connection)).await;
        let (orders, shared, patience) = (&self.orders, &self.shared, self.pace.patience());
        let told = result.is_ok()
            && self.gaps.tell(&connection, self.spool_id, gaps, orders, patience).await
            && self.samples.tell(&connection, samples, orders, shared, patience).await
            && self.bodies.tell(&connection, bodies, orders, shared, patience).await;
        if result.is_ok() {
            self.contact = Instant::now();
        }
        if !told {
            discard(connection);
        }
        result
    }

    /// A connection. Over a slow link it may take several round trips' time to make one.
    async fn connect(&mut self) -> Result<Object, ShipError> {
        let mut timeouts = self.pool.timeouts();
        let patience = |usual: Option<Duration>| usual.map(|usual| usual.max(self.pace.patience() / 4));
        timeouts = Timeouts { wait: patience(timeouts.wait), create: patience(timeouts.create), ..timeouts };
        let connection = self.pool.timeout_get(&timeouts).await;
        if let Err(PoolError::Timeout(_)) = &connection {
            self.pace.timed_out(0);
        }
        Ok(connection?)
    }

    async fn ship_over(&mut self, connection: &mut Object) -> Result<Shipped, ShipError> {
        if self.migrate {
            // An older schema may have rows to be read on the way.
            let done = within(LONGEST, migrate::apply(connection)).await??;
            info!(from = done.from, to = done.to, "the PostgreSQL schema is up to date");
            self.migrate = false;
        }
        let patience = self.pace.patience();
        let from = match self.progress.cursor {
            Some(cursor) => cursor,
            None => {
                let asked = Instant::now();
                let settled = within(patience, self.settle(connection)).await;
                self.in_time(settled, asked)?
            }
        };
        let life = self.shared.life();
        let mut batch =
            self.outbox.read(from.max(self.progress.settled), self.shared.ledger.written_seq()).await?;
        if batch.is_empty() {
            self.progress.cursor = Some(from);
            return Ok(Shipped::Nothing);
        }
        let more = batch.len() >= self.pace.records().min(BATCH_RECORDS as usize);
        batch.truncate(self.pace.records());
        let asked = Instant::now();
        let ensured = within(patience, self.partitions.ensure(connection, &batch)).await;
        self.in_time(ensured, asked)?;
        self.set_aside_unreadable(&batch).await?;
        self.ship_parts(connection, &batch, from, life).await?;
        Ok(if more { Shipped::Some } else { Shipped::All })
    }

    /// Takes note whether PostgreSQL has answered in time a question that is small at any pace.
    fn in_time<T, E: Into<ShipError>>(
        &mut self,
        result: Result<Result<T, E>, ShipError>,
        asked: Instant,
    ) -> Result<T, ShipError> {
        match &result {
            Ok(_) => self.pace.answered(asked.elapsed()),
            Err(_) => self.pace.timed_out(0),
        }
        result?.map_err(Into::into)
    }
}

/// The outcome, unless it takes longer.
async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Result<T, ShipError> {
    timeout(patience, work).await.map_err(|_| ShipError::TimedOut(patience))
}
