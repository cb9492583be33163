//! Brings a database to the version of `schema.sql` that this mcpmeter was built with.
//!
//! A database that has it already is only given the partitions of the coming week, so that a hundred starting
//! proxies do not queue for locks on the log. Two that migrate at once are ordered by a lock inside the file.

use crate::{postgres::pool, postgres_url::PostgresUrl, tls::TlsError};
use tokio_postgres::Client;

/// The only DDL for PostgreSQL.
const SCHEMA: &str = include_str!("../../schema.sql");
/// The version that the file's first line states.
pub const SCHEMA_VERSION: i32 = 6;

/// What a migration found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// The version that was there; absent in a database that mcpmeter had never seen.
    pub from: Option<i32>,
    /// The version that is there now, with partitions for today and the coming week.
    pub to: i32,
}

/// Why a database could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A newer mcpmeter has been here.
    #[error(
        "the database has schema version {found}, this mcpmeter knows {SCHEMA_VERSION}: upgrade mcpmeter"
    )]
    Newer {
        /// The version that is there.
        found: i32,
    },
    /// No connection.
    #[error("cannot connect to PostgreSQL")]
    Connect(#[from] deadpool_postgres::PoolError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// PostgreSQL refused a statement.
    #[error("cannot apply the schema")]
    Apply(#[from] tokio_postgres::Error),
}

impl MigrateError {
    /// Whether PostgreSQL was not there at all, as opposed to there and unwilling.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect(_))
    }
}

/// Applies `schema.sql` to the database if it has not been; otherwise only makes missing partitions.
pub async fn migrate(url: &PostgresUrl) -> Result<Migration, MigrateError> {
    let pool = pool(url, 1)?;
    let connection = pool.get().await?;
    let migration = apply(&connection).await;
    pool.close();
    migration
}

/// The same over a connection that is there already.
pub(crate) async fn apply(client: &Client) -> Result<Migration, MigrateError> {
    let from = version(client).await?;
    match from {
        Some(found) if found > SCHEMA_VERSION => return Err(MigrateError::Newer { found }),
        Some(SCHEMA_VERSION) => {}
        _ => client.batch_execute(SCHEMA).await?,
    }
    let week = "select mcpmeter.ensure_partitions(now(), now() + interval '7 days')";
    client.query_typed_one(week, &[]).await?;
    Ok(Migration { from, to: SCHEMA_VERSION })
}

/// The version that is there.
pub(crate) async fn version(client: &Client) -> Result<Option<i32>, tokio_postgres::Error> {
    let known =
        client.query_typed_one("select to_regclass('mcpmeter.schema_version') is not null", &[]).await?;
    if !known.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    client.query_typed_one("select max(version) from mcpmeter.schema_version", &[]).await?.try_get(0)
}
