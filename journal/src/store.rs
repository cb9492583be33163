//! The embedded store: without PostgreSQL the rows themselves go into the SQLite file.
//!
//! Only the writer thread writes it. A batch that is tried again after a failure of which it is not known
//! whether it was one (a sync that reported an error) meets its own rows and skips them by their key.

use crate::{
    columns::{COLUMNS, NAMES, TABLE},
    rollup,
    value::Value,
};
use mcpmeter_observer::CallRecord;
use rusqlite::{Connection, Transaction};
use std::sync::LazyLock;

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let places: Vec<_> = (1..=COLUMNS.len()).map(|place| format!("?{place}")).collect();
    let names = &*NAMES;
    format!(
        "insert into {TABLE} ({names}) values ({}) on conflict (created_at, id) do nothing",
        places.join(", ")
    )
});

/// Adds the records as rows, and says how many were there already.
pub(crate) fn append(transaction: &Transaction<'_>, records: &[CallRecord]) -> rusqlite::Result<u64> {
    let mut new = 0;
    let mut insert = transaction.prepare_cached(&INSERT)?;
    insert.clear_bindings();
    let mut bound = [const { Value::Null }; COLUMNS.len()];
    for record in records {
        // What is the same as in the row before stays bound: most of a row is, and binding a text copies it.
        for (place, (column, bound)) in COLUMNS.iter().zip(&mut bound).enumerate() {
            let value = (column.value)(record);
            if value != *bound {
                insert.raw_bind_parameter(place + 1, &value)?;
                *bound = value;
            }
        }
        new += insert.raw_execute()?;
    }
    rollup::mark_sqlite(transaction, records)?;
    Ok((records.len() - new) as u64)
}

/// Whether the store holds any row.
pub(crate) fn is_used(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(&format!("select exists (select 1 from {TABLE})"), [], |row| row.get(0))
}
