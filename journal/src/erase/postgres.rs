//! PostgreSQL: every table that holds days, and the usage tables. In transactions that lock nothing but the rows they
//! change, while proxies store and people read. Through PgBouncer as well, as everything here.
//!
//! No day is being compressed meanwhile, for what is copied then would come back: the lock of that is held by a
//! transaction of its own, which does nothing else.

use super::{EraseError, EraseReport, Erasure, Manner, bodies, days};
use crate::{
    body,
    columns::Kind,
    migrate::{self, SCHEMA_VERSION},
    postgres::{discard, pool},
    postgres_url::PostgresUrl,
    rollup::{self, Span},
    value::Value,
};
use deadpool_postgres::{Object, Pool, Transaction};
use mcpmeter_observer::Timestamp;
use std::{borrow::Cow, collections::BTreeSet};
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};
use uuid::Uuid;

/// For each transaction. A role's limit of time for reports is none for this; and what is said to be erased stays so
/// if the server crashes.
const SETTINGS: &str = "
    set local statement_timeout = '30min';
    set local lock_timeout = '60s';
    set local idle_in_transaction_session_timeout = '60s';
    set local jit = off;
    select set_config('synchronous_commit', 'on', true) where current_setting('synchronous_commit') = 'off'";
/// For the transaction that does nothing. The number is that of `compress_next` in `schema.sql`.
const GUARD: &str = "
    set local lock_timeout = '60s';
    set local idle_in_transaction_session_timeout = 0;
    select pg_advisory_xact_lock(7882267387984373108)";
/// Who may vacuum a table, as far as versions before 17 know.
const OWNED: &str = "
    select pg_has_role(relowner, 'usage') or pg_has_role(datdba, 'usage')
    from pg_class cross join pg_database where pg_class.oid = to_regclass($1) and datname = current_database()";

/// A connected database.
pub(super) struct Database {
    pool: Pool,
    connection: Object,
    place: String,
    /// Tables that were changed.
    changed: BTreeSet<String>,
}

/// Keeps days from being compressed.
pub(super) struct Guard(Option<Object>);

impl Database {
    /// Connects, and sees whether it is of this version.
    pub(super) async fn connect(url: &PostgresUrl) -> Result<Self, EraseError> {
        let pool = pool(url, 2)?;
        let connection = pool.get().await?;
        let database = Self { pool, connection, place: url.to_string(), changed: BTreeSet::new() };
        database.has_tables().await?;
        Ok(database)
    }

    /// Whether there is anything to erase: a proxy may be about to make the tables.
    async fn has_tables(&self) -> Result<bool, EraseError> {
        match migrate::version(&self.connection).await.map_err(refused)? {
            Some(found) if found != SCHEMA_VERSION => Err(EraseError::Schema { found }),
            version => Ok(version.is_some()),
        }
    }

    /// From now on no day is compressed, until the guard is dropped.
    pub(super) async fn guard(&self) -> Result<Guard, EraseError> {
        let connection = self.pool.get().await?;
        let guarded = async {
            connection.batch_execute("begin").await?;
            connection.batch_execute(GUARD).await
        };
        let guarded = guarded.await;
        let guard = Guard(Some(connection));
        guarded.map_err(|error| match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => EraseError::Compressing(error),
            _ => refused(error),
        })?;
        Ok(guard)
    }

    /// Goes once through everything that holds calls or usage.
    pub(super) async fn pass(
        &mut self,
        erasure: &Erasure,
        report: &mut EraseReport,
    ) -> Result<(), EraseError> {
        if self.has_tables().await? {
            self.try_pass(erasure, report).await.map_err(refused)?;
        }
        Ok(())
    }

    async fn try_pass(
        &mut self,
        erasure: &Erasure,
        report: &mut EraseReport,
    ) -> Result<(), tokio_postgres::Error> {
        let tables = self.connection.query_typed(days::TABLES, &[]).await?;
        for row in &tables {
            let (table, shown): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let rows = match self.calls(&table, erasure).await {
                // Retention has dropped the day, or the next step of compression has renamed it before we came.
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => 0,
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
                    let text = format!("{table} is named like a day of the log, and is not made like one");
                    report.leave(&self.place, text, "look whether it holds calls, and drop it");
                    continue;
                }
                result => result?,
            };
            report.count(&self.place, &shown, rows);
            if rows > 0 {
                self.changed.insert(table);
            }
        }
        let who = erasure.forgotten();
        for (span, table) in Span::ALL.into_iter().zip(rollup::usage_tables()) {
            let cells = match erasure.manner {
                Manner::Count => rollup::count_postgres(&self.connection, &table, who).await?,
                _ => rollup::forget_postgres(&mut self.connection, SETTINGS, span, who).await?,
            };
            report.count(&self.place, &table, cells);
            if cells > 0 {
                self.changed.insert(format!("mcpmeter.{table}"));
            }
        }
        let gone = bodies::in_postgres(&mut self.connection, SETTINGS, erasure).await?;
        report.count(&self.place, body::TABLE, gone);
        if gone > 0 {
            self.changed.insert(format!("mcpmeter.{}", body::TABLE));
        }
        Ok(())
    }

    /// The calls in one table.
    async fn calls(&mut self, table: &str, erasure: &Erasure) -> Result<u64, tokio_postgres::Error> {
        let (column, text) = (erasure.whose.column(), Kind::Text.postgres_type());
        let id = Value::Text(Cow::Borrowed(erasure.whose.id()));
        let change = match erasure.manner {
            Manner::Count => {
                let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&id, text)];
                let rows = self.connection.query_typed_one(&days::count(table, column), &parameters).await?;
                return Ok(rows.try_get::<_, i64>(0)?.unsigned_abs());
            }
            Manner::Remove => days::remove(table, column),
            Manner::Anonymise => days::anonymise(table, column),
        };
        let [name, salt] =
            [&erasure.name, &erasure.salt].map(|text| Value::Text(Cow::Borrowed(text.as_str())));
        // Before all times.
        let mut after = (Value::Time(Timestamp(i64::MIN)), Value::Uuid(Uuid::nil()));
        let mut changed = 0;
        loop {
            let transaction = self.connection.transaction().await?;
            transaction.batch_execute(SETTINGS).await?;
            let parameters = [
                (&id as &(dyn ToSql + Sync), text.clone()),
                (&after.0, Kind::Timestamp.postgres_type()),
                (&after.1, Kind::Uuid.postgres_type()),
                (&name, text.clone()),
                (&salt, text.clone()),
            ];
            let (found, rows, last) = take(&transaction, &change, &parameters).await?;
            transaction.commit().await?;
            changed += rows;
            if found < u64::from(days::PIECE) {
                return Ok(changed);
            }
            after = last;
        }
    }

    /// How far the outbox has been stored; nothing if nobody has begun to.
    pub(super) async fn cursor(&self, spool_id: Uuid) -> Result<Option<i64>, EraseError> {
        if !self.has_tables().await? {
            return Ok(None);
        }
        let spool_id = Value::Uuid(spool_id);
        let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&spool_id, Kind::Uuid.postgres_type())];
        let select = "select seq from mcpmeter.outbox_cursor where spool_id = $1";
        let row = self.connection.query_typed_opt(select, &parameters).await.map_err(refused)?;
        row.map(|row| row.try_get(0)).transpose().map_err(EraseError::Postgres)
    }

    /// How many other outboxes have stored something in the last 30 days.
    pub(super) async fn other_outboxes(&self, ours: &[Uuid]) -> Result<u64, EraseError> {
        if !self.has_tables().await? {
            return Ok(0);
        }
        let ours: Vec<_> = ours.iter().map(|spool_id| Value::Uuid(*spool_id)).collect();
        let count = "select count(*) from mcpmeter.outbox_cursor
                     where spool_id <> all ($1) and moved_at > now() - interval '30 days'";
        let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&ours, Type::UUID_ARRAY)];
        let others = self.connection.query_typed_one(count, &parameters).await.map_err(refused)?;
        Ok(others.try_get::<_, i64>(0).map_err(EraseError::Postgres)?.unsigned_abs())
    }

    /// Has the old versions of changed rows taken away, from indexes and statistics too.
    pub(super) async fn vacuum(&self, report: &mut EraseReport) -> Result<(), EraseError> {
        for table in &self.changed {
            let name = Value::Text(Cow::Borrowed(table.as_str()));
            let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&name, Kind::Text.postgres_type())];
            let owned = self.connection.query_typed_opt(OWNED, &parameters).await.map_err(refused)?;
            let Some(owned) = owned else { continue };
            let done = if owned.try_get(0).map_err(EraseError::Postgres)? {
                // Without cutting the file, for which it would want the table for itself.
                let vacuum = format!("vacuum (analyze, index_cleanup on, truncate off) {table}");
                self.connection.batch_execute(&vacuum).await
            } else {
                // It would only warn.
                Ok(())
            };
            if done.is_err() || !owned.try_get::<_, bool>(0).map_err(EraseError::Postgres)? {
                report.leave(
                    &self.place,
                    format!("old versions of rows stay in {table} until it is vacuumed"),
                    format!("run \"vacuum (analyze, index_cleanup on) {table}\" as its owner"),
                );
            }
        }
        self.renew_statistics_of_log(report).await
    }

    /// Those of the whole log, which hold frequent values of users too, if somebody has had them made.
    async fn renew_statistics_of_log(&self, report: &mut EraseReport) -> Result<(), EraseError> {
        let made = "select exists (select from pg_stats where schemaname = 'mcpmeter'
                      and tablename = 'mcp_server_request_log' and inherited)";
        let made = self.connection.query_typed_one(made, &[]).await.map_err(refused)?;
        if !self.changed.is_empty()
            && made.try_get(0).map_err(EraseError::Postgres)?
            && self.connection.batch_execute("analyze mcpmeter.mcp_server_request_log").await.is_err()
        {
            report.leave(
                &self.place,
                "statistics of mcpmeter.mcp_server_request_log may hold the id",
                "run \"analyze mcpmeter.mcp_server_request_log\" as its owner",
            );
        }
        Ok(())
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn close(self) {
        self.pool.close();
    }
}

impl Guard {
    /// Whether it has held until now: the server may have ended it.
    pub(super) async fn holds(&self) -> bool {
        match &self.0 {
            Some(connection) => connection.batch_execute("select").await.is_ok(),
            None => false,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Not given back with a transaction open in it, but closed.
        if let Some(connection) = self.0.take() {
            discard(connection);
        }
    }
}

/// One piece: how many rows were found, how many changed, and the key behind which to go on.
async fn take(
    transaction: &Transaction<'_>,
    change: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<(u64, u64, (Value<'static>, Value<'static>)), tokio_postgres::Error> {
    let row = transaction.query_typed_one(change, parameters).await?;
    let count = |place| row.try_get::<_, i64>(place).map(i64::unsigned_abs);
    Ok((count(0)?, count(1)?, (row.try_get(2)?, row.try_get(3)?)))
}

fn refused(error: tokio_postgres::Error) -> EraseError {
    match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => EraseError::Denied(error),
        _ => EraseError::Postgres(error),
    }
}
