//! Rolling up in the embedded store: rows are read and added up here, on a connection of its own; the writer
//! is only asked to put the cells down, in pieces of a few milliseconds.
//!
//! The marks go last. Until then every reader takes the bucket's calls from the rows, so that it does not
//! matter that cells come in pieces, or that the process dies between two of them: the marks are still there,
//! and the next round makes the same cells again. A mark that was renewed in the meantime stays.

use super::{
    bucket::{Span, containing},
    dirty,
    groups::{Groups, Label},
    leaving::{self, leaving_sqlite},
    read_sqlite::{self, read_cells, read_rows},
    sums::Sums,
    tables::{self, Subject, columns},
};
use crate::{
    orders::{OrderError, Orders},
    sqlite,
    value::Value,
};
use mcpmeter_observer::Timestamp;
use rusqlite::{Connection, Transaction, params_from_iter};
use std::{borrow::Cow, ops::Range, path::PathBuf, time::Duration};
use tokio::task::spawn_blocking;

/// How many buckets are taken at once: an hour's.
const BUCKETS: u32 = 12;
/// How many cells the writer puts down, or takes away, between two batches.
const PIECE: usize = 200;

/// Why the embedded store's rollups could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqliteRollupError {
    #[error("cannot read the store")]
    Read(#[from] rusqlite::Error),
    #[error(transparent)]
    Write(#[from] OrderError),
    #[error("the reading thread panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The embedded store, as far as rollups need it.
pub(super) struct EmbeddedStore {
    pub(super) file: PathBuf,
    pub(super) orders: Orders,
}

/// A bucket and the version of its mark.
type Mark = (Timestamp, i64);

/// The cells of one bucket in one table.
struct Bucket {
    span: Span,
    subject: Subject,
    start: Timestamp,
    /// As many as there are that follow their rows; they are to go.
    stale: u32,
    cells: Vec<(Label, Sums)>,
}

/// A small part of what has to be written.
enum Piece {
    /// So many cells of the bucket go away.
    Delete(Span, Subject, Timestamp, u32),
    /// These come in their place.
    Insert(Span, Subject, Timestamp, Vec<(Label, Sums)>),
}

impl EmbeddedStore {
    /// Rolls up some of the buckets that are ready and says how many.
    pub(super) async fn roll_up(&self, quiet: Duration) -> Result<usize, SqliteRollupError> {
        let marks = self.read(move |connection| ready(connection, quiet)).await?;
        let starts: Vec<_> = marks.iter().map(|(start, _)| *start).collect();
        for span in Span::ALL {
            let starts = containing(span, &starts);
            let buckets = self.read(move |connection| make(connection, span, &starts)).await?;
            self.write(buckets).await?;
        }
        let done = marks.len();
        if done > 0 {
            self.orders.transact(move |transaction| unmark(transaction, &marks)).await?;
        }
        Ok(done)
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SqliteRollupError> {
        let file = self.file.clone();
        Ok(spawn_blocking(move || question(&sqlite::open_reader(&file)?)).await??)
    }

    /// Has the writer replace the cells of the buckets, as many in one transaction as take it little time.
    async fn write(&self, buckets: Vec<Bucket>) -> Result<(), SqliteRollupError> {
        let mut pieces = buckets.into_iter().flat_map(Bucket::into_pieces).peekable();
        while pieces.peek().is_some() {
            let (mut together, mut cells) = (Vec::new(), 0);
            while let Some(piece) = pieces.next_if(|piece| cells == 0 || cells + piece.cells() <= PIECE) {
                cells += piece.cells();
                together.push(piece);
            }
            let carry_out = move |transaction: &Transaction<'_>| {
                together.iter().try_for_each(|piece| piece.carry_out(transaction))
            };
            self.orders.transact(carry_out).await?;
        }
        Ok(())
    }
}

impl Bucket {
    fn into_pieces(self) -> Vec<Piece> {
        let Self { span, subject, start, mut stale, mut cells } = self;
        let mut pieces = Vec::new();
        while stale > 0 {
            let some = stale.min(PIECE as u32);
            pieces.push(Piece::Delete(span, subject, start, some));
            stale -= some;
        }
        while !cells.is_empty() {
            let some = cells.split_off(cells.len().saturating_sub(PIECE));
            pieces.push(Piece::Insert(span, subject, start, some));
        }
        pieces
    }
}

impl Piece {
    fn cells(&self) -> usize {
        match self {
            Self::Delete(.., cells) => *cells as usize,
            Self::Insert(.., cells) => cells.len(),
        }
    }

    fn carry_out(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        match self {
            Self::Delete(span, subject, start, cells) => {
                let table = tables::name(*span, *subject);
                let delete = format!(
                    "delete from {table} where rowid in
                       (select rowid from {table} where bucket_start = ?1 and kept_at is null limit ?2)"
                );
                transaction.prepare_cached(&delete)?.execute((start.0, cells)).map(drop)
            }
            Self::Insert(span, subject, start, cells) => insert(transaction, *span, *subject, *start, cells),
        }
    }
}

/// The newest buckets that are closed and have not been marked for a while.
fn ready(connection: &Connection, quiet: Duration) -> rusqlite::Result<Vec<Mark>> {
    let now = dirty::now().0;
    let quiet = i64::try_from(quiet.as_micros()).unwrap_or(i64::MAX);
    // A mark from the future is one of a clock that was set back since.
    let mut select = connection.prepare(&format!(
        "select bucket_start, version from rollup_dirty
         where bucket_start <= ?1 and (marked_at <= ?2 or marked_at > ?3) order by bucket_start desc limit {BUCKETS}"
    ))?;
    let bounds = (now - Span::FiveMinutes.us(), now.saturating_sub(quiet), now);
    let marks = select.query_map(bounds, |row| Ok((Timestamp(row.get(0)?), row.get(1)?)))?;
    marks.collect()
}

/// The cells of the buckets for every subject: of 5 minutes from the rows, of more from the cells of less.
fn make(connection: &Connection, span: Span, starts: &[Timestamp]) -> rusqlite::Result<Vec<Bucket>> {
    let mut buckets = Vec::new();
    for start in starts {
        let made = match span.lower() {
            None => add_up_rows(connection, *start)?,
            Some(lower) => add_up_cells(connection, lower, start.0..span.end_of(*start).0)?,
        };
        for (subject, groups) in Subject::ALL.into_iter().zip(made) {
            let table = tables::name(span, subject);
            let count = format!("select count(*) from {table} where bucket_start = ?1 and kept_at is null");
            let stale = connection.prepare_cached(&count)?.query_row([start.0], |row| row.get(0))?;
            buckets.push(Bucket { span, subject, start: *start, stale, cells: groups.into_sorted() });
        }
    }
    Ok(buckets)
}

fn add_up_rows(connection: &Connection, start: Timestamp) -> rusqlite::Result<[Groups; 2]> {
    let [mut tool, mut usage] = Subject::ALL.map(|_| Groups::default());
    let bounds = (start.0, Span::FiveMinutes.end_of(start).0);
    // Reads only; dropped, it ends.
    let snapshot = connection.unchecked_transaction()?;
    let counted = leaving::counted(leaving_sqlite(&snapshot)?, start);
    read_rows(&snapshot, &format!("created_at >= ?1 and created_at < ?2{counted}"), bounds, |row| {
        tool.of(None, &row.values(Subject::Tool)).count(row.call);
        usage.of(None, &row.values(Subject::Usage)).count(row.call);
    })?;
    Ok([tool, usage])
}

fn add_up_cells(connection: &Connection, lower: Span, range: Range<i64>) -> rusqlite::Result<[Groups; 2]> {
    let mut made = Subject::ALL.map(|_| Groups::default());
    for (subject, groups) in Subject::ALL.into_iter().zip(&mut made) {
        let select = read_sqlite::cells(
            &tables::name(lower, subject),
            subject,
            true,
            "bucket_start >= ?1 and bucket_start < ?2",
        );
        read_cells(connection, &select, subject, true, (range.start, range.end), |_, _, values, sums| {
            groups.of(None, values).merge(sums);
        })?;
    }
    Ok(made)
}

/// Adds cells that follow their rows.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    span: Span,
    subject: Subject,
    start: Timestamp,
    cells: &[(Label, Sums)],
) -> rusqlite::Result<()> {
    let (table, columns) = (tables::name(span, subject), columns(subject));
    let places = tables::join(columns.split(',').enumerate().map(|(place, _)| format!("?{}", place + 1)));
    let mut insert =
        transaction.prepare_cached(&format!("insert into {table} ({columns}) values ({places})"))?;
    for (label, sums) in cells {
        insert.execute(params_from_iter(values(start, label, sums)))?;
    }
    Ok(())
}

/// A cell's values in the order of the columns.
fn values<'a>(start: Timestamp, label: &'a Label, sums: &Sums) -> Vec<Value<'a>> {
    let whole = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    let mut values = vec![Value::Time(start), Value::Null];
    values.extend(label.values.iter().map(|value| match value {
        Some(text) => Value::Text(Cow::Borrowed(text.as_str())),
        None => Value::Null,
    }));
    values.push(whole(sums.calls));
    values.extend(sums.by_status.iter().map(|calls| whole(*calls)));
    values.extend([sums.input_bytes, sums.output_bytes, sums.cpu_calls].map(whole));
    values.extend([sums.cpu_ms, sums.duration_ms].map(Value::Float));
    let (buckets, counts) = sums.latency.to_arrays();
    let arrays = [serde_json::to_string(&buckets), serde_json::to_string(&counts)];
    values.extend(arrays.map(|array| Value::Json(Cow::Owned(array.expect("numbers have a text")))));
    values
}

/// Deletes the marks that nobody has renewed.
fn unmark(transaction: &Transaction<'_>, marks: &[Mark]) -> rusqlite::Result<()> {
    let mut delete =
        transaction.prepare_cached("delete from rollup_dirty where bucket_start = ?1 and version = ?2")?;
    for (start, version) in marks {
        delete.execute((start.0, version))?;
    }
    Ok(())
}
