//! The bucket of the embedded store whose rows are being deleted. That takes many small transactions; from the first
//! one on its cells are kept, so that what remains of its rows must not be counted again, and what comes for it
//! meanwhile must be. Hence the bucket is written down, and the keys of the rows that come; both until the last of
//! its former rows is gone, however often the process ends before.

use super::bucket::Span;
use crate::{
    columns::{Kind, TABLE},
    value::Value,
};
use mcpmeter_observer::{CallRecord, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction};
use uuid::Uuid;

/// The tables: at most one bucket, and the rows that came for it since.
pub(super) fn tables() -> String {
    format!(
        "create table if not exists rollup_leaving (bucket_start integer primary key) strict;
         create table if not exists rollup_late (created_at {} not null, id {} not null,
           primary key (created_at, id)) strict, without rowid;\n",
        Kind::Timestamp.sqlite_name(),
        Kind::Uuid.sqlite_name()
    )
}

/// The rows whose keys are written down; a condition on rows of the log.
const LATE: &str =
    "exists (select 1 from rollup_late as late where late.created_at = log.created_at and late.id = log.id)";

/// The bucket that is leaving.
pub(crate) fn leaving_sqlite(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let mut select = connection.prepare_cached("select bucket_start from rollup_leaving")?;
    select.query_row([], |row| row.get(0).map(Timestamp)).optional()
}

/// From now on the bucket is leaving. Its cells are kept, and no other is leaving.
pub(super) fn begin(transaction: &Transaction<'_>, start: Timestamp) -> rusqlite::Result<()> {
    transaction.prepare_cached("insert into rollup_leaving values (?1)")?.execute([start.0]).map(drop)
}

/// Deletes so many rows of the leaving bucket; with the last of them, it has left.
pub(crate) fn delete_leaving_sqlite(
    transaction: &Transaction<'_>,
    start: Timestamp,
    rows: u32,
) -> rusqlite::Result<()> {
    let delete = format!(
        "delete from {TABLE} where (created_at, id) in
         (select created_at, id from {TABLE} as log where created_at >= ?1 and created_at < ?2 and not {LATE}
          order by created_at, id limit ?3)"
    );
    let bounds = (start.0, Span::FiveMinutes.end_of(start).0, rows);
    let deleted = transaction.prepare_cached(&delete)?.execute(bounds)?;
    if deleted < rows as usize {
        transaction.execute_batch("delete from rollup_leaving; delete from rollup_late")?;
    }
    Ok(())
}

/// Writes down which of these rows, just stored, came for the bucket that is leaving.
pub(super) fn note_late(transaction: &Transaction<'_>, records: &[CallRecord]) -> rusqlite::Result<()> {
    let Some(start) = leaving_sqlite(transaction)? else { return Ok(()) };
    let mut note = transaction.prepare_cached("insert or ignore into rollup_late values (?1, ?2)")?;
    for record in records {
        if Span::FiveMinutes.start_of(record.created_at) == start {
            note.execute((record.created_at.0, Value::Uuid(record.id.0)))?;
        }
    }
    Ok(())
}

/// A row has another id from now on; absent if it is gone.
pub(crate) fn rename_late_sqlite(
    transaction: &Transaction<'_>,
    created_at: Timestamp,
    id: Uuid,
    another: Option<Uuid>,
) -> rusqlite::Result<()> {
    match another {
        Some(another) => transaction
            .prepare_cached("update rollup_late set id = ?3 where created_at = ?1 and id = ?2")?
            .execute((created_at.0, id, another)),
        None => transaction
            .prepare_cached("delete from rollup_late where created_at = ?1 and id = ?2")?
            .execute((created_at.0, id)),
    }
    .map(drop)
}

/// The condition, after others, on the rows of the log that are to be counted for a bucket while another one, or
/// this one, is leaving. To be used in the snapshot in which `leaving` was read.
pub(super) fn counted(leaving: Option<Timestamp>, start: Timestamp) -> String {
    if leaving == Some(start) { format!(" and {LATE}") } else { String::new() }
}
