//! The statements that make cells in PostgreSQL, each for a set of buckets, so that what it costs depends on the
//! calls and not on the buckets. Pure: texts, and never a value in one; whoever runs them gives the parameters.
//!
//! The buckets come as two arrays, of when they begin and when they end, and are joined to what they hold: one after the
//! other, which `offset 0` makes PostgreSQL do. It would guess that a bucket is a ninth of the log, and read all of it as
//! soon as one late call had marked a bucket of last week.

use super::{
    bucket::Span,
    sums::CPU_LIMIT_MS,
    tables::{self, FRACTIONS, Subject, columns, join, whole_numbers},
};
use crate::columns::TABLE;
use mcpmeter_observer::Status;

/// The buckets, each from `start` to `after`, of the parameters `$1` and `$2`.
const BUCKETS: &str = "unnest($1, $2) as bucket (start, after)";

/// Deletes the cells of the buckets that begin at the instants of `$1`.
pub(super) fn delete(span: Span, subject: Subject) -> String {
    let table = tables::name(span, subject);
    format!("delete from mcpmeter.{table} where bucket_start = any($1) and kept_at is null")
}

/// Makes the cells of the buckets (`$1`, `$2`), none of which begins before `$3` or ends after `$4`.
pub(super) fn insert(span: Span, subject: Subject) -> String {
    let cells = match span.lower() {
        None => cells_of_rows(subject, BUCKETS, "created_at >= $3 and created_at < $4"),
        Some(lower) => cells_of_cells(lower, subject),
    };
    let (table, columns) = (tables::name(span, subject), columns(subject));
    format!("insert into mcpmeter.{table} ({columns}) {cells}")
}

/// The cells, in the tables' columns, of the rows of the buckets that meet the condition. PostgreSQL leaves
/// those partitions alone that the condition excludes.
pub(super) fn cells_of_rows(subject: Subject, buckets: &str, condition: &str) -> String {
    let keys = subject.keys();
    let statuses = join(
        Status::ALL.iter().map(|status| format!("count(*) filter (where status = '{status}') as {status}")),
    );
    added_up(
        subject,
        &format!(
            "select bucket.start as bucket_start, {keys}, latency_bucket, count(*) as latency_count,
                    count(*) as calls, {statuses},
                    sum(input_bytes) as input_bytes, sum(output_bytes) as output_bytes,
                    count(cpu_ms) as cpu_calls,
                    coalesce(sum(least(greatest(cpu_ms, 0), {CPU_LIMIT_MS})), 0) as cpu_ms,
                    sum(duration_ms) as duration_ms
             from {buckets}
             cross join lateral (
               select * from mcpmeter.{TABLE}
               where created_at >= bucket.start and created_at < bucket.after and {condition} offset 0) as log
             group by bucket.start, {keys}, latency_bucket"
        ),
    )
}

/// The cells of longer buckets, of all cells of the shorter ones.
fn cells_of_cells(lower: Span, subject: Subject) -> String {
    let (keys, table) = (subject.keys(), tables::name(lower, subject));
    // A cell comes once for each entry of its histogram; its numbers count with the first.
    let numbers = join(
        whole_numbers()
            .chain(FRACTIONS)
            .map(|column| format!("sum({column}) filter (where place = 1) as {column}")),
    );
    added_up(
        subject,
        &format!(
            "select bucket.start as bucket_start, {keys}, latency_bucket, sum(latency_count) as latency_count,
                    {numbers}
             from {BUCKETS}
             cross join lateral (
               select * from mcpmeter.{table} as cell
               where cell.bucket_start >= bucket.start and cell.bucket_start < bucket.after
                 and cell.bucket_start >= $3 and cell.bucket_start < $4 offset 0) as cell
             cross join unnest(latency_buckets, latency_counts) with ordinality
               as pair (latency_bucket, latency_count, place)
             group by bucket.start, {keys}, latency_bucket"
        ),
    )
}

/// Cells of a statement that gives a row per bucket, dimensions and latency bucket. Sums stay within what the
/// columns can hold.
fn added_up(subject: Subject, counted: &str) -> String {
    let keys = subject.keys();
    let whole =
        whole_numbers().map(|column| format!("least(sum({column}), {})::bigint as {column}", i64::MAX));
    let numbers = join(whole.chain(FRACTIONS.iter().map(|column| format!("sum({column}) as {column}"))));
    format!(
        "select bucket_start, null::timestamptz as kept_at, {keys}, {numbers},
                array_agg(latency_bucket order by latency_bucket) as latency_buckets,
                array_agg(least(latency_count, {})::integer order by latency_bucket) as latency_counts
         from ({counted}) as counted group by bucket_start, {keys}",
        i32::MAX
    )
}
