//! The SQLite file: its settings, its tables, and who may open it how.
//!
//! One connection writes (the writer thread's, and for milliseconds that of `erase`); any number read, also from other processes, while it does.
//! The file always has all tables, whether PostgreSQL is configured or not, so that a change of configuration
//! never meets a file of the wrong shape.

use crate::{
    body,
    columns::{COLUMNS, TABLE},
    gap, keys, ring, rollup, sample, trouble,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction};
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};
use uuid::Uuid;

/// The version of the tables below and of what is in them, in `user_version`. A file with a higher one is not touched;
/// one with a lower one gets what it lacks. Format 2 has `cpu_shared`, and records of format 2 in the outbox; format 3 has
/// the tables of keys; format 4 those of bodies.
pub(crate) const FORMAT: i64 = 4;

/// Bytes of a page, see below.
pub(crate) const PAGE_BYTES: u64 = 8192;
/// Pages of log before it is folded into the file, see below.
pub(crate) const WAL_PAGES: u64 = 4000;

/// Settings that last only as long as the connection, each for a reason.
const WRITER_SETTINGS: &str = "
    -- Both only count in a file without tables. 8 KiB pages: rows of about 400 bytes, in a table that keeps
    -- them in its primary key, want 20 to a page. Incremental vacuum: a backlog that has been shipped can be
    -- given back to the disk.
    pragma page_size = 8192;
    pragma auto_vacuum = incremental;
    -- Readers never wait for the writer, nor it for them; a commit is one append and one sync.
    pragma journal_mode = wal;
    -- Durable means that it survives a power cut; `normal` would sync only at checkpoints.
    pragma synchronous = full;
    -- 32 MiB of log before it is folded into the file: at 1,000 pages (the default) a busy writer rewrites the
    -- same index pages many times over.
    pragma wal_autocheckpoint = 4000;
    -- 16 MiB: the leaves of the indexes that new rows go to stay at hand, instead of being read and written
    -- again and again within one transaction. Taken only as far as it is used.
    pragma cache_size = -16384;
    -- After a burst the log shrinks back to the size it has in normal work.
    pragma journal_size_limit = 33554432;
";

/// How long the writer waits for somebody else's lock (an administrator's shell) before it reports it.
const BUSY: Duration = Duration::from_secs(1);

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqliteError {
    #[error("it was written by a newer mcpmeter (format {0}, this one knows {FORMAT})")]
    Newer(i64),
    #[error("it is a database of another program")]
    Foreign,
    #[error("its file system does not support a write-ahead log (journal mode {0})")]
    NoWal(String),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl SqliteError {
    /// Whether the file is damaged, rather than not ours or not to be written.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Sqlite(error) if trouble::is_damage_at_open(error))
    }
}

/// Opens or makes the file for its one writer.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, SqliteError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    check_owner(&connection)?;
    connection.execute_batch(WRITER_SETTINGS)?;
    let mode: String = connection.query_row("pragma journal_mode", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(SqliteError::NoWal(mode));
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(&tables())?;
    add_missing_columns(&transaction)?;
    // A file that is as it should be is not written to: its volume may be full.
    if format_of(&transaction)? != FORMAT {
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    transaction.commit()?;
    Ok(connection)
}

/// Adds to the log what an earlier version's has not: behind the others, null in the rows that are there.
fn add_missing_columns(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut select = transaction.prepare("select name from pragma_table_info(?1)")?;
    let there: Vec<String> = select.query_map([TABLE], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for column in COLUMNS.iter().filter(|column| !there.iter().any(|name| name == column.name)) {
        let (name, kind) = (column.name, column.kind.sqlite_name());
        transaction.execute_batch(&format!("alter table {TABLE} add column \"{name}\" {kind}"))?;
    }
    Ok(())
}

/// The log beside the file.
pub(crate) fn wal_path(file: &Path) -> PathBuf {
    beside(file, "-wal")
}

/// The index of that log, shared by those who have the file open.
pub(crate) fn shm_path(file: &Path) -> PathBuf {
    beside(file, "-shm")
}

/// The path with something appended.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(file);
    path.push(suffix);
    path.into()
}

/// A reading connection, and which file it reads: after a damaged file was set aside another lies under its
/// name.
pub(crate) struct OpenedReader {
    pub(crate) connection: Connection,
    inode: Option<u64>,
}

impl OpenedReader {
    /// See [`open_reader`].
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        // Asked before: if the file is changed in between, the connection is given up once too often.
        let inode = inode(path);
        Ok(Self { connection: open_reader(path)?, inode })
    }

    /// Whether the file is still the one under this name.
    pub(crate) fn is_current(&self, path: &Path) -> bool {
        self.inode.is_some() && self.inode == inode(path)
    }

    /// Which file it reads, as the file system numbers them.
    pub(crate) const fn inode(&self) -> Option<u64> {
        self.inode
    }
}

/// The file system's number for what lies under the name now.
pub(crate) fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// Opens the file for reading; it must exist.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// The format of a file that this version cannot read as it is: that of another one.
pub(crate) fn foreign_format(connection: &Connection) -> Option<i64> {
    // What has none is empty, or nobody's.
    format_of(connection).ok().filter(|format| ![0, FORMAT].contains(format))
}

/// Whether a format is that of an earlier version.
pub(crate) const fn is_earlier(format: i64) -> bool {
    format < FORMAT
}

/// Refuses files that are not ours to write.
fn check_owner(connection: &Connection) -> Result<(), SqliteError> {
    let format = format_of(connection)?;
    let tables: i64 = connection.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
    match format {
        0 if tables > 0 => Err(SqliteError::Foreign),
        0..=FORMAT => Ok(()),
        _ => Err(SqliteError::Newer(format)),
    }
}

/// The format of a file's tables; 0 for one that has none.
pub(crate) fn format_of(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("pragma user_version", [], |row| row.get(0))
}

/// All tables, if they are not there yet.
fn tables() -> String {
    let columns: Vec<_> = COLUMNS
        .iter()
        .map(|column| {
            let null = if column.nullable { "" } else { " not null" };
            format!("\"{}\" {}{null}", column.name, column.kind.sqlite_name())
        })
        .collect();
    format!(
        "
        create table if not exists meta (key text primary key, value blob not null) strict, without rowid;
        -- Numbers are never used twice, not even after deletion: the cursor in PostgreSQL counts on it.
        create table if not exists outbox (
          seq integer primary key autoincrement, format integer not null, record blob not null) strict;
        create table if not exists quarantine (
          seq integer primary key, format integer not null, record blob not null,
          reason text not null, set_aside_at integer not null) strict;
        -- The same key as in PostgreSQL, and the rows lie in its order: the newest calls are one short read.
        create table if not exists {TABLE} ({}, primary key (created_at, id)) strict, without rowid;
        create index if not exists {TABLE}_user on {TABLE} (user_id, created_at);
        create index if not exists {TABLE}_instance on {TABLE} (mcp_server_instance_id, created_at);
        {}
        ",
        columns.join(", "),
        rollup::sqlite_tables()
    ) + gap::TABLE
        + ring::TABLE
        + &sample::sqlite_tables()
        + &keys::sqlite_tables()
        + &body::sqlite_tables()
}

/// The identity of this outbox towards PostgreSQL, made on first use.
pub(crate) fn spool_id(connection: &mut Connection) -> rusqlite::Result<Uuid> {
    let transaction = connection.transaction()?;
    let known: Option<Uuid> = transaction
        .query_row("select value from meta where key = 'spool_id'", [], |row| row.get(0))
        .optional()?;
    let id = match known {
        Some(id) => id,
        None => new_spool_id(&transaction)?,
    };
    transaction.commit()?;
    Ok(id)
}

/// Gives the outbox a new identity, whose cursor begins at 0.
pub(crate) fn new_spool_id(transaction: &Transaction<'_>) -> rusqlite::Result<Uuid> {
    let id = Uuid::new_v4();
    transaction.execute("insert or replace into meta (key, value) values ('spool_id', ?1)", [id])?;
    gap::close(transaction)?;
    Ok(id)
}
