//! The task that carries the outbox into PostgreSQL: batch after batch, for ever, whatever happens to the
//! database.
//!
//! At most every 200 ms it reads what is durable beyond the cursor, stores it (`shipment`), and only then lets
//! the writer delete it. After any error the connection is thrown away and the cursor asked for again, which
//! settles what became of a commit that was never answered. It never gives a record up because time has
//! passed; a record that PostgreSQL can never take is set aside (`quarantine`) and counted. It says once that
//! PostgreSQL cannot be used, and once that it can be again.

mod error;
mod progress;

use self::{error::ShipError, progress::Progress};
use crate::{
    backoff::Backoff,
    chain::chain,
    journal::Shared,
    lock::FileLock,
    migrate,
    orders::Orders,
    outbox::{BATCH_RECORDS, Entry},
    outbox_reader::OutboxReader,
    partitions::Partitions,
    postgres::discard,
    postgres_url::PostgresUrl,
    quarantine::Misfit,
    shipment::{self, Leg, ShipmentError},
};
use deadpool_postgres::{ClientWrapper, Object, Pool};
use mcpmeter_observer::CallRecord;
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};
use uuid::Uuid;

/// The shortest time between two batches, unless one was full.
const PERIOD: Duration = Duration::from_millis(200);
/// How long one batch may take before the connection is taken for dead: a link that stalls says nothing.
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
    spool_id: Uuid,
    progress: Progress,
    partitions: Partitions,
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
    pub(crate) spool_id: Uuid,
    pub(crate) migrate: bool,
    pub(crate) lock: Arc<FileLock>,
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
            spool_id: parts.spool_id,
            partitions: Partitions::default(),
            migrate: parts.migrate,
            contact: Instant::now(),
            backoff: Backoff::new(),
            _lock: parts.lock,
        }
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

    async fn ship_for_ever(&mut self) {
        loop {
            let began = Instant::now();
            let pause = match self.ship_and_tell().await {
                Ok(shipped) if shipped >= BATCH_RECORDS as usize => Duration::ZERO,
                Ok(_) => PERIOD.saturating_sub(began.elapsed()),
                Err(()) => self.backoff.wait(),
            };
            sleep(pause).await;
        }
    }

    async fn ship_the_rest(&mut self) {
        while !self.is_done() {
            match self.ship_and_tell().await {
                // The writer may still be at work; it needs a tick.
                Ok(0) => sleep(Duration::from_millis(10)).await,
                Ok(_) => {}
                Err(()) => sleep(self.backoff.wait()).await,
            }
        }
    }

    /// Whether every finished call is stored or lost.
    fn is_done(&self) -> bool {
        let accounts = self.shared.ledger.snapshot();
        accounts.queued == 0 && accounts.outbox == 0
    }

    /// Ships one batch, and tells the world if it is news whether that worked.
    async fn ship_and_tell(&mut self) -> Result<usize, ()> {
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

    /// Ships one batch and says how many rows it had. Dropping the future at any point is safe.
    async fn ship_next(&mut self) -> Result<usize, ShipError> {
        if self.contact.elapsed() > PING {
            self.progress.cursor = None;
        }
        if self.progress.cursor.is_some() && self.shared.ledger.written_seq() <= self.progress.settled {
            return Ok(0);
        }
        let mut connection = self.pool.get().await?;
        let result = match timeout(BATCH_TIMEOUT, self.ship_over(&mut connection)).await {
            Ok(result) => result,
            Err(_) => Err(ShipError::TimedOut),
        };
        match &result {
            Ok(_) => self.contact = Instant::now(),
            Err(_) => discard(connection),
        }
        result
    }

    async fn ship_over(&mut self, connection: &mut Object) -> Result<usize, ShipError> {
        if self.migrate {
            let done = migrate::apply(connection).await?;
            info!(from = done.from, to = done.to, "the PostgreSQL schema is up to date");
            self.migrate = false;
        }
        let from = match self.progress.cursor {
            Some(cursor) => cursor,
            None => self.settle(connection).await?,
        };
        let batch =
            self.outbox.read(from.max(self.progress.settled), self.shared.ledger.written_seq()).await?;
        let Some(last) = batch.last() else {
            self.progress.cursor = Some(from);
            return Ok(0);
        };
        self.partitions.ensure(connection, &batch).await?;
        self.set_aside_unreadable(&batch).await?;
        let leg = Leg { spool_id: self.spool_id, from, to: last.seq };
        let records: Vec<_> = batch.iter().filter_map(|entry| entry.record.as_ref().ok()).collect();
        match self.attempt(connection, &records, leg).await {
            Ok(()) => {
                let aside = batch.len() - records.len();
                self.progress.arrive(records.len() as u64, aside as u64, leg.to);
            }
            // A partition that is believed to be there may have been dropped.
            Err(error) if error.is_check() && self.partitions.doubt() => return Err(error.into()),
            Err(error) if error.is_for_ever() => self.ship_one_by_one(connection, &batch, from).await?,
            Err(error) => return Err(error.into()),
        }
        Ok(batch.len())
    }

    /// Tries to store the records and to move the cursor.
    async fn attempt(
        &mut self,
        client: &mut ClientWrapper,
        records: &[&CallRecord],
        leg: Leg,
    ) -> Result<(), ShipmentError> {
        self.progress.attempt(leg.to);
        shipment::ship(client, records, leg).await
    }

    /// Some row of the batch can never be stored: stores the others, each on its own.
    async fn ship_one_by_one(
        &mut self,
        connection: &mut Object,
        batch: &[Entry],
        mut from: i64,
    ) -> Result<(), ShipError> {
        warn!(records = batch.len(), "PostgreSQL refuses a batch: storing its calls one by one");
        for entry in batch {
            let leg = Leg { spool_id: self.spool_id, from, to: entry.seq };
            let aside = match self.attempt(connection, entry.record.as_ref().ok().as_slice(), leg).await {
                Ok(()) => entry.record.is_err(),
                Err(error) if error.is_for_ever() => {
                    // A duplicate is stored already: by an earlier life of this outbox.
                    let aside = !error.is_duplicate();
                    if aside {
                        self.set_aside(vec![Misfit { seq: entry.seq, reason: chain(&error) }]).await?;
                    }
                    self.attempt(connection, &[], leg).await?;
                    aside
                }
                Err(error) => return Err(error.into()),
            };
            self.progress.arrive((!aside).into(), aside.into(), entry.seq);
            from = entry.seq;
        }
        Ok(())
    }

    /// Asks PostgreSQL for the cursor and settles what was in doubt.
    async fn settle(&mut self, connection: &mut Object) -> Result<i64, ShipError> {
        let mut cursor = shipment::read_cursor(connection, self.spool_id).await?;
        let settled = self.progress.settled;
        if !self.progress.is_ours(cursor) {
            // This file never sent the rows up to there: it is a copy, or a backup that was put back. Under a
            // new name nothing is taken for stored that is not; what is stored already is refused as a
            // duplicate.
            error!(cursor, settled, "somebody else has moved this outbox's cursor: starting a new one");
            self.spool_id = self.orders.new_spool().await?;
            cursor = shipment::read_cursor(connection, self.spool_id).await?;
        } else if cursor < settled {
            warn!(cursor, settled, "PostgreSQL has lost calls that it had stored: was a backup put back?");
        }
        if cursor < settled {
            let leg = Leg { spool_id: self.spool_id, from: cursor, to: settled };
            self.attempt(connection, &[], leg).await?;
            self.progress.arrive(0, 0, settled);
            return Ok(settled);
        }
        let (stored, aside) = self.outbox.count_between(settled, cursor).await?;
        self.progress.arrive(stored, aside, cursor);
        Ok(cursor)
    }

    async fn set_aside_unreadable(&mut self, batch: &[Entry]) -> Result<(), ShipError> {
        let mut unreadable = Vec::new();
        for entry in batch {
            if let Err(error) = &entry.record {
                unreadable.push(Misfit { seq: entry.seq, reason: chain(error) });
            }
        }
        if unreadable.is_empty() { Ok(()) } else { self.set_aside(unreadable).await }
    }

    async fn set_aside(&mut self, misfits: Vec<Misfit>) -> Result<(), ShipError> {
        for Misfit { seq, reason } in &misfits {
            error!(seq, reason, "a call can never be stored: it is set aside in the table quarantine");
        }
        Ok(self.orders.set_aside(misfits).await?)
    }
}
