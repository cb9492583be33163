//! Keys in the SQLite file, beside whoever has it open: the writer of this process's journal, or another process's.
//!
//! Reads share a connection that is kept; every change opens one of its own, for one transaction of milliseconds, and
//! waits for the writer's. Nothing here runs on a thread of the runtime.

use super::{ApiKey, Change, KeyError, Parameters, only, statement};
use crate::{
    columns::Kind,
    lock::{FileLock, LockError, lock_path, real_path},
    sqlite::{self, OpenedReader},
    value::Value,
};
use mcpmeter_observer::{Text, Timestamp};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params_from_iter};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::spawn_blocking;

/// How long a change waits for other writers: as long as the journal's writer has needed on the slowest disk, and more.
const BUSY: Duration = Duration::from_secs(10);
/// The journal's writer folds its log into the file, and syncs it; others leave that to it.
const SETTINGS: &str = "pragma wal_autocheckpoint = 0";
/// What a power cut takes of the last uses was not worth waiting for the disk.
const USE_SETTINGS: &str = "pragma wal_autocheckpoint = 0; pragma synchronous = normal";

/// The file with its keys.
pub(super) struct KeyFile {
    file: PathBuf,
    reader: Mutex<Option<OpenedReader>>,
}

impl KeyFile {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), reader: Mutex::new(None) }
    }

    /// The rows that answer a statement.
    pub(super) async fn read(
        self: &Arc<Self>,
        sql: String,
        given: Parameters,
    ) -> Result<Vec<Vec<Value<'static>>>, KeyError> {
        let this = Arc::clone(self);
        spawn_blocking(move || {
            let mut kept = this.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let current = kept.take().filter(|open| open.is_current(&this.file));
            let open = current.map_or_else(|| this.open_reader(), Ok)?;
            let rows = read_rows(&open.connection, &sql, &given).map_err(|error| this.failure(error))?;
            *kept = Some(open);
            Ok(rows)
        })
        .await?
    }

    /// A new key.
    pub(super) async fn insert(self: &Arc<Self>, key: ApiKey) -> Result<(), KeyError> {
        self.write(true, move |transaction, revision| {
            let given = statement::insert_values(&key, revision);
            match read_rows(transaction, &statement::insert(""), &given).map(|rows| rows.len()) {
                Ok(0) => Ok(Err(KeyError::Taken { id: key.id.to_string() })),
                Ok(_) => Ok(Ok(((), true))),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Changes the only key whose id begins so.
    pub(super) async fn change(self: &Arc<Self>, id: String, change: Change) -> Result<ApiKey, KeyError> {
        self.write(false, move |transaction, revision| {
            let given = [statement::text(id.clone())];
            let rows = read_rows(transaction, &statement::matching(""), &given)?;
            let found = statement::read_keys(rows)
                .and_then(|keys| only(&id, keys.into_iter().map(|(key, _)| key).collect()))
                .and_then(|mut key| change(&mut key).map(|has_changed| (key, has_changed)));
            if let Ok((key, true)) = &found {
                read_rows(transaction, &statement::update(""), &statement::update_values(key, revision))?;
            }
            Ok(found)
        })
        .await
    }

    /// Notes uses.
    pub(super) async fn touch(self: &Arc<Self>, uses: Vec<(Text, Timestamp)>) -> Result<(), KeyError> {
        let this = Arc::clone(self);
        spawn_blocking(move || {
            let mut connection = this.open_writer(false)?;
            note_uses(&mut connection, &uses).map_err(|error| this.failure(error))
        })
        .await?
    }

    /// Has the work change keys under the next number, durably; rolled back if it does not, or says that it has not.
    async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        makes_file: bool,
        work: impl FnOnce(&Transaction<'_>, i64) -> rusqlite::Result<Result<(T, bool), KeyError>> + Send + 'static,
    ) -> Result<T, KeyError> {
        let this = Arc::clone(self);
        spawn_blocking(move || {
            let mut connection = this.open_writer(makes_file)?;
            let failed = |error| this.failure(error);
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
            let next = transaction.query_row(&statement::next_revision(""), [], |row| row.get(0));
            let (result, has_changed) = work(&transaction, next.map_err(failed)?).map_err(failed)??;
            if has_changed {
                transaction.commit().map_err(failed)?;
            }
            Ok(result)
        })
        .await?
    }

    fn open_reader(&self) -> Result<OpenedReader, KeyError> {
        if !self.file.exists() {
            return Err(KeyError::NoFile { file: self.file.clone() });
        }
        let open = OpenedReader::open(&self.file).map_err(|error| self.failure(error))?;
        match sqlite::format_of(&open.connection).map_err(|error| self.failure(error))? {
            sqlite::FORMAT => Ok(open),
            // A file that nobody has written to yet.
            0 => Err(KeyError::NoFile { file: self.file.clone() }),
            format => Err(KeyError::OtherVersion { file: self.file.clone(), format }),
        }
    }

    /// A connection for one change. A file that is not there, or of an earlier version, is made or brought up to date if
    /// no proxy has it.
    fn open_writer(&self, makes_file: bool) -> Result<Connection, KeyError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut format = 0;
        if self.file.exists() {
            let connection =
                Connection::open_with_flags(&self.file, flags).map_err(|error| self.failure(error))?;
            connection.busy_timeout(BUSY).map_err(|error| self.failure(error))?;
            format = sqlite::format_of(&connection).map_err(|error| self.failure(error))?;
            if format == sqlite::FORMAT {
                connection.execute_batch(SETTINGS).map_err(|error| self.failure(error))?;
                return Ok(connection);
            }
        }
        match format {
            0 if !makes_file => Err(KeyError::NoFile { file: self.file.clone() }),
            format if format > 0 && !sqlite::is_earlier(format) => {
                Err(KeyError::OtherVersion { file: self.file.clone(), format })
            }
            format => self.make(format),
        }
    }

    fn make(&self, format: i64) -> Result<Connection, KeyError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| KeyError::File {
            file: self.file.clone(),
            source,
        };
        let file = real_path(&self.file).map_err(|error| failed(error.into()))?;
        // Whoever holds the lock is about to make it, or is of the earlier version.
        let lock = FileLock::take(&file).map_err(|error| match error {
            LockError::Held if format > 0 => KeyError::OtherVersion { file: self.file.clone(), format },
            LockError::Held => failed(io::Error::from(io::ErrorKind::ResourceBusy).into()),
            LockError::Io(source) => {
                let lock = lock_path(&file).display().to_string();
                failed(io::Error::new(source.kind(), format!("cannot lock {lock}: {source}")).into())
            }
        })?;
        let connection = sqlite::open_writer(&file).map_err(|error| failed(error.into()))?;
        connection.busy_timeout(BUSY).map_err(|error| self.failure(error))?;
        drop(lock);
        Ok(connection)
    }

    fn failure(&self, error: rusqlite::Error) -> KeyError {
        KeyError::File { file: self.file.clone(), source: error.into() }
    }
}

fn note_uses(connection: &mut Connection, uses: &[(Text, Timestamp)]) -> rusqlite::Result<()> {
    connection.execute_batch(USE_SETTINGS)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let note = format!(
        "update {} set last_used_at = ?2 where id = ?1 and coalesce(last_used_at, ?2 - 1) < ?2",
        statement::TABLE
    );
    let mut note = transaction.prepare(&note)?;
    for (id, at) in uses {
        note.execute((&**id, at.0))?;
    }
    drop(note);
    transaction.commit()
}

fn read_rows(
    connection: &Connection,
    sql: &str,
    given: &[(Value<'_>, Kind)],
) -> rusqlite::Result<Vec<Vec<Value<'static>>>> {
    let mut statement = connection.prepare_cached(sql)?;
    let width = statement.column_count();
    let given = params_from_iter(given.iter().map(|(value, _)| value));
    let rows = statement.query_map(given, |row| {
        (0..width).map(|place| Value::of_row(statement::kind_at(width, place), row, place)).collect()
    })?;
    rows.collect()
}
