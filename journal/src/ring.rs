//! Where the request path leaves a finished record: a ring of segments in shared memory that outlives the
//! process. Bounded, and never a reason to wait.
//!
//! Accepting is to encode the record into the segment that the thread has for itself, to take a checksum, and
//! one release store. It takes no lock, makes no system call and wakes nobody: the writer comes by on its own
//! tick. When no segment is free the newest record is dropped and counted; what is there is never given up for
//! it. The formats stand where they are read: `memory` (segments), `frame` (records), `file` (the header).
//!
//! # Why no record is lost or stored twice, whatever is killed when
//!
//! *The facts.* A segment has a generation G and an end C in one word in shared memory, which is stored whole.
//! For each segment SQLite has (g, o), written in the transaction that holds the records up to o of generation
//! g. Recovery takes all frames if G > g (or SQLite knows nothing), those from o on if G = g, none if G < g.
//!
//! *Producer, killed*
//!  1. before the frame is complete, or before C is stored: C excludes it. `accept` had not returned, so the
//!     call was not finished for anybody.
//!  2. after C is stored: recovery finds it, since o ≤ C is only moved by a COMMIT that holds it.
//!  3. between taking a segment and storing (G+1, no frames): the segment reads as it did when it was freed.
//!     After that store: G+1 > g, and there are no frames. The frames of generation G in the bytes beyond fail
//!     their checksums, which are seeded with the generation; and C excludes them.
//!  4. between taking the next segment and sealing the last: both are read; sealing changes neither G nor C.
//!
//! *Writer, killed*
//!  5. before COMMIT: SQLite rolls records and positions back together; (g, o) is as before, and nothing was
//!     freed. Recovery takes the frames again: once.
//!  6. after COMMIT, before the segment is freed: (g, o) = (G, C). Recovery takes none.
//!  7. after the segment is freed: (G, no frames). Recovery takes none, with or without SQLite's word for it.
//!  8. after it is used again: G+1 > g. Recovery takes all frames, none of which was in a transaction, or else
//!     that would have made g = G+1.
//!
//! A commit of which the disk reports an error without our knowing whether it happened is tried again with the
//! same records: the store skips them by their key, PostgreSQL does.
//!
//! *Recovery, killed.* It only reads the ring. Its one transaction writes the records and (G, C) for every
//! segment that had any; before its COMMIT nothing has changed, after it every rule above gives none. Only then
//! is the file deleted, only then does the lock file name the next ring, only then is that made: a kill between
//! two of these finds either the same ring with nothing left in it, or the name of a ring that was to be made. Nobody
//! hands over a record before the new ring stands and the lock file says so.
//!
//! *Recovery, refused by the disk.* The same file is gone on with: what is committed there is sealed, the generations
//! go on growing, and everything above holds as if the process had not ended. Until SQLite has told how far it has
//! read (`Drain::resume`) nothing is written from it.
//!
//! *An orderly end.* The ring is shut before it is drained for the last time: a producer that is in the middle of
//! anything finds the word of its segment changed, and counts its record as lost. So nothing can be in a file that
//! is deleted.
//!
//! *SQLite lost* (set aside as corrupt, deleted): all frames of segments that are not free count. Some may have
//! reached PostgreSQL by way of the lost file: those it refuses by their key.
//!
//! *Power cut, or a container that goes with its `/dev/shm`.* Shared memory is gone, and with it what was not yet
//! committed (up to a tick's worth); what was is on the disk. The next start finds the name without the file and says
//! that calls are lost.

mod drain;
mod file;
mod frame;
mod memory;
mod positions;
mod recovery;
mod state;

pub(crate) use self::{
    drain::{Drain, Range},
    file::{LeftRing, RingFileError},
    frame::Frames,
    positions::{Positions, TABLE, forget_all},
};
use self::{
    file::Header,
    frame::Seed,
    memory::{Consumer, Memory, OpenSegment, SEGMENT_BYTES},
};
use crate::{
    accounts::{Ledger, LossReason},
    chain::chain,
    outbox::FORMAT,
};
use mcpmeter_observer::CallRecord;
use std::{
    cell::RefCell,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use thread_local::ThreadLocal;
use tracing::warn;

/// With fewer segments a handful of threads could not have one each.
const LEAST_SEGMENTS: usize = 4;

/// The writing side, shared by all threads that finish calls.
pub(crate) struct Ring {
    memory: Arc<Memory>,
    header: Header,
    /// The segment that each thread has to itself. Who comes after a thread has ended takes over its segment.
    held: ThreadLocal<RefCell<Option<Held>>>,
}

struct Held {
    segment: OpenSegment,
    seed: Seed,
}

/// A ring that was just made.
pub(crate) struct Made {
    pub(crate) ring: Ring,
    pub(crate) drain: Drain,
}

/// The identity of a ring that is to be made, told beforehand so that it can be written down first.
#[derive(Debug)]
pub(crate) struct Plan {
    header: Header,
    directory: PathBuf,
}

impl Plan {
    /// A ring of about that many bytes, with its file in the directory.
    pub(crate) fn new(bytes: usize, directory: &Path) -> Self {
        let segments = (bytes / SEGMENT_BYTES).max(LEAST_SEGMENTS);
        Self { header: Header::new(FORMAT, segments), directory: directory.to_owned() }
    }

    /// Where its file is going to be.
    pub(crate) fn file(&self) -> PathBuf {
        file::path(&self.directory, self.header.id)
    }

    /// Makes the ring. Where there can be no file, its memory ends with the process: that is said, and no
    /// reason not to start.
    pub(crate) fn make(self) -> io::Result<Made> {
        let path = self.file();
        let segments = self.header.segments;
        let (memory, path) = match make_file(&path, self.header) {
            Ok(memory) => (memory, Some(path)),
            Err(error) => {
                warn!(
                    file = %path.display(),
                    error = chain(&error),
                    "no queue in shared memory: calls of the last moment are lost if this process is killed"
                );
                (Memory::anonymous(segments)?, None)
            }
        };
        let (memory, consumer) = Consumer::of(memory);
        let ring = Ring { memory, header: self.header, held: ThreadLocal::new() };
        Ok(Made { ring, drain: Drain::new(consumer, self.header, path) })
    }
}

/// Goes on with the ring that an earlier process left, with everything that is in it. Nothing is written from it before
/// [`Drain::resume`].
pub(crate) fn take_over(path: &Path) -> Result<Made, RingFileError> {
    let (file, header) = file::take_over(path, FORMAT)?;
    let (memory, consumer) = Consumer::of(Memory::of_left(file, header.segments)?);
    let ring = Ring { memory, header, held: ThreadLocal::new() };
    Ok(Made { ring, drain: Drain::of_left(consumer, header, path.to_owned()) })
}

fn make_file(path: &Path, header: Header) -> io::Result<Memory> {
    let file = file::create(path, header)?;
    Memory::of_file(file, header.segments).inspect_err(|_| drop(fs::remove_file(path)))
}

impl Ring {
    /// Takes the record, or counts it as lost.
    pub(crate) fn accept(&self, record: &CallRecord, ledger: &Ledger) {
        // Counted before it can be taken, so that no snapshot finds more taken than finished.
        ledger.count_finished();
        if let Err(reason) = self.put(record) {
            ledger.count_lost(reason, 1);
        }
    }

    fn put(&self, record: &CallRecord) -> Result<(), LossReason> {
        let mut place = self.held.get_or_default().borrow_mut();
        loop {
            if let Some(held) = &mut *place {
                if let Some(bytes) = frame::write(record, held.seed, held.segment.rest()) {
                    return if held.segment.commit(bytes) { Ok(()) } else { Err(LossReason::Closed) };
                }
                if held.segment.is_empty() {
                    return Err(LossReason::Oversize);
                }
            }
            let segment = self.memory.open().ok_or_else(|| self.refusal())?;
            let seed = self.header.seed(segment.number(), segment.generation());
            if let Some(full) = place.replace(Held { segment, seed }) {
                full.segment.seal();
            }
        }
    }

    /// Why there is no segment.
    fn refusal(&self) -> LossReason {
        if self.memory.is_shut() { LossReason::Closed } else { LossReason::QueueFull }
    }
}

#[cfg(test)]
mod tests;
