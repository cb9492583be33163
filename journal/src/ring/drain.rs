//! The reading side of the ring: what is committed there and not yet durable, and how far the writer has come.
//!
//! The writer holds no records of its own: it writes from the segments, and a segment is freed when all of it is
//! durable. Whatever goes wrong in between, the records are where they were.

use super::{
    file::Header,
    frame::Frames,
    memory::{Consumer, SEGMENT_HEAD},
    positions::{self, Position, Positions},
    recovery::first_unread,
    state::State,
};
use crate::outbox::decode;
use mcpmeter_observer::Timestamp;
use rusqlite::{Connection, Transaction};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The one reader of a ring.
pub(crate) struct Drain {
    consumer: Consumer,
    header: Header,
    /// Absent if the memory ends with the process.
    file: Option<PathBuf>,
    /// Up to where each segment is durable.
    durable: Vec<Position>,
    /// Up to where somebody has seen each segment's records.
    seen: Vec<Position>,
    /// Segments with what an earlier process has left, until it is known how far that is durable.
    left: Vec<usize>,
}

/// Frames of one segment that are not durable yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    segment: usize,
    generation: u64,
    from: usize,
    to: usize,
}

impl Range {
    pub(crate) const fn bytes(&self) -> usize {
        self.to - self.from
    }
}

impl Drain {
    pub(super) fn new(consumer: Consumer, header: Header, file: Option<PathBuf>) -> Self {
        let start = Position { generation: 0, offset: SEGMENT_HEAD };
        let segments = consumer.segments();
        let left = Vec::new();
        Self { consumer, header, file, durable: vec![start; segments], seen: vec![start; segments], left }
    }

    /// The reader of a ring that an earlier process has left.
    pub(super) fn of_left(consumer: Consumer, header: Header, file: PathBuf) -> Self {
        let mut drain = Self::new(consumer, header, Some(file));
        drain.left = drain.consumer.in_use().collect();
        for &segment in &drain.left {
            let State { generation, committed, .. } = drain.consumer.state(segment);
            // Whoever watched that process has seen it, or could have.
            drain.seen[segment] = Position { generation, offset: committed };
        }
        drain
    }

    /// What SQLite knows of the ring, if an earlier process has left anything in it.
    pub(crate) fn known(&self, connection: &Connection) -> rusqlite::Result<Positions> {
        if self.left.is_empty() { Ok(Positions::new()) } else { positions::read(connection, self.header.id) }
    }

    /// Learns how far SQLite has what an earlier process left in the ring; says how many records it does not have.
    pub(crate) fn resume(&mut self, known: &Positions) -> u64 {
        let mut records = 0;
        for segment in std::mem::take(&mut self.left) {
            let state = self.consumer.state(segment);
            let State { generation, committed, .. } = state;
            let offset = first_unread(state, known.get(&segment).copied()).min(committed);
            self.durable[segment] = Position { generation, offset };
            let mut frames = self.frames(&Range { segment, generation, from: offset, to: committed });
            records += frames.by_ref().count() as u64 + frames.count_damaged();
        }
        records
    }

    /// Takes nothing any more: what is pending when this returns is the last there will be.
    pub(crate) fn shut(&mut self) {
        self.consumer.shut();
    }

    /// Where the ring's memory is, if it is a file.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Everything that is committed at this moment and not durable. Frees segments that are found to be both
    /// full and durable.
    pub(crate) fn pending(&mut self) -> Vec<Range> {
        let (mut ranges, mut finished) = (Vec::new(), Vec::new());
        for segment in self.consumer.in_use() {
            let State { generation, sealed, committed } = self.consumer.state(segment);
            let from = offset_in(self.durable[segment], generation);
            if from < committed {
                ranges.push(Range { segment, generation, from, to: committed });
            } else if sealed {
                finished.push(segment);
            }
        }
        for segment in finished {
            self.consumer.free(segment);
        }
        ranges
    }

    /// The records of a range that was not settled yet.
    pub(crate) fn frames(&self, range: &Range) -> Frames<'_> {
        let bytes = self.consumer.committed(range.segment);
        let bytes = bytes.get(range.from - SEGMENT_HEAD..range.to - SEGMENT_HEAD).unwrap_or_default();
        Frames::new(bytes, self.header.seed(range.segment, range.generation))
    }

    /// When the oldest of the ranges' records was finished; those of one segment are in the order of their ends.
    pub(crate) fn oldest<'a>(&self, ranges: impl IntoIterator<Item = &'a Range>) -> Option<Timestamp> {
        let first =
            |range| self.frames(range).next().and_then(|frame| decode(self.header.format.into(), frame).ok());
        ranges.into_iter().filter_map(first).map(|record| record.completed_at).min()
    }

    /// Whether the range's records were shown to whoever watches, which happens once.
    pub(crate) fn is_seen(&self, range: &Range) -> bool {
        offset_in(self.seen[range.segment], range.generation) >= range.to
    }

    /// See [`Drain::is_seen`].
    pub(crate) fn mark_seen(&mut self, range: &Range) {
        self.seen[range.segment] = range.end();
    }

    /// Notes in the transaction that the range becomes durable with it.
    pub(crate) fn note(&self, transaction: &Transaction<'_>, range: &Range) -> rusqlite::Result<()> {
        positions::note(transaction, self.header.id, range.segment, range.end())
    }

    /// Notes how far every segment is durable: for a new SQLite file.
    pub(crate) fn note_all(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for segment in self.consumer.in_use() {
            let durable = self.durable[segment];
            if durable.generation > 0 {
                positions::note(transaction, self.header.id, segment, durable)?;
            }
        }
        Ok(())
    }

    /// The range is durable.
    pub(crate) fn settle(&mut self, range: &Range) {
        self.durable[range.segment] = range.end();
        let state = self.consumer.state(range.segment);
        if state.sealed && state.committed == range.to {
            self.consumer.free(range.segment);
        }
    }

    /// Deletes the file of a ring that was shut and is drained, and forgets its positions.
    pub(crate) fn delete(&self, connection: Option<&Connection>) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        match fs::remove_file(file) {
            // Somebody has cleared the directory; nothing was in it that is not durable.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // What is left in the table without the file means nothing, and the next start deletes it.
        if let Some(connection) = connection {
            drop(connection.execute("delete from ring where ring_id = ?1", [self.header.id]));
        }
        Ok(())
    }
}

#[cfg(test)]
impl Drain {
    pub(super) fn committed(&self, segment: usize) -> usize {
        self.consumer.state(segment).committed
    }
}

impl Range {
    const fn end(&self) -> Position {
        Position { generation: self.generation, offset: self.to }
    }
}

/// The offset in the generation: at its start if the position is of another.
fn offset_in(position: Position, generation: u64) -> usize {
    if position.generation == generation { position.offset } else { SEGMENT_HEAD }
}
