//! The state that a segment of the ring begins with: one word that is only ever read and written whole.
//!
//! ```text
//! bits 63..17 generation   grows by one at each use of the segment, 0 before the first
//! bit  16     sealed       its producer writes no more
//! bits 15..0  committed    frames end here (bytes from the start of the segment; 8 for no frames)
//! ```

use super::memory::{SEGMENT_BYTES, SEGMENT_HEAD};

/// What a segment's first word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) generation: u64,
    pub(crate) sealed: bool,
    /// The end of the frames, from the start of the segment.
    pub(crate) committed: usize,
}

impl State {
    pub(super) const SEALED: u64 = 1 << 16;

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
    pub(super) const fn empty(generation: u64) -> Self {
        Self { generation, sealed: false, committed: SEGMENT_HEAD }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
