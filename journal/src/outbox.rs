//! The outbox: records that wait in SQLite until PostgreSQL certainly has them.
//!
//! A row is a number, a format version and the record in that format. A format is the record's fields in their
//! order in postcard's encoding (variable-length integers, an enum as the number of its variant); it says
//! nothing about itself, so any change to [`CallRecord`] or to the order of a vocabulary needs a new number
//! here, and what is in an older format is read as long as there may be such rows (`older`).
//!
//! The writer thread appends and deletes, the shipper only reads, and what is erased is written over (`erase`). Rows are only ever added behind the last and
//! deleted from the first on, so that the two numbers at the ends tell how many there are.

mod older;

use mcpmeter_observer::CallRecord;
use rusqlite::{Connection, Transaction};

/// The format in which records are written, here and in the queue.
pub(crate) const FORMAT: u32 = 2;

/// Stands in the place of the format where a call was erased while it waited: the row stays, so that numbers follow each
/// other and the accounts balance, without anything in it. It counts as stored: erased a moment later, it would have been.
pub(crate) const ERASED: i64 = 0;

/// How much one batch may hold. Beyond about 5,000 rows a COPY gains nothing, and 4 MiB bound the memory.
pub(crate) const BATCH_RECORDS: u32 = 5_000;
/// See [`BATCH_RECORDS`]; the record that crosses the line still belongs to the batch.
const BATCH_BYTES: usize = 4 << 20;

/// One row of the outbox.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) seq: i64,
    /// The record, or why it cannot be read.
    pub(crate) record: Result<CallRecord, Undecodable>,
}

/// A row that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undecodable {
    #[error("the record was erased")]
    Erased,
    #[error("the record has the unknown format {0}")]
    Format(i64),
    #[error("the record is damaged: {0}")]
    Damaged(#[from] postcard::Error),
}

impl Entry {
    /// Whether it can never be stored: nobody can read it, and nobody has erased it.
    pub(crate) const fn is_misfit(&self) -> bool {
        matches!(&self.record, Err(Undecodable::Format(_) | Undecodable::Damaged(_)))
    }
}

/// Appends the encoded records in their order and returns the last number, or `None` for no records.
pub(crate) fn append<'a>(
    transaction: &Transaction<'_>,
    format: u32,
    records: impl Iterator<Item = &'a [u8]>,
) -> rusqlite::Result<Option<i64>> {
    let mut insert = transaction.prepare_cached("insert into outbox (format, record) values (?1, ?2)")?;
    let mut last = None;
    for record in records {
        last = Some(insert.insert((format, record))?);
    }
    Ok(last)
}

/// Deletes what PostgreSQL certainly has.
pub(crate) fn retire(transaction: &Transaction<'_>, up_to: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("delete from outbox where seq <= ?1")?.execute([up_to])?;
    Ok(())
}

/// The next batch: rows after `after` and up to `up_to`, oldest first.
pub(crate) fn read(connection: &Connection, after: i64, up_to: i64) -> rusqlite::Result<Vec<Entry>> {
    let mut select = connection.prepare_cached(
        "select seq, format, record from outbox where seq > ?1 and seq <= ?2 order by seq limit ?3",
    )?;
    let mut rows = select.query((after, up_to, BATCH_RECORDS))?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        let Some(row) = rows.next()? else { break };
        let record = row.get_ref(2)?.as_blob()?;
        bytes += record.len();
        batch.push(Entry { seq: row.get(0)?, record: decode(row.get(1)?, record) });
    }
    Ok(batch)
}

/// The record that was encoded in the format.
pub(crate) fn decode(format: i64, record: &[u8]) -> Result<CallRecord, Undecodable> {
    const KNOWN: i64 = FORMAT as i64;
    match format {
        KNOWN => Ok(postcard::from_bytes(record)?),
        older::FORMAT_1 => Ok(postcard::from_bytes(&older::of_format_1(record)?)?),
        ERASED => Err(Undecodable::Erased),
        _ => Err(Undecodable::Format(format)),
    }
}

/// The record in [`FORMAT`].
pub(crate) fn encode(record: &CallRecord) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(record)
}

/// How many rows the outbox holds, and the highest number it ever gave.
pub(crate) fn survey(connection: &Connection) -> rusqlite::Result<(u64, i64)> {
    // Two look-ups however long the outbox is: `min` and `max` in one statement would read all of it.
    let rows: i64 = connection.query_row(
        "select coalesce((select max(seq) from outbox) - (select min(seq) from outbox) + 1, 0)",
        [],
        |row| row.get(0),
    )?;
    let last = connection.query_row(
        "select coalesce((select seq from sqlite_sequence where name = 'outbox'), 0)",
        [],
        |row| row.get(0),
    )?;
    Ok((rows.unsigned_abs(), last))
}

/// How many rows after `after` and up to `up_to` there are: those that are only here, and those set aside.
pub(crate) fn count_between(connection: &Connection, after: i64, up_to: i64) -> rusqlite::Result<(u64, u64)> {
    let (rows, aside): (i64, i64) = connection.query_row(
        "select count(*), count(quarantine.seq) from outbox left join quarantine using (seq)
         where outbox.seq > ?1 and outbox.seq <= ?2",
        (after, up_to),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(((rows - aside).unsigned_abs(), aside.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_an_unknown_format_or_with_damage_is_told_apart_from_a_record() {
        assert!(matches!(decode(3, &[]), Err(Undecodable::Format(3))));
        for format in [FORMAT.into(), older::FORMAT_1] {
            assert!(matches!(decode(format, &[1, 2, 3]), Err(Undecodable::Damaged(_))));
        }
    }
}
