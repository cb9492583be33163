//! The embedded store: without PostgreSQL the rows themselves go into the SQLite file.
//!
//! Only the writer thread writes it. A batch that is tried again after a failure of which it is not known
//! whether it was one (a sync that reported an error) meets its own rows and skips them by their key.

use crate::columns::{COLUMNS, NAMES, TABLE};
use mcpmeter_observer::CallRecord;
use rusqlite::{Connection, Transaction, params_from_iter};
use std::sync::LazyLock;

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let places: Vec<_> = (1..=COLUMNS.len()).map(|place| format!("?{place}")).collect();
    let names = &*NAMES;
    format!(
        "insert into {TABLE} ({names}) values ({}) on conflict (created_at, id) do nothing",
        places.join(", ")
    )
});

/// Adds the records as rows.
pub(crate) fn append(transaction: &Transaction<'_>, records: &[Box<CallRecord>]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(&INSERT)?;
    for record in records {
        insert.execute(params_from_iter(COLUMNS.iter().map(|column| (column.value)(record))))?;
    }
    Ok(())
}

/// How many rows the store holds.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let rows: i64 = connection.query_row(&format!("select count(*) from {TABLE}"), [], |row| row.get(0))?;
    Ok(rows.unsigned_abs())
}
