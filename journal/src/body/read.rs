//! The bodies of one call, read back as they are stored.

use super::{COLUMNS, NAMES, SealedBody, TABLE};
use crate::{columns::Kind, value::Value};
use deadpool_postgres::Transaction;
use rusqlite::Connection;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// From the SQLite store; the request first.
pub(crate) fn ask_sqlite(connection: &Connection, call_id: Uuid) -> rusqlite::Result<Vec<SealedBody>> {
    let select = format!("select {} from {TABLE} where call_id = ?1 order by side desc", *NAMES);
    let mut statement = connection.prepare_cached(&select)?;
    let mut rows = statement.query([call_id])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.extend(SealedBody::from_values(&values_of(row, 0)?, row.get(COLUMNS.len())?));
    }
    Ok(found)
}

/// The values of a row of SQLite, from that place on.
pub(crate) fn values_of(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Vec<Value<'static>>> {
    let value = |(place, (_, kind)): (usize, (&str, Kind))| Value::of_row(kind, row, first + place);
    COLUMNS.into_iter().enumerate().map(value).collect()
}

/// From PostgreSQL.
pub(crate) async fn ask_postgres(
    transaction: &Transaction<'_>,
    call_id: Uuid,
) -> Result<Vec<SealedBody>, tokio_postgres::Error> {
    let call_id = Value::Uuid(call_id);
    let parameters = [(&call_id as &(dyn ToSql + Sync), Kind::Uuid.postgres_type())];
    let names = &*NAMES;
    let select = format!("select {names} from mcpmeter.{TABLE} where call_id = $1 order by side desc");
    let mut found = Vec::new();
    for row in transaction.query_typed(&select, &parameters).await? {
        let values = (0..COLUMNS.len()).map(|place| row.try_get(place)).collect::<Result<Vec<_>, _>>()?;
        found.extend(SealedBody::from_values(&values, row.try_get(COLUMNS.len())?));
    }
    Ok(found)
}
