//! Rolling up in PostgreSQL: one transaction per round of buckets, by whichever proxy holds the lock.
//!
//! 1. The lock of the leader, `pg_try_advisory_xact_lock`: who does not get it has nothing to do. It ends with
//!    the transaction, also when the leader dies, and is safe behind PgBouncer.
//! 2. The marks of buckets that are closed and quiet, with their versions.
//! 3. The cells of those buckets anew from the rows; then of the hours and days that hold them, from the cells
//!    of the next shorter span. Each statement sees what was committed before it, hence every row whose mark
//!    was seen in step 2.
//! 4. The marks that nobody has renewed are deleted. One that a shipper holds at this moment is left alone: its
//!    bucket will be made again.
//!
//! Whatever interrupts it, the transaction is undone and the marks are still there. Nobody who stores rows
//! waits for more than step 4 and its commit.

use super::{
    bucket::{Span, containing},
    sums::CPU_LIMIT_MS,
    tables::{self, FRACTIONS, Subject, columns, join, whole_numbers},
};
use crate::{
    columns::{Kind, TABLE},
    postgres::discard,
    value::Value,
};
use deadpool_postgres::{Pool, Transaction};
use mcpmeter_observer::{Status, Timestamp};
use std::time::Duration;
use tokio_postgres::{error::SqlState, types::Type};

/// The leader's lock: "mcprolls" in ASCII.
const LEADER: i64 = i64::from_be_bytes(*b"mcprolls");
/// How many buckets one transaction takes: an hour's.
const BUCKETS: u32 = 12;
/// A bucket of a hundred thousand calls a second takes minutes. A leader that vanishes gives the lock up soon.
const SETTINGS: &str = "
    set local statement_timeout = '10min';
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

/// Rolls up some of the buckets that are ready and says how many; 0 if somebody else is at it.
pub(super) async fn roll_up(pool: &Pool, quiet: Duration) -> Result<usize, PostgresRollupError> {
    let mut connection = pool.get().await?;
    let done = async {
        let transaction = connection.transaction().await?;
        transaction.batch_execute(SETTINGS).await?;
        let done = if lead(&transaction).await? { roll_up_ready(&transaction, quiet).await? } else { 0 };
        transaction.commit().await?;
        Ok(done)
    }
    .await;
    if done.is_err() {
        discard(connection);
    }
    done
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
) -> Result<usize, tokio_postgres::Error> {
    let marks = Marks::of(transaction, &ready(transaction, quiet).await?).await?;
    for start in &marks.buckets {
        renew(transaction, Span::FiveMinutes, *start).await?;
    }
    for span in [Span::Hour, Span::Day] {
        for start in containing(span, &marks.buckets) {
            renew(transaction, span, start).await?;
        }
    }
    marks.delete(transaction).await?;
    Ok(marks.buckets.len())
}

/// The newest buckets that are closed and have not been marked for a while, by PostgreSQL's own clock.
async fn ready(
    transaction: &Transaction<'_>,
    quiet: Duration,
) -> Result<Vec<Value<'static>>, tokio_postgres::Error> {
    // A mark from the future is one of a clock that was set back since.
    let select = format!(
        "select bucket_start from mcpmeter.rollup_dirty group by bucket_start
         having bucket_start <= now() - interval '5 minutes'
            and (max(marked_at) <= now() - $1 * interval '1 second' or max(marked_at) > now() + interval '1 minute')
         order by bucket_start desc limit {BUCKETS}"
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

/// Makes the cells of a bucket anew.
async fn renew(
    transaction: &Transaction<'_>,
    span: Span,
    start: Timestamp,
) -> Result<(), tokio_postgres::Error> {
    let timestamp = Kind::Timestamp.postgres_type();
    let (from, to) = (Value::Time(start), Value::Time(span.end_of(start)));
    let range = [(&from as _, timestamp.clone()), (&to as _, timestamp)];
    for subject in Subject::ALL {
        let table = tables::name(span, subject);
        let delete = format!("delete from mcpmeter.{table} where bucket_start = $1 and kept_at is null");
        transaction.execute_typed(&delete, &range[..1]).await?;
        let cells = match span.lower() {
            None => cells_of_rows(subject, "created_at >= $1 and created_at < $2"),
            Some(lower) => cells_of_cells(lower, subject),
        };
        let columns = columns(subject);
        let insert = format!("insert into mcpmeter.{table} ({columns}) {cells}");
        transaction.execute_typed(&insert, &range).await?;
    }
    Ok(())
}

/// The cells, in the tables' columns, of the rows that meet the condition, all of which belong to the bucket
/// that begins at `$1`.
pub(super) fn cells_of_rows(subject: Subject, condition: &str) -> String {
    let keys = subject.keys();
    let statuses = join(
        Status::ALL.iter().map(|status| format!("count(*) filter (where status = '{status}') as {status}")),
    );
    added_up(
        subject,
        &format!(
            "select {keys}, latency_bucket, count(*) as latency_count, count(*) as calls, {statuses},
                    sum(input_bytes) as input_bytes, sum(output_bytes) as output_bytes,
                    count(cpu_ms) as cpu_calls,
                    coalesce(sum(least(greatest(cpu_ms, 0), {CPU_LIMIT_MS})), 0) as cpu_ms,
                    sum(duration_ms) as duration_ms
             from mcpmeter.{TABLE} where {condition} group by {keys}, latency_bucket"
        ),
    )
}

/// The cells of a longer bucket, from `$1` to `$2`, of all cells of the shorter ones.
fn cells_of_cells(lower: Span, subject: Subject) -> String {
    let (keys, table) = (subject.keys(), tables::name(lower, subject));
    let here = format!("mcpmeter.{table} as cell");
    let range = "bucket_start >= $1 and bucket_start < $2";
    let columns = |of: &str| join(subject.dimensions().iter().map(|key| format!("{of}.{}", key.column())));
    let numbers = added_numbers();
    // `is not distinct from` in a form that PostgreSQL can hash: null is a value here.
    let same = subject.dimensions().iter().map(|key| {
        let key = key.column();
        format!(
            "(sums.{key} is null) = (histogram.{key} is null)
                 and coalesce(sums.{key}, '') = coalesce(histogram.{key}, '')"
        )
    });
    let same = same.collect::<Vec<_>>().join(" and ");
    let measures = join(whole_numbers().chain(FRACTIONS).map(str::to_owned));
    let arrays = arrays();
    format!(
        "select $1::timestamptz as bucket_start, null::timestamptz as kept_at, {}, {measures},
                latency_buckets, latency_counts
         from (select {keys}, {numbers} from {here} where {range} group by {keys}) as sums
         join (select {keys}, {arrays}
               from (select {keys}, latency_bucket, sum(latency_count) as latency_count
                     from {here}, unnest(latency_buckets, latency_counts) as pair (latency_bucket, latency_count)
                     where {range} group by {keys}, latency_bucket) as counted
               group by {keys}) as histogram
           on {same}",
        columns("sums")
    )
}

/// Cells of a statement that gives a row per latency bucket.
fn added_up(subject: Subject, counted: &str) -> String {
    let (keys, numbers, arrays) = (subject.keys(), added_numbers(), arrays());
    format!(
        "select $1::timestamptz as bucket_start, null::timestamptz as kept_at, {keys}, {numbers}, {arrays}
         from ({counted}) as counted group by {keys}"
    )
}

/// Sums that stay within what the columns can hold.
fn added_numbers() -> String {
    let whole =
        whole_numbers().map(|column| format!("least(sum({column}), {})::bigint as {column}", i64::MAX));
    join(whole.chain(FRACTIONS.iter().map(|column| format!("sum({column}) as {column}"))))
}

/// The histogram of rows that each count for a latency bucket.
fn arrays() -> String {
    format!(
        "array_agg(latency_bucket order by latency_bucket) as latency_buckets,
         array_agg(least(latency_count, {})::integer order by latency_bucket) as latency_counts",
        i32::MAX
    )
}
