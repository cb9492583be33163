//! The ring's memory: who may touch which bytes of it. All unsafe code of the ring is in this file.
//!
//! A segment begins with its state, one word that is only ever read and written whole:
//!
//! ```text
//! bits 63..17 generation   grows by one at each use of the segment, 0 before the first
//! bit  16     sealed       its producer writes no more
//! bits 15..0  committed    frames end here (bytes from the start of the segment; 8 for no frames)
//! ```
//!
//! Three rules keep the memory free of races; the types enforce them:
//!
//! * Bytes beyond `committed` belong to the one [`OpenSegment`] of the segment. There is never a second one:
//!   making it takes the segment's bit out of the set of free segments, and only [`Consumer::free`] puts it back.
//! * Bytes before `committed` never change until the segment is freed; everyone may read them.
//! * Freeing takes the [`Consumer`] mutably, of which there is one, and all slices to read borrow from it.
//!
//! Nothing here may look at what the bytes mean. That no other program writes to the memory is assumed: the
//! file belongs to this user alone (mode 0600), and the journal's lock keeps a second mcpmeter away.

use memmap2::{MmapOptions, MmapRaw};
use std::{
    fs::File,
    io, slice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Bytes of a segment. Small enough that a quiet process touches little memory, large enough that taking the
/// next one is rare: about a hundred records.
pub(crate) const SEGMENT_BYTES: usize = 32 << 10;
/// Bytes of a segment before its first frame: the state.
pub(crate) const SEGMENT_HEAD: usize = 8;
/// Bytes before the first segment: the file's header, see [`super::file`].
pub(crate) const HEADER_BYTES: usize = 4096;

/// What a segment's first word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) generation: u64,
    pub(crate) sealed: bool,
    /// The end of the frames, from the start of the segment.
    pub(crate) committed: usize,
}

impl State {
    const SEALED: u64 = 1 << 16;

    /// The state in a word. A damaged word gives a state all the same; its end is then held within the segment.
    pub(crate) fn from_word(word: u64) -> Self {
        let committed = (word & (Self::SEALED - 1)) as usize;
        Self {
            generation: word >> 17,
            sealed: word & Self::SEALED != 0,
            committed: committed.clamp(SEGMENT_HEAD, SEGMENT_BYTES),
        }
    }

    pub(crate) const fn word(self) -> u64 {
        let sealed = if self.sealed { Self::SEALED } else { 0 };
        self.generation << 17 | sealed | self.committed as u64
    }

    /// A segment of that generation without frames.
    const fn empty(generation: u64) -> Self {
        Self { generation, sealed: false, committed: SEGMENT_HEAD }
    }
}

/// The mapped segments and the set of those that are free.
pub(crate) struct Memory {
    map: MmapRaw,
    /// With the lock on it.
    _file: Option<File>,
    segments: usize,
    /// A bit for each segment, set while it is free.
    free: Vec<AtomicU64>,
}

impl Memory {
    /// Maps a file of `HEADER_BYTES` and `segments` segments, all zero, whose blocks are allocated.
    pub(crate) fn of_file(file: File, segments: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(Self::bytes(segments)).map_raw(&file)?;
        Ok(Self { _file: Some(file), ..Self::new(map, segments) })
    }

    /// Memory of the same layout that ends with the process.
    pub(crate) fn anonymous(segments: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(Self::bytes(segments)).map_anon()?;
        Ok(Self::new(map.into(), segments))
    }

    /// Bytes for that many segments.
    pub(crate) const fn bytes(segments: usize) -> usize {
        HEADER_BYTES + segments * SEGMENT_BYTES
    }

    fn new(map: MmapRaw, segments: usize) -> Self {
        let free = (0..segments.div_ceil(64)).map(|word| {
            let bits = (segments - word * 64).min(64);
            AtomicU64::new(if bits == 64 { u64::MAX } else { (1 << bits) - 1 })
        });
        Self { free: free.collect(), map, _file: None, segments }
    }

    fn segment(&self, segment: usize) -> *mut u8 {
        assert!(segment < self.segments, "segment {segment} of {}", self.segments);
        self.map.as_mut_ptr().wrapping_add(HEADER_BYTES + segment * SEGMENT_BYTES)
    }

    fn state(&self, segment: usize) -> &AtomicU64 {
        #[expect(unsafe_code, reason = "the word lies in mapped memory")]
        // SAFETY: `segment` checks that the word is within the mapping, which lives as long as `self`. It is
        // aligned, since the mapping begins at a page and segments are multiples of 8 bytes. Nothing but this
        // function makes a reference to it: slices begin behind SEGMENT_HEAD.
        unsafe {
            AtomicU64::from_ptr(self.segment(segment).cast())
        }
    }

    /// Takes the free segment with the lowest number, so that a quiet process keeps to the same few pages.
    /// `None` if there is none.
    pub(crate) fn open(self: &Arc<Self>) -> Option<OpenSegment> {
        for (word, free) in self.free.iter().enumerate() {
            let mut bits = free.load(Ordering::Relaxed);
            while bits != 0 {
                let bit = bits & bits.wrapping_neg();
                // Acquires what the consumer did before it freed the segment.
                bits = free.fetch_and(!bit, Ordering::Acquire);
                if bits & bit != 0 {
                    return Some(OpenSegment::new(
                        Arc::clone(self),
                        word * 64 + bit.trailing_zeros() as usize,
                    ));
                }
            }
        }
        None
    }
}

#[cfg(test)]
impl Memory {
    pub(super) fn segments_in_use(&self) -> usize {
        let free: u32 = self.free.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum();
        self.segments - free as usize
    }
}

/// The right to write the end of one segment.
pub(crate) struct OpenSegment {
    memory: Arc<Memory>,
    segment: usize,
    generation: u64,
    committed: usize,
}

impl OpenSegment {
    fn new(memory: Arc<Memory>, segment: usize) -> Self {
        let generation = State::from_word(memory.state(segment).load(Ordering::Relaxed)).generation + 1;
        memory.state(segment).store(State::empty(generation).word(), Ordering::Release);
        Self { memory, segment, generation, committed: SEGMENT_HEAD }
    }

    pub(crate) const fn number(&self) -> usize {
        self.segment
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it holds no frame yet.
    pub(crate) const fn is_empty(&self) -> bool {
        self.committed == SEGMENT_HEAD
    }

    /// What may still be written.
    pub(crate) fn rest(&mut self) -> &mut [u8] {
        let start = self.memory.segment(self.segment).wrapping_add(self.committed);
        #[expect(unsafe_code, reason = "the bytes lie in mapped memory")]
        // SAFETY: the range ends with the segment, which is within the mapping (`segment` checks), and the
        // mapping lives as long as `self.memory`. Nobody else has these bytes: this value is the segment's only
        // one (see the file's head) and is borrowed mutably, readers stop at the stored state's `committed`,
        // which is never beyond ours.
        unsafe {
            slice::from_raw_parts_mut(start, SEGMENT_BYTES - self.committed)
        }
    }

    /// Makes the first `bytes` of the rest part of what is committed: from here on they survive the process.
    pub(crate) fn commit(&mut self, bytes: usize) {
        self.committed += bytes;
        assert!(self.committed <= SEGMENT_BYTES, "more is committed than there was room for");
        self.store(false);
    }

    /// Gives the segment up to the consumer, which frees it once it is read.
    pub(crate) fn seal(self) {
        self.store(true);
    }

    fn store(&self, sealed: bool) {
        let state = State { generation: self.generation, sealed, committed: self.committed };
        self.memory.state(self.segment).store(state.word(), Ordering::Release);
    }
}

/// The one reader of the memory.
pub(crate) struct Consumer {
    memory: Arc<Memory>,
}

impl Consumer {
    /// The reader of memory that was just made, and the memory for those who write.
    pub(crate) fn of(memory: Memory) -> (Arc<Memory>, Self) {
        let memory = Arc::new(memory);
        (Arc::clone(&memory), Self { memory })
    }

    /// How many segments there are.
    pub(crate) fn segments(&self) -> usize {
        self.memory.segments
    }

    /// The numbers of the segments that are not free.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.memory.free.iter().map(|word| word.load(Ordering::Acquire));
        words
            .enumerate()
            .flat_map(|(word, free)| {
                (0..64).filter(move |bit| free & 1 << bit == 0).map(move |bit| word * 64 + bit)
            })
            .filter(|segment| *segment < self.memory.segments)
    }

    /// The segment's state.
    pub(crate) fn state(&self, segment: usize) -> State {
        State::from_word(self.memory.state(segment).load(Ordering::Acquire))
    }

    /// The segment's bytes behind its head, up to what is committed.
    pub(crate) fn committed(&self, segment: usize) -> &[u8] {
        let state = self.state(segment);
        let start = self.memory.segment(segment).wrapping_add(SEGMENT_HEAD);
        #[expect(unsafe_code, reason = "the bytes lie in mapped memory")]
        // SAFETY: `committed` is held within the segment, which is within the mapping. The bytes before it were
        // written before the state was stored, and do not change before `free`, which this borrow excludes.
        unsafe {
            slice::from_raw_parts(start, state.committed - SEGMENT_HEAD)
        }
    }

    /// Makes the segment free again; false, and nothing happens, if its producer has not sealed it.
    pub(crate) fn free(&mut self, segment: usize) -> bool {
        let state = self.state(segment);
        if !state.sealed {
            return false;
        }
        // Without frames, for whoever finds this file without the SQLite file that knows what was read.
        let word = State::empty(state.generation).word();
        self.memory.state(segment).store(word, Ordering::Relaxed);
        self.memory.free[segment / 64].fetch_or(1 << (segment % 64), Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_segment_is_taken_and_its_generation_grows() {
        let (memory, mut consumer) = Consumer::of(Memory::anonymous(130).unwrap());
        let mut open: Vec<_> = (0..130).map(|_| memory.open().unwrap()).collect();
        assert!(memory.open().is_none());
        assert_eq!(consumer.in_use().collect::<Vec<_>>(), (0..130).collect::<Vec<_>>());
        for number in [100, 3] {
            assert!(!consumer.free(number), "its producer has it");
            open.remove(open.iter().position(|segment| segment.number() == number).unwrap()).seal();
            assert!(consumer.free(number));
            assert!(!consumer.free(number), "it is free already");
        }
        assert_eq!(consumer.in_use().count(), 128);
        let taken = [memory.open().unwrap(), memory.open().unwrap()];
        assert_eq!(taken.map(|segment| (segment.number(), segment.generation())), [(3, 2), (100, 2)]);
    }

    #[test]
    fn what_is_committed_is_read_and_nothing_else() {
        let (memory, consumer) = Consumer::of(Memory::anonymous(1).unwrap());
        let mut segment = memory.open().unwrap();
        segment.rest()[..5].copy_from_slice(b"hello");
        assert_eq!(consumer.committed(0), b"");
        segment.commit(3);
        assert_eq!(consumer.committed(0), b"hel");
        let rest = segment.rest().len();
        segment.commit(rest);
        assert_eq!(consumer.committed(0).len(), SEGMENT_BYTES - SEGMENT_HEAD);
        assert!(segment.rest().is_empty());
    }

    #[test]
    fn any_word_is_a_state_within_the_segment() {
        for word in [0, 1, u64::MAX, 0x1_ffff, 0xdead_beef_dead_beef] {
            let state = State::from_word(word);
            assert!((SEGMENT_HEAD..=SEGMENT_BYTES).contains(&state.committed));
        }
        let state = State { generation: 1 << 40, sealed: true, committed: SEGMENT_BYTES };
        assert_eq!(State::from_word(state.word()), state);
    }
}
