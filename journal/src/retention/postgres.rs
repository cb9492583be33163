//! Retention in PostgreSQL: partitions ahead, the alarm over the default partition, days that go, days that are
//! compressed, samples of processes and bodies that go.
//!
//! What a step needs the whole log for takes milliseconds, and it waits for it no longer than that: behind a
//! long report it gives up and comes again, each time with a little more patience, up to half a second.
//! By which clock a day is old is PostgreSQL's; a proxy whose clock is wrong deletes nothing.

use crate::{
    body, chain::chain, columns::Kind, journal::Shared, open::Retention, partitions::AHEAD_DAYS,
    postgres::discard, rollup, sample::TABLE, value::Value,
};
use deadpool_postgres::{Object, Pool, PoolError, Transaction};
use mcpmeter_observer::Timestamp;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_postgres::{
    IsolationLevel,
    error::SqlState,
    types::{ToSql, Type},
};
use tracing::{error, info, warn};

/// How often each thing is looked at, unless somebody was in the way the last time.
const PERIOD: Duration = Duration::from_secs(60);
/// How long a lock is waited for at first, and at most.
const PATIENCE: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
/// Steps in one round; more wait for the next.
const STEPS: usize = 100;
const DAY_US: i64 = 86_400_000_000;
/// Whether a day was begun to be compressed and not finished, before that was switched off.
const HALF_COMPRESSED: &str = "
    select exists (select from pg_class where relnamespace = 'mcpmeter'::regnamespace and relkind = 'r'
                                          and relname ~ '^mcp_server_request_log_[0-9]{8}_(old|new)$'
                                          and obj_description(oid, 'pg_class') ~ ', (compressed|exchanged)$')";
/// The version of `schema.sql` that has everything used here.
const SINCE_VERSION: &str = "select to_regclass('mcpmeter.mcp_call_body') is not null";
const PARTITIONED: &str = "select exists (select from pg_partitioned_table
                                          where partrelid = 'mcpmeter.mcp_server_request_log'::regclass)";
/// Samples that are deleted in one step.
const SAMPLES: u64 = 10_000;
/// Bodies that are.
const BODIES: u64 = 5_000;

/// The log's tables.
pub(crate) struct Tables {
    pool: Pool,
    retention: Retention,
    shared: Arc<Shared>,
    /// When to look next.
    due: Instant,
    patience: Duration,
    complaint: String,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error("cannot connect")]
    Connect(#[from] PoolError),
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
}

impl RetentionError {
    /// Somebody held a lock for longer than we wait, or changed what we were about to.
    fn is_busy(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        error.code().is_some_and(|code| {
            *code == SqlState::LOCK_NOT_AVAILABLE
                || *code == SqlState::T_R_DEADLOCK_DETECTED
                || *code == SqlState::T_R_SERIALIZATION_FAILURE
        })
    }
}

impl Tables {
    pub(super) fn new(pool: Pool, retention: Retention, shared: Arc<Shared>) -> Self {
        let patience = PATIENCE[0];
        Self { pool, retention, shared, due: Instant::now(), patience, complaint: String::new() }
    }

    /// Does what there is to do, if it is time to look.
    pub(super) async fn round(&mut self) {
        if Instant::now() >= self.due {
            self.round_at_once().await;
        }
    }

    /// Does what there is to do.
    pub(super) async fn round_at_once(&mut self) {
        match self.try_round().await {
            Ok(ready) => {
                self.complaint.clear();
                self.patience = PATIENCE[0];
                if ready {
                    self.due = Instant::now() + PERIOD;
                }
            }
            Err(error) if error.is_busy() => self.patience = (self.patience * 2).min(PATIENCE[1]),
            // The shipper says that, and what it means.
            Err(RetentionError::Connect(_)) => {}
            Err(error) => self.complain(&chain(&error)),
        }
    }

    fn complain(&mut self, text: &str) {
        if self.complaint != text {
            warn!(error = text, "cannot keep the tables in PostgreSQL in shape");
            text.clone_into(&mut self.complaint);
        }
        self.due = Instant::now() + PERIOD;
    }

    /// False if the tables are not there yet.
    async fn try_round(&mut self) -> Result<bool, RetentionError> {
        let mut connection = self.pool.get().await?;
        let result = self.work_over(&mut connection).await;
        if result.is_err() {
            discard(connection);
        }
        result
    }

    async fn work_over(&self, connection: &mut Object) -> Result<bool, RetentionError> {
        if !connection.query_typed_one(SINCE_VERSION, &[]).await?.try_get::<_, bool>(0)? {
            return Ok(false);
        }
        self.look_at_default_partition(connection).await?;
        self.make_partitions_ahead(connection).await?;
        // What is to go need not be compressed first.
        if self.retention.days > 0 {
            let isolation = if connection.query_typed_one(PARTITIONED, &[]).await?.try_get(0)? {
                // Waits for the lock first and looks then.
                IsolationLevel::ReadCommitted
            } else {
                // Nothing locks the day: a call that comes while its cells are being kept is not seen, and stays.
                IsolationLevel::RepeatableRead
            };
            self.repeat(connection, self.retention.days, isolation, Self::drop_a_day).await?;
        }
        let compress = self.retention.compress_after_days;
        if compress > 0 || connection.query_typed_one(HALF_COMPRESSED, &[]).await?.try_get(0)? {
            let isolation = IsolationLevel::ReadCommitted;
            self.repeat(connection, compress, isolation, Self::compress_a_little).await?;
        }
        let days = self.retention.sample_days();
        self.repeat(connection, days, IsolationLevel::ReadCommitted, Self::delete_samples).await?;
        let days = self.retention.days_of_bodies();
        self.repeat(connection, days, IsolationLevel::ReadCommitted, Self::delete_bodies).await?;
        Ok(true)
    }

    async fn look_at_default_partition(&self, connection: &Object) -> Result<(), RetentionError> {
        let rows = connection.query_typed_one("select mcpmeter.default_partition_rows()", &[]).await?;
        let rows = rows.try_get::<_, i64>(0)?.unsigned_abs();
        if self.shared.notice.tell_default_partition(rows) {
            error!(
                rows,
                "calls lie in mcp_server_request_log_default, where they keep their days from having partitions: \
                 run \"select mcpmeter.empty_default_partition()\" as the owner of the tables"
            );
        }
        Ok(())
    }

    async fn make_partitions_ahead(&self, connection: &mut Object) -> Result<(), RetentionError> {
        let transaction = self.begin(connection, IsolationLevel::ReadCommitted).await?;
        let ahead = format!("select mcpmeter.ensure_partitions(now(), now() + interval '{AHEAD_DAYS} days')");
        match transaction.query_typed(&ahead, &[]).await {
            Ok(_) => transaction.commit().await?,
            // Rows in the default partition are in the way, which has just been said.
            Err(error) if error.code() == Some(&SqlState::CHECK_VIOLATION) => transaction.rollback().await?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes steps, each in a transaction of its own, until there is nothing more to do.
    async fn repeat(
        &self,
        connection: &mut Object,
        days: u32,
        isolation: IsolationLevel,
        step: impl AsyncFn(&Transaction<'_>, i32) -> Result<bool, RetentionError>,
    ) -> Result<(), RetentionError> {
        let Ok(days) = i32::try_from(days) else { return Ok(()) };
        for _ in 0..STEPS {
            let transaction = self.begin(connection, isolation).await?;
            let more = step(&transaction, days).await?;
            transaction.commit().await?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// A transaction that waits for no lock, and whose work may take as long as a large day needs.
    async fn begin<'a>(
        &self,
        connection: &'a mut Object,
        isolation: IsolationLevel,
    ) -> Result<Transaction<'a>, RetentionError> {
        let transaction = connection.build_transaction().isolation_level(isolation).start().await?;
        let patience_ms = self.patience.as_millis();
        let settings = format!("set local lock_timeout = {patience_ms}; set local statement_timeout = 0");
        transaction.batch_execute(&settings).await?;
        Ok(transaction)
    }

    /// Drops the oldest day if it is too old; false if it is not.
    async fn drop_a_day(transaction: &Transaction<'_>, days: i32) -> Result<bool, RetentionError> {
        let days = Value::Int(days.into());
        let parameters = [(&days as &(dyn ToSql + Sync), Type::INT4)];
        let found = transaction.query_typed_one("select mcpmeter.lock_expired_day($1)", &parameters).await?;
        let Value::Time(start) = found.try_get(0)? else { return Ok(false) };
        let end = Timestamp(start.0.saturating_add(DAY_US));
        if !rollup::keep_postgres(transaction, start..end).await? {
            return Ok(false);
        }
        let day = Value::Time(start);
        let parameters = [(&day as &(dyn ToSql + Sync), Kind::Timestamp.postgres_type())];
        transaction.query_typed_one("select mcpmeter.drop_day($1)", &parameters).await?;
        info!(
            day = crate::value::rfc3339(start),
            "the calls of a day have reached their age and are deleted"
        );
        Ok(true)
    }

    /// Takes the next step of compressing the oldest day; false if there is none.
    async fn compress_a_little(transaction: &Transaction<'_>, days: i32) -> Result<bool, RetentionError> {
        let days = Value::Int(days.into());
        let parameters = [(&days as &(dyn ToSql + Sync), Type::INT4)];
        let done = transaction.query_typed_one("select mcpmeter.compress_next($1)", &parameters).await?;
        let Some(done) = done.try_get::<_, Option<String>>(0)? else { return Ok(false) };
        info!(done, "compressing the calls of a day");
        Ok(true)
    }

    /// Deletes some bodies that are too old; false if there are no more.
    async fn delete_bodies(transaction: &Transaction<'_>, days: i32) -> Result<bool, RetentionError> {
        let (days, table) = (Value::Int(days.into()), body::TABLE);
        let delete = format!(
            "delete from mcpmeter.{table} where (call_id, side) in (
               select call_id, side from mcpmeter.{table}
               where created_at < now() - make_interval(days => $1) order by created_at limit {BODIES})"
        );
        let parameters = [(&days as &(dyn ToSql + Sync), Type::INT4)];
        Ok(transaction.execute_typed(&delete, &parameters).await? == BODIES)
    }

    /// Deletes some samples of processes that are too old; false if there are no more.
    async fn delete_samples(transaction: &Transaction<'_>, days: i32) -> Result<bool, RetentionError> {
        let days = Value::Int(days.into());
        let delete = format!(
            "delete from mcpmeter.{TABLE} where (instance_id, at, spool_id) in (
               select instance_id, at, spool_id from mcpmeter.{TABLE}
               where at < now() - make_interval(days => $1) order by at limit {SAMPLES})"
        );
        let parameters = [(&days as &(dyn ToSql + Sync), Type::INT4)];
        Ok(transaction.execute_typed(&delete, &parameters).await? == SAMPLES)
    }
}
