//! How the database is doing, for somebody who asks now and then: versions, partitions, clock, gaps.
//!
//! Reads only, over one connection of its own, which it closes again. Nothing on the way of a record uses it.

use crate::{
    backlog::Gap, chain::chain, columns::TABLE, migrate::SCHEMA_VERSION, postgres, postgres_url::PostgresUrl,
};
use deadpool_postgres::PoolError;
use mcpmeter_observer::Timestamp;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;
use tokio_postgres::{Client, Error};

/// How long all questions together may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the database says.
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// The version of the schema; absent if there is none.
    pub schema_version: Option<i32>,
    /// How long the shortest question took.
    pub round_trip: Duration,
    /// By how many seconds its clock is ahead of ours; as exact as half of `round_trip`.
    pub clock_ahead_seconds: f64,
    /// Days after today that have a partition, up to 7; absent if the table is not partitioned by us.
    pub days_ahead: Option<u32>,
    /// Rows in the default partition, counted up to 1,000; there should be none.
    pub default_partition_rows: u64,
    /// What proxies have lost in the last 7 days, the newest first; all proxies of this database.
    pub gaps: Vec<Gap>,
}

/// Why the database says nothing; texts are without secrets.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SurveyError {
    /// It cannot be connected to, or does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// It is there and refuses the question.
    #[error("{0}")]
    Refused(String),
}

impl Database {
    /// Asks the database of the URL.
    pub async fn survey(url: &PostgresUrl) -> Result<Self, SurveyError> {
        let unreachable = |text: String| SurveyError::Unreachable(url.redact(&text));
        let pool = postgres::pool(url, 1).map_err(|error| unreachable(chain(&error)))?;
        let asking = async {
            let connection = match pool.get().await {
                Ok(connection) => connection,
                Err(PoolError::Backend(error)) if error.code().is_some() => return Err(refused(url, &error)),
                Err(error) => return Err(unreachable(chain(&error))),
            };
            ask(&connection).await.map_err(|error| {
                if error.is_closed() { unreachable(chain(&error)) } else { refused(url, &error) }
            })
        };
        let late = || unreachable(format!("no answer within {} seconds", PATIENCE.as_secs()));
        let result = timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(late()));
        pool.close();
        result
    }
}

/// A server that is starting or stopping says so (class 57), and is as good as none.
fn refused(url: &PostgresUrl, error: &Error) -> SurveyError {
    let text = url.redact(&chain(error));
    match error.code() {
        Some(code) if code.code().starts_with("57") => SurveyError::Unreachable(text),
        _ => SurveyError::Refused(text),
    }
}

async fn ask(client: &Client) -> Result<Database, Error> {
    let (round_trip, clock_ahead_seconds) = compare_clocks(client).await?;
    let mut database = Database {
        schema_version: None,
        round_trip,
        clock_ahead_seconds,
        days_ahead: None,
        default_partition_rows: 0,
        gaps: Vec::new(),
    };
    if !exists(client, "mcpmeter.schema_version").await? {
        return Ok(database);
    }
    let version = "select max(version) from mcpmeter.schema_version";
    database.schema_version = client.query_typed_one(version, &[]).await?.try_get(0)?;
    if database.schema_version != Some(SCHEMA_VERSION) {
        return Ok(database);
    }
    database.days_ahead = count_days_ahead(client).await?;
    if exists(client, &format!("mcpmeter.{TABLE}_default")).await? {
        let rows = format!("select count(*) from (select from mcpmeter.{TABLE}_default limit 1000) as stray");
        let rows: i64 = client.query_typed_one(&rows, &[]).await?.try_get(0)?;
        database.default_partition_rows = rows.unsigned_abs();
    }
    database.gaps = read_gaps(client).await?;
    Ok(database)
}

async fn compare_clocks(client: &Client) -> Result<(Duration, f64), Error> {
    let (began, asked) = (Instant::now(), SystemTime::now());
    let now = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let theirs: i64 = client.query_typed_one(now, &[]).await?.try_get(0)?;
    let took = began.elapsed();
    let ours = (asked + took / 2).duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((took, theirs as f64 / 1e6 - ours.as_secs_f64()))
}

async fn exists(client: &Client, table: &str) -> Result<bool, Error> {
    // The name is one of ours, spelled in this file.
    let sql = format!("select to_regclass('{table}') is not null");
    client.query_typed_one(&sql, &[]).await?.try_get(0)
}

/// `None` where somebody else (a hypertable) makes the partitions.
async fn count_days_ahead(client: &Client) -> Result<Option<u32>, Error> {
    let sql = format!(
        "select case when exists (select from pg_partitioned_table where partrelid = 'mcpmeter.{TABLE}'::regclass)
                then (select count(*) from generate_series(1, 7) as days (ahead)
                      where to_regclass('mcpmeter.{TABLE}_'
                        || to_char((now() at time zone 'UTC')::date + ahead, 'YYYYMMDD')) is not null) end"
    );
    let days: Option<i64> = client.query_typed_one(&sql, &[]).await?.try_get(0)?;
    Ok(days.and_then(|days| u32::try_from(days).ok()))
}

async fn read_gaps(client: &Client) -> Result<Vec<Gap>, Error> {
    let sql = "
        select (extract(epoch from from_at) * 1000000)::bigint, (extract(epoch from to_at) * 1000000)::bigint,
               calls, reason
        from mcpmeter.mcp_log_gap where to_at >= now() - interval '7 days' order by to_at desc limit 1000";
    let rows = client.query_typed(sql, &[]).await?;
    let gap = |row: &tokio_postgres::Row| {
        Ok(Gap {
            from: Timestamp(row.try_get(0)?),
            to: Timestamp(row.try_get(1)?),
            calls: row.try_get::<_, i64>(2)?.unsigned_abs(),
            reason: row.try_get(3)?,
        })
    };
    rows.iter().map(gap).collect()
}
