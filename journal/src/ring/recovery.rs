//! Reads what an earlier process left in its ring. Only reads: whoever asks makes the records durable, notes in
//! the same transaction how far (`positions`), and then deletes the file.

use super::{
    file::LeftRing,
    frame::{Frames, Seed},
    memory::SEGMENT_HEAD,
    positions::{self, Position, Positions},
    state::State,
};
use rusqlite::{Connection, Transaction};
use std::io;

/// What is left of one segment.
pub(crate) struct Remains {
    pub(crate) segment: usize,
    /// Where the next reader would begin: behind everything.
    pub(crate) position: Position,
    bytes: Vec<u8>,
    from: usize,
    seed: Seed,
}

impl LeftRing {
    /// How many segments it has.
    pub(crate) const fn segments(&self) -> usize {
        self.header.segments
    }

    /// The format of its records, as the outbox numbers them.
    pub(crate) const fn format(&self) -> u32 {
        self.header.format
    }

    /// What SQLite knows of it.
    pub(crate) fn positions(&self, connection: &Connection) -> rusqlite::Result<Positions> {
        positions::read(connection, self.header.id)
    }

    /// Notes in the transaction that everything of the segment becomes durable with it.
    pub(crate) fn note(&self, transaction: &Transaction<'_>, remains: &Remains) -> rusqlite::Result<()> {
        positions::note(transaction, self.header.id, remains.segment, remains.position)
    }

    /// What is in the segment and not durable, as far as `known` says; `None` for nothing.
    pub(crate) fn remains(&self, segment: usize, known: &Positions) -> io::Result<Option<Remains>> {
        let (state, bytes) = self.segment(segment)?;
        let from = first_unread(state, known.get(&segment).copied());
        if from >= state.committed {
            return Ok(None);
        }
        let position = Position { generation: state.generation, offset: state.committed };
        let seed = self.header.seed(segment, state.generation);
        Ok(Some(Remains { segment, position, bytes, from, seed }))
    }
}

/// Where the frames begin that are not durable.
pub(super) fn first_unread(state: State, known: Option<Position>) -> usize {
    match known {
        Some(known) if known.generation > state.generation => state.committed,
        Some(known) if known.generation == state.generation => known.offset.max(SEGMENT_HEAD),
        _ => SEGMENT_HEAD,
    }
}

impl Remains {
    /// The records; ends at the first frame that is not whole.
    pub(crate) fn frames(&self) -> Frames<'_> {
        Frames::new(self.bytes.get(self.from..).unwrap_or_default(), self.seed)
    }

    /// Whether the file ends before what was committed does.
    pub(crate) const fn is_cut(&self) -> bool {
        self.position.offset > self.bytes.len()
    }
}
