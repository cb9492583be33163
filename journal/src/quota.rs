//! How large the outbox may grow: beyond that the newest calls are dropped and counted, because a full volume
//! would stop more than the recording.

use crate::sqlite::{PAGE_BYTES, WAL_PAGES, wal_path};
use rusqlite::{Connection, OptionalExtension};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The most that the outbox takes unless told otherwise.
const DEFAULT_BYTES: u64 = 2 << 30;
/// The share of its volume that it takes at most unless told otherwise.
const DEFAULT_SHARE: u64 = 10;

/// The quota of one outbox, and how to measure it.
#[derive(Debug)]
pub(crate) struct Quota {
    max_bytes: u64,
    wal: PathBuf,
    /// What the file takes beside the outbox: its tables while they are empty, and rows of a time without PostgreSQL.
    beside_bytes: u64,
}

impl Quota {
    /// The quota for the file; without `max_bytes` the smaller of 2 GiB and a tenth of the volume.
    pub(crate) fn new(file: &Path, max_bytes: Option<u64>) -> Self {
        let max_bytes = max_bytes.unwrap_or_else(|| default_bytes(file));
        Self { max_bytes, wal: wal_path(file), beside_bytes: 0 }
    }

    /// Has the log folded into the file before it takes a quarter of a small quota.
    pub(crate) fn adapt(&self, connection: &Connection) -> rusqlite::Result<()> {
        let pages = (self.max_bytes / 4 / PAGE_BYTES).clamp(8, WAL_PAGES);
        connection.execute_batch(&format!(
            "pragma wal_autocheckpoint = {pages}; pragma journal_size_limit = {}",
            pages * PAGE_BYTES
        ))
    }

    /// Does not count what the file holds now, except for so many bytes of outbox.
    pub(crate) fn disregard_all_but(&mut self, outbox: u64, connection: &Connection) -> rusqlite::Result<()> {
        self.beside_bytes = pages_in_use(connection)?.saturating_mul(PAGE_BYTES).saturating_sub(outbox);
        Ok(())
    }

    /// Does not count what the file takes when there is nothing in it: a page for each table and each index, and those
    /// of the statements that made them. Of a small quota that would be all.
    pub(crate) fn disregard_empty_tables(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let pages =
            "select 1 + count(*) + coalesce(sum(length(sql)), 0) / ?1 from sqlite_schema where rootpage > 0";
        let pages: i64 = connection.query_row(pages, [PAGE_BYTES.cast_signed()], |row| row.get(0))?;
        self.beside_bytes = pages.unsigned_abs() * PAGE_BYTES;
        Ok(())
    }

    /// Notes in the file what is not counted, for whoever reads it. A full disk may refuse that.
    pub(crate) fn note_beside(bytes: u64, connection: &Connection) -> rusqlite::Result<()> {
        if read_beside(connection)? != bytes {
            let bytes = bytes.to_le_bytes();
            let upsert = "insert or replace into meta (key, value) values ('beside_bytes', ?1)";
            drop(connection.execute(upsert, [&bytes[..]]));
        }
        Ok(())
    }

    /// Bytes of the file that are not counted.
    pub(crate) const fn beside_bytes(&self) -> u64 {
        self.beside_bytes
    }

    /// Whether so many more bytes are too many.
    pub(crate) fn is_exceeded_by(&self, bytes: u64, connection: &Connection) -> rusqlite::Result<bool> {
        let pages = pages_in_use(connection)?.saturating_mul(PAGE_BYTES);
        let wal = fs::metadata(&self.wal).map_or(0, |metadata| metadata.len());
        Ok(pages.saturating_sub(self.beside_bytes) + wal + bytes > self.max_bytes)
    }

    pub(crate) const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }
}

/// How many bytes of the file are not the outbox's, as its writer has noted.
pub(crate) fn read_beside(connection: &Connection) -> rusqlite::Result<u64> {
    let noted = connection
        .query_row("select value from meta where key = 'beside_bytes'", [], |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    Ok(noted.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes))
}

/// Pages that hold something; those of deleted rows are used again before the file grows.
fn pages_in_use(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name| {
        connection.prepare_cached(name)?.query_row([], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
    };
    Ok(pragma("pragma page_count")?.saturating_sub(pragma("pragma freelist_count")?))
}

fn default_bytes(file: &Path) -> u64 {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    let volume = rustix::fs::statvfs(directory.unwrap_or(Path::new(".")));
    // A volume that does not tell its size is taken for a large one.
    volume.map_or(DEFAULT_BYTES, |volume| {
        (volume.f_blocks.saturating_mul(volume.f_frsize) / DEFAULT_SHARE).min(DEFAULT_BYTES)
    })
}
