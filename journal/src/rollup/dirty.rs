//! Marks on buckets whose cells no longer say what the rows do: the transaction that stores rows also marks
//! their 5-minute buckets, so that a row is at every moment either in a cell or in a marked bucket.
//!
//! A mark has a version that grows whenever the bucket is marked again. Whoever has made the cells anew deletes
//! the mark only if its version is still the one that was there before the rows were read; a row that came in
//! between is thus never forgotten. In PostgreSQL every outbox marks for itself: a mark that all shared would
//! make every proxy wait for the commit of every other one, and for one that has vanished in the middle.

use super::{bucket::Span, leaving};
use crate::{columns::Kind, value::Value};
use deadpool_postgres::Transaction as PostgresTransaction;
use mcpmeter_observer::{CallRecord, Timestamp};
use rusqlite::Transaction as SqliteTransaction;
use std::{
    borrow::Borrow,
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

/// How long a bucket is left alone after it was marked: more of a batch is likely to come.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// The 5-minute buckets of the records, each once, in order. Most batches have one or two.
fn buckets_of<R: Borrow<CallRecord>>(records: &[R]) -> Vec<Timestamp> {
    let mut starts: Vec<Timestamp> = Vec::new();
    let mut current = Timestamp(0)..Timestamp(0);
    for record in records {
        let at = record.borrow().created_at;
        if !current.contains(&at) {
            current = Span::FiveMinutes.start_of(at)..Span::FiveMinutes.end_of(at);
            starts.push(current.start);
        }
    }
    starts.sort_unstable();
    starts.dedup();
    starts
}

/// Marks the buckets of rows that this transaction stores in PostgreSQL, unless one of them went to the default
/// partition because that of its day was dropped a moment ago: then it fails, and the next attempt makes the partition.
pub(crate) async fn mark_postgres(
    transaction: &PostgresTransaction<'_>,
    spool_id: Uuid,
    records: &[&CallRecord],
) -> Result<(), tokio_postgres::Error> {
    let starts: Vec<_> = buckets_of(records).into_iter().map(Value::Time).collect();
    if starts.is_empty() {
        return Ok(());
    }
    let mark = "insert into mcpmeter.rollup_dirty (bucket_start, spool_id)
                select bucket_start, $2 from mcpmeter.refuse_strays($1) cross join unnest($1) as bucket_start
                on conflict (bucket_start, spool_id)
                do update set version = rollup_dirty.version + 1, marked_at = clock_timestamp()";
    let spool_id = Value::Uuid(spool_id);
    let parameters = [(&starts as _, Type::TIMESTAMPTZ_ARRAY), (&spool_id as _, Kind::Uuid.postgres_type())];
    transaction.execute_typed(mark, &parameters).await?;
    Ok(())
}

/// Marks the buckets of rows that this transaction stores in SQLite.
pub(crate) fn mark_sqlite(
    transaction: &SqliteTransaction<'_>,
    records: &[CallRecord],
) -> rusqlite::Result<()> {
    mark_buckets(transaction, buckets_of(records))?;
    leaving::note_late(transaction, records)
}

/// Marks the buckets of rows that this transaction has changed or deleted in SQLite.
pub(crate) fn mark_changed_sqlite(
    transaction: &SqliteTransaction<'_>,
    instants: impl Iterator<Item = Timestamp>,
) -> rusqlite::Result<()> {
    let starts: BTreeSet<_> = instants.map(|at| Span::FiveMinutes.start_of(at)).collect();
    mark_buckets(transaction, starts)
}

fn mark_buckets(
    transaction: &SqliteTransaction<'_>,
    starts: impl IntoIterator<Item = Timestamp>,
) -> rusqlite::Result<()> {
    let mut mark = transaction.prepare_cached(
        "insert into rollup_dirty (bucket_start, version, marked_at) values (?1, 1, ?2)
         on conflict (bucket_start) do update set version = version + 1, marked_at = excluded.marked_at",
    )?;
    for start in starts {
        mark.execute((start.0, now().0))?;
    }
    Ok(())
}

/// The wall clock, as far as marks need it: a clock that is set back or forth makes a bucket's turn come
/// earlier or later, nothing else.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    Timestamp(i64::try_from(since).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpmeter_observer::{CallId, Identity, Method};

    #[test]
    fn every_bucket_of_a_batch_is_named_once_and_in_order() {
        let identity = Identity { instance_id: "i".into(), user_id: None, organization_id: None };
        let five = Span::FiveMinutes.us();
        let records = [five, five + 1, 0, 2 * five - 1, -1, five].map(|at| {
            let at = Timestamp(at);
            CallRecord::begin(CallId::new(at, 1), at, Method::ToolsCall, &identity)
        });
        assert_eq!(buckets_of(&records), [-five, 0, five].map(Timestamp));
        assert_eq!(buckets_of::<CallRecord>(&[]), []);
    }
}
