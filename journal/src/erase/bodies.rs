//! The bodies of a person's calls: deleted whether their rows go or stay, because what was said leads to a person. A piece at
//! a time, like everything here.

use super::{
    Erasure, Manner,
    file::{PAUSE, PIECE, Rows},
};
use crate::{
    body::{OUTBOX, TABLE},
    columns::Kind,
    value::Value,
};
use deadpool_postgres::Object;
use rusqlite::Connection;
use std::{borrow::Cow, thread::sleep};
use tokio_postgres::types::{ToSql, Type};

/// Bodies in one transaction of PostgreSQL.
const POSTGRES_PIECE: u64 = 2_000;

/// In the SQLite file: those that are kept, and those that wait.
pub(super) fn in_file(connection: &Connection, erasure: &Erasure) -> rusqlite::Result<Rows> {
    let (column, id) = (erasure.whose.column(), erasure.whose.id());
    let mut rows = Rows::new();
    for table in [TABLE, OUTBOX] {
        let mut gone = 0;
        if erasure.manner == Manner::Count {
            let count = format!("select count(*) from {table} where {column} = ?1");
            gone = connection.query_row(&count, [id], |row| row.get::<_, i64>(0))?.unsigned_abs();
        } else {
            let delete = format!(
                "delete from {table} where rowid in (select rowid from {table} where {column} = ?1 limit {PIECE})"
            );
            loop {
                let piece = connection.prepare_cached(&delete)?.execute([id])? as u64;
                gone += piece;
                if piece < u64::from(PIECE) {
                    break;
                }
                sleep(PAUSE);
            }
        }
        rows.push((table.to_owned(), gone));
    }
    Ok(rows)
}

/// In PostgreSQL; `settings` are those of each transaction.
pub(super) async fn in_postgres(
    connection: &mut Object,
    settings: &str,
    erasure: &Erasure,
) -> Result<u64, tokio_postgres::Error> {
    let column = erasure.whose.column();
    let id = Value::Text(Cow::Borrowed(erasure.whose.id()));
    let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&id, Kind::Text.postgres_type())];
    if erasure.manner == Manner::Count {
        let count = format!("select count(*) from mcpmeter.{TABLE} where {column} = $1");
        let row = connection.query_typed_one(&count, &parameters).await?;
        return Ok(row.try_get::<_, i64>(0)?.unsigned_abs());
    }
    let delete = format!(
        "delete from mcpmeter.{TABLE} where (call_id, side) in (
           select call_id, side from mcpmeter.{TABLE} where {column} = $1 limit {POSTGRES_PIECE})"
    );
    let mut gone = 0;
    loop {
        let transaction = connection.transaction().await?;
        transaction.batch_execute(settings).await?;
        let piece = transaction.execute_typed(&delete, &parameters).await?;
        transaction.commit().await?;
        gone += piece;
        if piece < POSTGRES_PIECE {
            return Ok(gone);
        }
    }
}
