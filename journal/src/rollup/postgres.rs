//! Rolling up in PostgreSQL: one transaction per round of buckets, by whichever proxy holds the lock.
//!
//! 1. The lock of the leader, `pg_try_advisory_xact_lock`: who does not get it has nothing to do. It ends with
//!    the transaction, also when the leader dies, and is safe behind PgBouncer.
//! 2. The marks of buckets that are closed and quiet, with their versions.
//! 3. The cells of those buckets anew from the rows, all in one statement (`statement`); then of the hours and days
//!    that hold them, from the cells of the next shorter span. Each statement sees what was committed before it,
//!    hence every row whose mark was seen in step 2.
//! 4. The marks that nobody has renewed are deleted. One that a shipper holds at this moment is left alone: its
//!    bucket will be made again.
//!
//! Whatever interrupts it, the transaction is undone and the marks are still there. Nobody who stores rows
//! waits for more than step 4 and its commit.

use super::{
    bucket::{Span, containing},
    pace::Pace,
    statement,
    tables::Subject,
};
use crate::{columns::Kind, postgres::discard, value::Value};
use deadpool_postgres::{Pool, Transaction};
use mcpmeter_observer::Timestamp;
use std::time::{Duration, Instant};
use tokio_postgres::{error::SqlState, types::Type};

/// The leader's lock: "mcprolls" in ASCII.
pub(super) const LEADER: i64 = i64::from_be_bytes(*b"mcprolls");
/// A bucket of a hundred thousand calls a second takes minutes. A leader that vanishes gives the lock up soon.
/// PostgreSQL guesses that a bucket is a ninth of everything, and would spend seconds on machine code for that.
const SETTINGS: &str = "
    set local statement_timeout = '10min';
    set local jit = off;
    set local idle_in_transaction_session_timeout = '60s';
    set local tcp_keepalives_idle = 30;
    set local tcp_keepalives_interval = 10;
    set local tcp_keepalives_count = 3";

/// Why PostgreSQL's rollups could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostgresRollupError {
    #[error("cannot connect to PostgreSQL")]
    Connect(#[from] deadpool_postgres::PoolError),
    #[error("cannot roll up in PostgreSQL")]
    Postgres(#[from] tokio_postgres::Error),
}

impl PostgresRollupError {
    /// Whether the shipper will have more to say about it: no connection, or no schema yet.
    pub(super) fn is_somebody_elses(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Postgres(error) => {
                error.is_closed()
                    || matches!(
                        error.code(),
                        Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME)
                    )
            }
        }
    }
}

/// PostgreSQL, as far as rollups need it.
pub(super) struct PostgresStore {
    pool: Pool,
    pace: Pace,
}

impl PostgresStore {
    pub(super) const fn new(pool: Pool) -> Self {
        Self { pool, pace: Pace::new() }
    }

    /// Rolls up some of the buckets that are ready and says how many; 0 if somebody else is at it.
    pub(super) async fn roll_up(&mut self, quiet: Duration) -> Result<usize, PostgresRollupError> {
        let mut connection = self.pool.get().await?;
        let (began, most) = (Instant::now(), self.pace.buckets());
        let done = async {
            let transaction = connection.transaction().await?;
            transaction.batch_execute(SETTINGS).await?;
            let done =
                if lead(&transaction).await? { roll_up_ready(&transaction, quiet, most).await? } else { 0 };
            transaction.commit().await?;
            Ok(done)
        }
        .await;
        match &done {
            Ok(buckets) => self.pace.took(*buckets, began.elapsed()),
            Err(_) => {
                self.pace.failed(began.elapsed());
                discard(connection);
            }
        }
        done
    }
}

/// Tries to be the leader until the end of the transaction.
pub(super) async fn lead(transaction: &Transaction<'_>) -> Result<bool, tokio_postgres::Error> {
    let key = Value::Int(LEADER);
    let lock = "select pg_try_advisory_xact_lock($1)";
    transaction.query_typed_one(lock, &[(&key, Kind::BigInt.postgres_type())]).await?.try_get(0)
}

async fn roll_up_ready(
    transaction: &Transaction<'_>,
    quiet: Duration,
    most: u32,
) -> Result<usize, tokio_postgres::Error> {
    let marks = Marks::of(transaction, &ready(transaction, quiet, most).await?).await?;
    for span in Span::ALL {
        renew(transaction, span, &containing(span, &marks.buckets)).await?;
    }
    marks.delete(transaction).await?;
    Ok(marks.buckets.len())
}

/// The newest buckets that are closed and have not been marked for a while, by PostgreSQL's own clock.
async fn ready(
    transaction: &Transaction<'_>,
    quiet: Duration,
    most: u32,
) -> Result<Vec<Value<'static>>, tokio_postgres::Error> {
    // A mark from the future is one of a clock that was set back since.
    let select = format!(
        "select bucket_start from mcpmeter.rollup_dirty group by bucket_start
         having bucket_start <= now() - interval '5 minutes'
            and (max(marked_at) <= now() - $1 * interval '1 second' or max(marked_at) > now() + interval '1 minute')
         order by bucket_start desc limit {most}"
    );
    let quiet = Value::Float(quiet.as_secs_f64());
    let rows = transaction.query_typed(&select, &[(&quiet, Kind::Double.postgres_type())]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The marks as they were before the rows were read: three columns.
struct Marks {
    buckets: Vec<Timestamp>,
    starts: Vec<Value<'static>>,
    spools: Vec<Value<'static>>,
    versions: Vec<Value<'static>>,
}

impl Marks {
    async fn of(
        transaction: &Transaction<'_>,
        ready: &Vec<Value<'static>>,
    ) -> Result<Self, tokio_postgres::Error> {
        let select = "select bucket_start, spool_id, version from mcpmeter.rollup_dirty
                      where bucket_start = any($1) order by bucket_start";
        let rows = transaction.query_typed(select, &[(ready, Type::TIMESTAMPTZ_ARRAY)]).await?;
        let column = |place| rows.iter().map(|row| row.try_get(place)).collect::<Result<Vec<_>, _>>();
        let (starts, spools, versions) = (column(0)?, column(1)?, column(2)?);
        let instant = |value: &Value<'_>| if let Value::Time(at) = value { Some(*at) } else { None };
        let mut buckets: Vec<_> = starts.iter().filter_map(instant).collect();
        buckets.dedup();
        Ok(Self { buckets, starts, spools, versions })
    }

    async fn delete(&self, transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
        let delete = "delete from mcpmeter.rollup_dirty where (bucket_start, spool_id) in (
                        select mark.bucket_start, mark.spool_id
                        from mcpmeter.rollup_dirty as mark
                        join unnest($1, $2, $3) as seen (bucket_start, spool_id, version)
                          on mark.bucket_start = seen.bucket_start and mark.spool_id = seen.spool_id
                         and mark.version = seen.version
                        for update of mark skip locked)";
        let parameters = [
            (&self.starts as _, Type::TIMESTAMPTZ_ARRAY),
            (&self.spools as _, Type::UUID_ARRAY),
            (&self.versions as _, Type::INT8_ARRAY),
        ];
        transaction.execute_typed(delete, &parameters).await.map(drop)
    }
}

/// Makes the cells of the buckets, which begin at these instants in their order, anew.
async fn renew(
    transaction: &Transaction<'_>,
    span: Span,
    starts: &[Timestamp],
) -> Result<(), tokio_postgres::Error> {
    let [Some(first), Some(last)] = [starts.first(), starts.last()] else { return Ok(()) };
    let (timestamp, timestamps) = (Kind::Timestamp.postgres_type(), Type::TIMESTAMPTZ_ARRAY);
    let (from, to) = (Value::Time(*first), Value::Time(span.end_of(*last)));
    let [begin, end] = instants(span, starts);
    let buckets = [
        (&begin as _, timestamps.clone()),
        (&end as _, timestamps),
        (&from as _, timestamp.clone()),
        (&to as _, timestamp),
    ];
    for subject in Subject::ALL {
        transaction.execute_typed(&statement::delete(span, subject), &buckets[..1]).await?;
        transaction.execute_typed(&statement::insert(span, subject), &buckets).await?;
    }
    Ok(())
}

/// When the buckets begin and when they end: the arrays that the statements take them from.
pub(super) fn instants(span: Span, starts: &[Timestamp]) -> [Vec<Value<'static>>; 2] {
    let begin = starts.iter().map(|start| Value::Time(*start)).collect();
    let end = starts.iter().map(|start| Value::Time(span.end_of(*start))).collect();
    [begin, end]
}
