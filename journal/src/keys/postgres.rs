//! Keys in PostgreSQL, over few connections of its own, and through PgBouncer in transaction mode (see `postgres`).

use super::{ApiKey, Change, KeyError, only, statement};
use crate::{
    chain::chain,
    columns::Kind,
    postgres::{discard, pool},
    postgres_url::PostgresUrl,
    tls::TlsError,
    value::Value,
};
use deadpool_postgres::{Object, Pool, PoolError, Transaction};
use mcpmeter_observer::{Text, Timestamp};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::{
    Error,
    types::{ToSql, Type},
};

/// One for what is asked every second, one for uses.
const POOL: usize = 2;
/// How long anything may take: a revocation is known that much later at most, where one of several servers has died
/// without a word.
const PATIENCE: Duration = Duration::from_secs(10);
/// A lock is held for milliseconds, unless somebody sits at a console.
const LIMITS: &str = "set local statement_timeout = '8s'; set local lock_timeout = '5s'";
/// What stands before the names of tables.
const SCHEMA: &str = "mcpmeter.";

/// The database with its keys.
pub(super) struct KeyDatabase {
    pool: Pool,
    url: PostgresUrl,
}

impl KeyDatabase {
    pub(super) fn new(url: &PostgresUrl) -> Result<Self, TlsError> {
        Ok(Self { pool: pool(url, POOL)?, url: url.clone() })
    }

    /// The rows that answer a statement.
    pub(super) async fn read(
        &self,
        sql: &str,
        given: &[(Value<'static>, Kind)],
    ) -> Result<Vec<Vec<Value<'static>>>, KeyError> {
        self.transact(async |transaction| Ok((ask(transaction, sql, given).await?, false))).await
    }

    /// A new key.
    pub(super) async fn insert(&self, key: &ApiKey) -> Result<(), KeyError> {
        self.transact(async |transaction| {
            let revision = next_revision(transaction).await?;
            let given = statement::insert_values(key, revision);
            let taken = ask(transaction, &statement::insert(SCHEMA), &given).await?.is_empty();
            if taken { Err(KeyError::Taken { id: key.id.to_string() }.into()) } else { Ok(((), true)) }
        })
        .await
    }

    /// Changes the only key whose id begins so.
    pub(super) async fn change(&self, id: &str, change: Change) -> Result<ApiKey, KeyError> {
        self.transact(async move |transaction| {
            let revision = next_revision(transaction).await?;
            let given = [statement::text(id.to_owned())];
            let found = statement::read_keys(ask(transaction, &statement::matching(SCHEMA), &given).await?)?;
            let mut key = only(id, found.into_iter().map(|(key, _)| key).collect())?;
            let has_changed = change(&mut key)?;
            if has_changed {
                let given = statement::update_values(&key, revision);
                ask(transaction, &statement::update(SCHEMA), &given).await?;
            }
            Ok((key, has_changed))
        })
        .await
    }

    /// Notes uses. Several proxies may do so for the same keys: all of them lock these in the same order.
    pub(super) async fn touch(&self, uses: &[(Text, Timestamp)]) -> Result<(), KeyError> {
        let ids: Vec<&str> = uses.iter().map(|(id, _)| &**id).collect();
        let instants: Vec<i64> = uses.iter().map(|(_, at)| at.0).collect();
        let note = format!(
            "with used as (select id, timestamptz 'epoch' + us * interval '1 microsecond' as at
                           from unnest($1, $2) as used (id, us)),
                  held as materialized (select id from {SCHEMA}{table} where id = any ($1) order by id for no key update)
             update {SCHEMA}{table} as key set last_used_at = used.at
             from used join held using (id)
             where key.id = used.id and coalesce(key.last_used_at < used.at, true)",
            table = statement::TABLE
        );
        self.transact(async |transaction| {
            let given: [(&(dyn ToSql + Sync), Type); 2] =
                [(&ids, Type::TEXT_ARRAY), (&instants, Type::INT8_ARRAY)];
            transaction.query_typed(&note, &given).await?;
            Ok(((), true))
        })
        .await
    }

    /// Does the work in a transaction, which is committed if the work says that it has changed something.
    async fn transact<T>(
        &self,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<(T, bool), Failure>,
    ) -> Result<T, KeyError> {
        let mut connection = match self.pool.get().await {
            Ok(connection) => connection,
            Err(PoolError::Backend(error)) => return Err(KeyError::of_postgres(&self.url, &error)),
            Err(error) => return Err(KeyError::Unreachable(self.url.redact(&chain(&error)))),
        };
        match timeout(PATIENCE, attempt(&mut connection, work)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Failure::Key(error))) => Err(error),
            Ok(Err(Failure::Postgres(error))) => {
                discard(connection);
                Err(KeyError::of_postgres(&self.url, &error))
            }
            Err(_) => {
                discard(connection);
                Err(KeyError::Unreachable(format!("no answer within {} seconds", PATIENCE.as_secs())))
            }
        }
    }
}

/// What a transaction may fail by.
enum Failure {
    Key(KeyError),
    Postgres(Error),
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

async fn attempt<T>(
    connection: &mut Object,
    work: impl AsyncFnOnce(&Transaction<'_>) -> Result<(T, bool), Failure>,
) -> Result<T, Failure> {
    let transaction = connection.transaction().await?;
    transaction.batch_execute(LIMITS).await?;
    // What is dropped is rolled back, before anything else on this connection.
    let (result, has_changed) = work(&transaction).await?;
    if has_changed {
        transaction.commit().await?;
    }
    Ok(result)
}

async fn next_revision(transaction: &Transaction<'_>) -> Result<i64, Error> {
    transaction.query_typed_one(&statement::next_revision(SCHEMA), &[]).await?.try_get(0)
}

async fn ask(
    transaction: &Transaction<'_>,
    sql: &str,
    given: &[(Value<'_>, Kind)],
) -> Result<Vec<Vec<Value<'static>>>, Error> {
    let given: Vec<(&(dyn ToSql + Sync), Type)> =
        given.iter().map(|(value, kind)| (value as &(dyn ToSql + Sync), kind.postgres_type())).collect();
    let rows = transaction.query_typed(sql, &given).await?;
    rows.iter().map(|row| (0..row.len()).map(|place| row.try_get(place)).collect()).collect()
}
