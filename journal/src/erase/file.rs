//! One SQLite file: its rows of the store, the keys of which are looked up a few hundred at a time and then changed in a
//! transaction of milliseconds, so that the proxy that writes the file goes on between two.
//!
//! It has to be a file of this version. It is never made, and what is in it is never moved to another format here.

use super::{
    EraseError, Erasure, Manner, bodies,
    traces::{another_id, cleared},
    waiting,
};
use crate::{
    columns::TABLE,
    lock::real_path,
    outbox,
    rollup::{self, Forgotten, Span},
    sqlite,
};
use mcpmeter_observer::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use std::{
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};
use uuid::Uuid;

/// Rows in one transaction: about 5 ms, with two indexes.
pub(super) const PIECE: u32 = 250;
/// The writer's share between two pieces.
pub(super) const PAUSE: Duration = Duration::from_millis(2);
/// How long somebody else's transaction is waited for.
const BUSY: Duration = Duration::from_secs(10);

/// The file, open beside the proxy that may be writing it.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
}

/// Rows by table.
pub(super) type Rows = Vec<(String, u64)>;

/// The key of a row.
type Key = (i64, Uuid);

impl File {
    pub(super) fn open(path: &Path) -> Result<Self, EraseError> {
        // Without its directory it is not there under any name.
        let path = real_path(path).unwrap_or_else(|_| path.to_owned());
        let open = || {
            let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.busy_timeout(BUSY)?;
            // What is deleted or written over is gone from its page at once.
            connection.execute_batch("pragma secure_delete = on")?;
            let table = "select 1 from sqlite_schema where name = 'outbox'";
            let is_ours = connection.query_row(table, [], |_| Ok(())).optional()?.is_some();
            Ok((connection, is_ours))
        };
        let (connection, is_ours) =
            open().map_err(|source| EraseError::Sqlite { file: path.clone(), source })?;
        if !is_ours || sqlite::foreign_format(&connection).is_some() {
            return Err(EraseError::OtherVersion { file: path });
        }
        Ok(Self { path, connection })
    }

    /// What errors and reports call it.
    pub(super) fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Goes once through everything that holds calls or usage.
    pub(super) fn pass(&mut self, erasure: &Erasure) -> Result<Rows, EraseError> {
        let connection = &mut self.connection;
        let pass = || {
            let mut rows = vec![
                ("outbox".to_owned(), waiting::outbox(connection, erasure)?),
                ("quarantine".to_owned(), waiting::quarantine(connection, erasure)?),
                (TABLE.to_owned(), calls(connection, erasure)?),
            ];
            let who = erasure.forgotten();
            for (span, table) in Span::ALL.into_iter().zip(rollup::usage_tables()) {
                let cells = match erasure.manner {
                    Manner::Count => rollup::count_sqlite(connection, &table, who)?,
                    Manner::Remove | Manner::Anonymise => rollup::forget_sqlite(connection, span, who)?,
                };
                rows.push((table, cells));
            }
            rows.extend(bodies::in_file(connection, erasure)?);
            Ok(rows)
        };
        let mut pass = pass;
        pass().map_err(|source| self.failed(source))
    }

    /// Whose outbox it is, and the highest number that it ever gave.
    pub(super) fn position(&self) -> Result<(Option<Uuid>, i64), EraseError> {
        let ask = || {
            let select = "select value from meta where key = 'spool_id'";
            let spool_id = self.connection.query_row(select, [], |row| row.get(0)).optional()?;
            Ok((spool_id, outbox::survey(&self.connection)?.1))
        };
        ask().map_err(|source| self.failed(source))
    }

    pub(super) fn failed(&self, source: rusqlite::Error) -> EraseError {
        EraseError::Sqlite { file: self.path.clone(), source }
    }
}

impl Erasure {
    /// Who is taken out of usage tables, and what for.
    pub(super) fn forgotten(&self) -> Forgotten<'_> {
        Forgotten { column: self.whose.column(), id: self.whose.id(), name: self.name() }
    }
}

/// The rows of the store.
fn calls(connection: &mut Connection, erasure: &Erasure) -> rusqlite::Result<u64> {
    let (column, id) = (erasure.whose.column(), erasure.whose.id());
    if erasure.manner == Manner::Count {
        let count = format!("select count(*) from {TABLE} where {column} = ?1");
        return connection.query_row(&count, [id], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    }
    let find = format!(
        "select created_at, id from {TABLE} where {column} = ?1 and (created_at, id) > (?2, ?3)
         order by created_at, id limit {PIECE}"
    );
    let (mut after, mut changed): (Key, u64) = ((i64::MIN, Uuid::nil()), 0);
    loop {
        let keys: Vec<Key> = connection
            .prepare_cached(&find)?
            .query_map((id, after.0, after.1), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let Some(last) = keys.last() else { return Ok(changed) };
        after = *last;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        changed += change(&transaction, erasure, &keys)?;
        transaction.commit()?;
        sleep(PAUSE);
    }
}

/// Changes the rows of these keys, and marks the buckets that they belong to.
fn change(transaction: &Transaction<'_>, erasure: &Erasure, keys: &[Key]) -> rusqlite::Result<u64> {
    let column = erasure.whose.column();
    let delete = format!("delete from {TABLE} where created_at = ?1 and id = ?2 and {column} = ?3");
    let update = format!(
        "update {TABLE} set id = ?4, user_id = ?5, {cleared} where created_at = ?1 and id = ?2 and {column} = ?3",
        cleared = cleared()
    );
    let (whose, name) = (erasure.whose.id(), erasure.name());
    let mut changed = 0;
    for (created_at, id) in keys {
        let another = name.map(|_| another_id(*id));
        changed += match (another, name) {
            (Some(another), Some(name)) => {
                transaction.prepare_cached(&update)?.execute((created_at, id, whose, another, name))?
            }
            _ => transaction.prepare_cached(&delete)?.execute((created_at, id, whose))?,
        } as u64;
        rollup::rename_late_sqlite(transaction, Timestamp(*created_at), *id, another)?;
    }
    rollup::mark_changed_sqlite(transaction, keys.iter().map(|(created_at, _)| Timestamp(*created_at)))?;
    Ok(changed)
}
