//! A damaged SQLite file: put aside, never deleted, and replaced by a new one, so that recording goes on.
//!
//! The file and its log are renamed to `<file>.corrupt-<time>`. What can still be read of the outbox, the
//! quarantine, the gaps, the samples for PostgreSQL and the keys of callers is copied into the new file. The outbox keeps its identity, and its records get the
//! numbers behind the last one given, so that there are no holes; if the identity or the last number cannot be
//! read, the new outbox is a new one. Either way PostgreSQL refuses by its key what it has already. Rows of the
//! store are not copied: `sqlite3 <file>.corrupt-<time> .recover` gets at them.
//!
//! Nothing here ever writes to a file that was set aside.
//!
//! The new file is made, whole, and with the row that says what is lost, as `<file>.fresh`; only then is the damaged one renamed, and then the new one. Killed
//! before the first renaming, the next process finds the damaged file and begins again; killed between the two, it
//! finds no file but a fresh one, and finishes ([`finish_replacement`]).

use crate::{gap, keys, outbox, sample, sqlite};
use mcpmeter_observer::Timestamp;
use rusqlite::{Connection, ErrorCode, Row, Transaction, params_from_iter, types::Value};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tracing::{error, warn};
use uuid::Uuid;

/// Rows copied in one transaction.
const CHUNK: usize = 5_000;

/// What was saved from a damaged file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Salvage {
    /// The outbox goes on under its old identity and numbers.
    pub(crate) identity: Option<Identity>,
    /// Records of the outbox.
    pub(crate) records: u64,
    /// Records of the outbox that were not saved; `None` if nobody knows.
    pub(crate) lost: Option<u64>,
}

/// What makes an outbox the same towards PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) spool_id: Uuid,
    /// The highest number ever given.
    pub(crate) last_seq: i64,
}

/// Where the new file is made.
pub(crate) fn fresh_path(file: &Path) -> PathBuf {
    sqlite::beside(file, ".fresh")
}

/// Deletes a SQLite file with what belongs to it, if it is there.
pub(crate) fn remove(file: &Path) -> io::Result<()> {
    for path in [file.to_owned(), sqlite::wal_path(file), sqlite::shm_path(file)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Finishes what a process that was killed had begun: the damaged file is away, the new one not in its place.
pub(crate) fn finish_replacement(file: &Path) -> io::Result<()> {
    let fresh = fresh_path(file);
    if file.exists() || !fresh.exists() {
        return Ok(());
    }
    // The damaged file's log may still be here, and is none of the new one's.
    set_aside(file)?;
    fs::rename(fresh, file)?;
    warn!(file = %file.display(), "finished setting a damaged file aside");
    Ok(())
}

/// Renames the damaged file and what belongs to it; says where it is now.
pub(crate) fn set_aside(file: &Path) -> io::Result<PathBuf> {
    let aside = free_name(file);
    // It is not there if an earlier attempt came this far and then could not make a new one.
    rename_if_there(file, &aside)?;
    rename_if_there(&sqlite::wal_path(file), &sqlite::wal_path(&aside))?;
    // Only an index of the log, made anew by whoever opens the file.
    match fs::remove_file(sqlite::shm_path(file)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(aside),
    }
}

fn free_name(file: &Path) -> PathBuf {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp(i64::try_from(since.as_micros()).unwrap_or(0));
    // 20260301T101112.123456Z: no characters that shells or file systems mind.
    let mut time = crate::value::rfc3339(now);
    time.retain(|character| !matches!(character, '-' | ':'));
    let name = |suffix: &str| sqlite::beside(file, &format!(".corrupt-{time}{suffix}"));
    (0..)
        .map(|number| if number == 0 { name("") } else { name(&format!("-{number}")) })
        .find(|path| !path.exists())
        .expect("some number is free")
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Copies what can be read into the new file, of the outbox only what has a number above `after`. `known` is
/// the identity if the process knows it better than the damaged file.
pub(crate) fn salvage(
    aside: &Path,
    into: &mut Connection,
    known: Option<Identity>,
    after: i64,
) -> rusqlite::Result<Salvage> {
    let damaged = sqlite::open_reader(aside);
    let identity = known.or_else(|| damaged.as_ref().ok().and_then(|damaged| read_identity(damaged).ok()));
    if let Some(identity) = identity {
        take_over(into, identity)?;
    }
    let Ok(damaged) = damaged else { return Ok(Salvage { identity, ..Salvage::default() }) };
    let expected = outbox::survey(&damaged).ok().map(|(records, _)| records);
    let last_seq = identity.map_or(i64::MAX, |identity| identity.last_seq);
    let is_record = |row: &[Value]| match row {
        [Value::Integer(seq), Value::Integer(format), Value::Blob(record)] => {
            let sound = *format == outbox::ERASED || outbox::decode(*format, record).is_ok();
            (after + 1..=last_seq).contains(seq) && sound
        }
        _ => false,
    };
    let numbered = Copy { columns: "format, record", keep_seq: false, ..Copy::numbered("outbox") };
    let records = numbered.run(&damaged, into, is_record)?;
    for (table, columns) in [
        ("quarantine", "format, record, reason, set_aside_at"),
        ("mcp_log_gap", "from_at, to_at, calls, reason, shipped, closed"),
        (sample::OUTBOX, &sample::NAMES),
    ] {
        Copy { columns, ..Copy::numbered(table) }.run(&damaged, into, |_| true)?;
    }
    salvage_keys(&damaged, into)?;
    if let Ok(Some(stamp)) = gap::read_stamp(&damaged) {
        gap::write_stamp(into, &stamp)?;
    }
    let lost = expected.map(|expected| expected.saturating_sub(records));
    Ok(Salvage { identity, records, lost })
}

/// Keys, and how many changes there were: whoever has read them goes on from there.
fn salvage_keys(damaged: &Connection, into: &mut Connection) -> rusqlite::Result<()> {
    let (table, numbers) = (keys::TABLE, keys::REVISION);
    Copy { table, seq: "revision", columns: &keys::SAVED, keep_seq: true }.run(damaged, into, |_| true)?;
    let reached = damaged.query_row(&format!("select revision from {numbers}"), [], |row| row.get(0));
    into.execute(
        &format!("update {numbers} set revision = max(?1, coalesce((select max(revision) from {table}), 0))"),
        [reached.unwrap_or(0_i64)],
    )?;
    Ok(())
}

/// Makes the new outbox the old one's continuation.
fn take_over(into: &mut Connection, Identity { spool_id, last_seq }: Identity) -> rusqlite::Result<()> {
    let transaction = into.transaction()?;
    transaction.execute("insert or replace into meta (key, value) values ('spool_id', ?1)", [spool_id])?;
    transaction.execute("delete from sqlite_sequence where name = 'outbox'", [])?;
    transaction.execute("insert into sqlite_sequence (name, seq) values ('outbox', ?1)", [last_seq])?;
    transaction.commit()
}

fn read_identity(damaged: &Connection) -> rusqlite::Result<Identity> {
    let spool_id = damaged
        .query_row("select value from meta where key = 'spool_id'", [], |row| row.get::<_, Uuid>(0))?;
    let (_, last_seq) = outbox::survey(damaged)?;
    Ok(Identity { spool_id, last_seq })
}

/// A table to be copied, from both ends up to where it cannot be read.
struct Copy<'a> {
    table: &'a str,
    /// The column with the numbers of its rows.
    seq: &'a str,
    /// The others.
    columns: &'a str,
    keep_seq: bool,
}

impl<'a> Copy<'a> {
    const fn numbered(table: &'a str) -> Self {
        Self { table, seq: "seq", columns: "", keep_seq: true }
    }

    /// Copies the rows that are sound and says how many. Fails only if the new file cannot be written.
    fn run(
        &self,
        damaged: &Connection,
        into: &mut Connection,
        is_sound: impl Fn(&[Value]) -> bool,
    ) -> rusqlite::Result<u64> {
        let Self { table, seq, columns, .. } = self;
        let (mut copied, mut reached) = (0, i64::MIN);
        for order in ["asc", "desc"] {
            let select =
                format!("select {seq}, {columns} from {table} where {seq} > ?1 order by {seq} {order}");
            let Ok(mut select) = damaged.prepare(&select) else { continue };
            let width = select.column_count();
            let read =
                |row: &Row<'_>| (0..width).map(|place| row.get(place)).collect::<Result<Vec<Value>, _>>();
            let Ok(rows) = select.query_map([reached], read) else { continue };
            let mut rows = rows.map_while(Result::ok).peekable();
            while rows.peek().is_some() {
                let transaction = into.transaction()?;
                for row in rows.by_ref().take(CHUNK) {
                    if let (Some(Value::Integer(seq)), "asc") = (row.first(), order) {
                        reached = reached.max(*seq);
                    }
                    copied += if is_sound(&row) { self.insert(&transaction, row)? } else { 0 };
                }
                transaction.commit()?;
            }
        }
        Ok(copied)
    }

    fn insert(&self, transaction: &Transaction<'_>, row: Vec<Value>) -> rusqlite::Result<u64> {
        let Self { table, seq, columns, keep_seq } = self;
        let (names, skip) =
            if *keep_seq { (format!("{seq}, {columns}"), 0) } else { ((*columns).to_owned(), 1) };
        let places = vec!["?"; row.len() - skip].join(", ");
        let insert = format!("insert or ignore into {table} ({names}) values ({places})");
        match transaction.prepare_cached(&insert)?.execute(params_from_iter(row.into_iter().skip(skip))) {
            Ok(inserted) => Ok(inserted as u64),
            // A row that damage has given a value of the wrong kind.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Says loudly what has happened.
pub(crate) fn tell(aside: &Path, reason: &str, Salvage { records, lost, .. }: &Salvage) {
    let lost = lost.map_or_else(|| "an unknown number".to_owned(), |lost| lost.to_string());
    error!(
        aside = %aside.display(), reason, salvaged = records, lost,
        "the journal's file was damaged: it was set aside, and a new one begun"
    );
}
