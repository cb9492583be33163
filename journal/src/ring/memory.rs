//! The ring's memory: who may touch which bytes of it. All unsafe code of the ring is in this file.
//!
//! A segment begins with its state, see `state.rs`.
//!
//! Three rules keep the memory free of races; the types enforce them:
//!
//! * Bytes beyond `committed` belong to the one [`OpenSegment`] of the segment. There is never a second one:
//!   making it takes the segment's bit out of the set of free segments, and only [`Consumer::free`] puts it back.
//! * Bytes before `committed` never change until the segment is freed; everyone may read them.
//! * Freeing takes the [`Consumer`] mutably, of which there is one, and all slices to read borrow from it.
//!
//! A producer exchanges the word for the next instead of storing it: so the consumer can end it all ([`Consumer::shut`]),
//! and after that certainly nothing is committed any more.
//!
//! Nothing here may look at what the bytes mean. That no other program writes to the memory is assumed: the
//! file belongs to this user alone (mode 0600), and the journal's lock keeps a second mcpmeter away.

use super::state::State;
use memmap2::{MmapOptions, MmapRaw};
use std::{
    fs::File,
    io, slice,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Bytes of a segment. Small enough that a quiet process touches little memory, large enough that taking the
/// next one is rare: about a hundred records.
pub(crate) const SEGMENT_BYTES: usize = 32 << 10;
/// Bytes of a segment before its first frame: the state.
pub(crate) const SEGMENT_HEAD: usize = 8;
/// Bytes before the first segment: the file's header, see [`super::file`].
pub(crate) const HEADER_BYTES: usize = 4096;

/// The mapped segments and the set of those that are free.
pub(crate) struct Memory {
    map: MmapRaw,
    /// With the lock on it.
    _file: Option<File>,
    segments: usize,
    /// A bit for each segment, set while it is free.
    free: Vec<AtomicU64>,
    /// Nothing is taken any more.
    shut: AtomicBool,
}

impl Memory {
    /// Maps a file of `HEADER_BYTES` and `segments` segments, all zero, whose blocks are allocated.
    pub(crate) fn of_file(file: File, segments: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(Self::bytes(segments)).map_raw(&file)?;
        Ok(Self { _file: Some(file), ..Self::new(map, segments) })
    }

    /// Maps the file of a process that has ended. What is committed there is sealed, and is in use until it is freed.
    pub(crate) fn of_left(file: File, segments: usize) -> io::Result<Self> {
        let memory = Self::of_file(file, segments)?;
        for segment in 0..segments {
            let word = memory.state(segment);
            let state = State::from_word(word.load(Ordering::Relaxed));
            let is_free = state.committed == SEGMENT_HEAD;
            word.store(State { sealed: !is_free, ..state }.word(), Ordering::Relaxed);
            if !is_free {
                memory.free[segment / 64].fetch_and(!(1 << (segment % 64)), Ordering::Relaxed);
            }
        }
        Ok(memory)
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
        Self { free: free.collect(), map, _file: None, segments, shut: AtomicBool::new(false) }
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

    /// Whether nothing is taken any more, see [`Consumer::shut`].
    pub(crate) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
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
                    let segment = word * 64 + bit.trailing_zeros() as usize;
                    return OpenSegment::new(Arc::clone(self), segment);
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
    /// The free segment's next generation; `None` if the ring was shut in between.
    fn new(memory: Arc<Memory>, segment: usize) -> Option<Self> {
        let word = memory.state(segment).load(Ordering::Relaxed);
        let State { generation, sealed, .. } = State::from_word(word);
        let new = Self { memory, segment, generation: generation + 1, committed: SEGMENT_HEAD };
        (!sealed && new.exchange(word, new.state(false))).then_some(new)
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

    /// Makes the first `bytes` of the rest part of what is committed: from here on they survive the process. False,
    /// and they do not, if the ring was shut.
    #[must_use]
    pub(crate) fn commit(&mut self, bytes: usize) -> bool {
        let before = self.state(false);
        assert!(self.committed + bytes <= SEGMENT_BYTES, "more is committed than there was room for");
        self.committed += bytes;
        self.exchange(before.word(), self.state(false))
    }

    /// Gives the segment up to the consumer, which frees it once it is read.
    pub(crate) fn seal(self) {
        // If the ring was shut it is sealed already.
        self.exchange(self.state(false).word(), self.state(true));
    }

    const fn state(&self, sealed: bool) -> State {
        State { generation: self.generation, sealed, committed: self.committed }
    }

    fn exchange(&self, word: u64, state: State) -> bool {
        let place = self.memory.state(self.segment);
        place.compare_exchange(word, state.word(), Ordering::Release, Ordering::Relaxed).is_ok()
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

    /// Takes nothing any more: what is committed when this returns is all that ever will be.
    pub(crate) fn shut(&mut self) {
        self.memory.shut.store(true, Ordering::Release);
        for free in &self.memory.free {
            free.store(0, Ordering::Relaxed);
        }
        // Whoever is writing, or is taking a segment, finds another word than it expects.
        for segment in 0..self.segments() {
            self.memory.state(segment).fetch_or(State::SEALED, Ordering::AcqRel);
        }
    }

    /// Makes the segment free again; false, and nothing happens, if its producer has not sealed it, or if the ring
    /// was shut.
    pub(crate) fn free(&mut self, segment: usize) -> bool {
        let state = self.state(segment);
        if !state.sealed || self.memory.is_shut() {
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
        assert!(segment.commit(3));
        assert_eq!(consumer.committed(0), b"hel");
        let rest = segment.rest().len();
        assert!(segment.commit(rest));
        assert_eq!(consumer.committed(0).len(), SEGMENT_BYTES - SEGMENT_HEAD);
        assert!(segment.rest().is_empty());
    }
}
