//! How far each segment of a ring is durable: a table in the SQLite file, written in the very transaction that
//! makes the records durable.

use rusqlite::{Connection, Transaction};
use std::collections::HashMap;
use uuid::Uuid;

/// The table.
pub(crate) const TABLE: &str = "
    -- Up to where the records of a ring (in shared memory) are in this file: offsets in bytes.
    create table if not exists ring (
      ring_id blob not null, segment integer not null, generation integer not null, \"offset\" integer not null,
      primary key (ring_id, segment)) strict, without rowid;
";

/// A place in a segment's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) generation: u64,
    /// Bytes from the segment's start.
    pub(crate) offset: usize,
}

/// Positions by segment.
pub(crate) type Positions = HashMap<usize, Position>;

/// What the file knows of the ring.
pub(crate) fn read(connection: &Connection, ring: Uuid) -> rusqlite::Result<Positions> {
    let mut select =
        connection.prepare_cached("select segment, generation, \"offset\" from ring where ring_id = ?1")?;
    let rows = select.query_map([ring], |row| {
        let [segment, generation, offset] = [row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?];
        // Negative numbers were never written; they stand for a place before everything.
        let position = Position {
            generation: u64::try_from(generation).unwrap_or(0),
            offset: usize::try_from(offset).unwrap_or(0),
        };
        Ok((usize::try_from(segment).unwrap_or(usize::MAX), position))
    })?;
    rows.collect()
}

/// Notes that the segment is durable up to the position.
pub(crate) fn note(
    transaction: &Transaction<'_>,
    ring: Uuid,
    segment: usize,
    position: Position,
) -> rusqlite::Result<()> {
    let mut upsert = transaction.prepare_cached(
        "insert into ring (ring_id, segment, generation, \"offset\") values (?1, ?2, ?3, ?4)
         on conflict (ring_id, segment)
         do update set generation = excluded.generation, \"offset\" = excluded.\"offset\"",
    )?;
    // 47 bits, and less than a segment: both fit.
    let (generation, offset) = (position.generation.cast_signed(), position.offset.cast_signed() as i64);
    upsert.execute((ring, segment.cast_signed() as i64, generation, offset))?;
    Ok(())
}

/// Forgets all rings, whose files are gone.
pub(crate) fn forget_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("delete from ring", [])?;
    Ok(())
}
