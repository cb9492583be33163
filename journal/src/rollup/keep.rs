//! What retention does before it deletes rows: from then on their cells are kept as they are.
//!
//! Order of work, in the transaction that deletes the rows (PostgreSQL: after locking the partition against
//! writers, so that no row comes in between): keep, then delete. `false` means that some bucket of the range is
//! still to be rolled up, or somebody is at it: try again in the next round. A range must not cut a bucket of 5
//! minutes in two, or the calls of its remaining rows would be counted twice once one more comes; where deleting
//! takes more than one transaction, `leaving` tells the two apart.
//!
//! 5-minute cells of tools stay. Those of usage are as many as there are users, so where all rows are gone they
//! are deleted, and the cells of their hours kept in their place: in PostgreSQL with the day, in SQLite, whose
//! retention goes from the oldest bucket to the newest, an hour at a time once it has passed it.

use super::{
    bucket::Span,
    dirty::now,
    leaving,
    postgres::lead,
    tables::{Subject, name},
};
use crate::{columns::Kind, value::Value};
use deadpool_postgres::Transaction as PostgresTransaction;
use mcpmeter_observer::Timestamp;
use rusqlite::Transaction as SqliteTransaction;
use std::ops::Range;
use tokio_postgres::types::Type;

/// The marks of a range, of which one is enough.
const MARKED: &str = "rollup_dirty where bucket_start >= $1 and bucket_start < $2 limit 1";

/// Keeps the cells of PostgreSQL rows that were created in the range and are to be deleted.
pub(crate) async fn keep_postgres(
    transaction: &PostgresTransaction<'_>,
    range: Range<Timestamp>,
) -> Result<bool, tokio_postgres::Error> {
    if !lead(transaction).await? {
        return Ok(false);
    }
    let (from, to) = (Value::Time(range.start), Value::Time(range.end));
    let waiting =
        transaction.query_typed(&format!("select from mcpmeter.{MARKED}"), &typed(&from, &to)).await?;
    if !waiting.is_empty() {
        return Ok(false);
    }
    let keep = "select mcpmeter.rollup_keep($1, $2)";
    transaction.execute_typed(keep, &typed(&from, &to)).await?;
    Ok(true)
}

/// Keeps the cells of SQLite rows that were created in the range, a bucket of 5 minutes, which from now on is leaving
/// (`leaving`). Older rows are gone.
pub(crate) fn keep_sqlite(
    transaction: &SqliteTransaction<'_>,
    range: Range<Timestamp>,
) -> rusqlite::Result<bool> {
    if is_waiting(transaction, &range)? {
        return Ok(false);
    }
    for subject in Subject::ALL {
        keep(transaction, Span::FiveMinutes, subject, &range)?;
    }
    let shortest = name(Span::FiveMinutes, Subject::Usage);
    let select = format!("select min(bucket_start) from {shortest}");
    let oldest: Option<i64> = transaction.prepare_cached(&select)?.query_row([], |row| row.get(0))?;
    let hour = oldest.map(|at| Span::Hour.start_of(Timestamp(at))..Span::Hour.end_of(Timestamp(at)));
    if let Some(hour) = hour.filter(|hour| hour.end <= range.start)
        && !is_waiting(transaction, &hour)?
    {
        keep(transaction, Span::Hour, Subject::Usage, &hour)?;
        let delete = format!("delete from {shortest} where bucket_start >= ?1 and bucket_start < ?2");
        transaction.prepare_cached(&delete)?.execute((hour.start.0, hour.end.0))?;
    }
    leaving::begin(transaction, range.start)?;
    Ok(true)
}

fn keep(
    transaction: &SqliteTransaction<'_>,
    span: Span,
    subject: Subject,
    range: &Range<Timestamp>,
) -> rusqlite::Result<()> {
    let update = format!(
        "update {} set kept_at = ?3 where bucket_start >= ?1 and bucket_start < ?2 and kept_at is null",
        name(span, subject)
    );
    transaction.prepare_cached(&update)?.execute((range.start.0, range.end.0, now().0)).map(drop)
}

fn is_waiting(transaction: &SqliteTransaction<'_>, range: &Range<Timestamp>) -> rusqlite::Result<bool> {
    transaction.prepare_cached(&format!("select 1 from {MARKED}"))?.exists((range.start.0, range.end.0))
}

fn typed<'a>(
    from: &'a Value<'_>,
    to: &'a Value<'_>,
) -> [(&'a (dyn tokio_postgres::types::ToSql + Sync), Type); 2] {
    let timestamp = Kind::Timestamp.postgres_type();
    [(from, timestamp.clone()), (to, timestamp)]
}
