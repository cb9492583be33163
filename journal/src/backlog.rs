//! What waits on this machine and what was lost here: read from the files by whoever wants to know, while the proxy
//! runs and when it does not.
//!
//! Reads only, over a connection of its own, and takes no lock that a proxy could miss. Everything it reads is a
//! short read, however long the backlog is. It blocks on the disk: never to be called where that matters.

use crate::{
    lock::{lock_path, read_noted, real_path},
    outbox,
    quota::{Quota, read_beside},
    reader::ReadError,
    sqlite,
};
use mcpmeter_observer::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

/// File systems that are memory: tmpfs and ramfs, as statfs(2) numbers them.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// What the files say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Records in the outbox, from the lowest to the highest number: those in between that are gone already
    /// count, too.
    pub records: u64,
    /// When the oldest of them began and when it was finished; absent without one, or if it cannot be read.
    pub oldest: Option<(Timestamp, Timestamp)>,
    /// Bytes that the outbox takes on the disk, its log included; without rows of a time without PostgreSQL. Of the
    /// embedded store, all that it takes.
    pub bytes: u64,
    /// The quota of those bytes.
    pub max_bytes: u64,
    /// Records that PostgreSQL would not take.
    pub quarantined: u64,
    /// Why it would not take the last of them.
    pub last_refusal: Option<String>,
    /// Stretches of time in which calls were lost, the newest first.
    pub gaps: Vec<Gap>,
    /// Damaged files that were set aside and are still there.
    pub set_aside: Vec<PathBuf>,
    /// The files of the queue that are there.
    pub queues: Vec<QueueFile>,
    /// The process that writes, as far as the system tells.
    pub writer: Option<u32>,
}

/// A stretch of time in which calls were lost for one reason: a row of `mcp_log_gap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// When the first was.
    pub from: Timestamp,
    /// When the last was.
    pub to: Timestamp,
    /// How many; 0 if nobody knows.
    pub calls: u64,
    /// Why, as [`crate::LossReason::as_str`] spells it.
    pub reason: String,
}

/// A file of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether that is in memory, where no disk can slow a request.
    pub in_memory: bool,
}

impl Backlog {
    /// Reads the SQLite file and what lies beside it. `max_bytes` is the quota if one is configured, `since` is
    /// how far back gaps are wanted.
    pub fn read(file: &Path, max_bytes: Option<u64>, since: Timestamp) -> Result<Self, ReadError> {
        // Without its directory it is not there under any name.
        let file = &real_path(file).unwrap_or_else(|_| file.to_owned());
        let fail = |source| ReadError::Sqlite { file: file.to_owned(), source };
        let mut backlog =
            sqlite::open_reader(file).and_then(|connection| read_tables(&connection, since)).map_err(fail)?;
        backlog.bytes += fs::metadata(sqlite::wal_path(file)).map_or(0, |metadata| metadata.len());
        backlog.max_bytes = Quota::new(file, max_bytes).max_bytes();
        backlog.set_aside = set_aside(file);
        backlog.queues = queues(file);
        backlog.writer = writer(file);
        Ok(backlog)
    }
}

fn read_tables(connection: &Connection, since: Timestamp) -> rusqlite::Result<Backlog> {
    let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let oldest = connection
        .query_row("select format, record from outbox order by seq limit 1", [], |row| {
            Ok(outbox::decode(row.get(0)?, row.get_ref(1)?.as_blob()?).ok())
        })
        .optional()?
        .flatten();
    let last_refusal = connection
        .query_row("select reason from quarantine order by set_aside_at desc limit 1", [], |row| row.get(0))
        .optional()?;
    let pages = count("pragma page_count")?.saturating_sub(count("pragma freelist_count")?);
    Ok(Backlog {
        records: count("select coalesce(max(seq) - min(seq) + 1, 0) from outbox")?,
        oldest: oldest.map(|record| (record.created_at, record.completed_at)),
        bytes: pages.saturating_mul(sqlite::PAGE_BYTES).saturating_sub(read_beside(connection)?),
        quarantined: count("select count(*) from quarantine")?,
        last_refusal,
        gaps: read_gaps(connection, since)?,
        ..Backlog::default()
    })
}

fn read_gaps(connection: &Connection, since: Timestamp) -> rusqlite::Result<Vec<Gap>> {
    let mut select = connection.prepare(
        "select from_at, to_at, calls, reason from mcp_log_gap where to_at >= ?1 order by to_at desc limit 1000",
    )?;
    let rows = select.query_map([since.0], |row| {
        Ok(Gap {
            from: Timestamp(row.get(0)?),
            to: Timestamp(row.get(1)?),
            calls: row.get::<_, i64>(2)?.unsigned_abs(),
            reason: row.get(3)?,
        })
    })?;
    rows.collect()
}

/// What `corrupt` has left beside the file.
fn set_aside(file: &Path) -> Vec<PathBuf> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    let Some(name) = file.file_name() else { return Vec::new() };
    let prefix = [name.as_bytes(), b".corrupt-"].concat();
    let entries = fs::read_dir(directory.unwrap_or(Path::new("."))).into_iter().flatten().flatten();
    let is_one = |name: &OsStr| {
        let bytes = name.as_bytes();
        bytes.starts_with(&prefix) && ![&b"-wal"[..], b"-shm"].iter().any(|part| bytes.ends_with(part))
    };
    let mut found: Vec<_> =
        entries.filter(|entry| is_one(&entry.file_name())).map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// The files whose paths the lock file holds.
fn queues(file: &Path) -> Vec<QueueFile> {
    let noted = read_noted(file).into_iter().map(|noted| noted.path).filter(|path| path.exists());
    noted
        .map(|path| {
            let system = rustix::fs::statfs(&path);
            let kind = system.map(|system| u64::try_from(system.f_type).unwrap_or(0));
            QueueFile { in_memory: kind.is_ok_and(|kind| IN_MEMORY.contains(&kind)), path }
        })
        .collect()
}

/// Who holds the lock. Asked of the kernel's table: to try the lock would be to hold it for a moment, in which a
/// starting proxy would be refused.
fn writer(file: &Path) -> Option<u32> {
    let inode = fs::metadata(lock_path(file)).ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // "1: FLOCK  ADVISORY  WRITE 4242 fe:01:1835079 0 EOF"
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let ours = words.get(1) == Some(&"FLOCK") && words.get(5)?.rsplit(':').next() == Some(&*inode);
        ours.then(|| words.get(4)?.parse().ok()).flatten()
    })
}
