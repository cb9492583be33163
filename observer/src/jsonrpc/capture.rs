//! How a message keeps the leaves that the scanner finds: one after the other in one piece of memory, each up
//! to its cap, repaired to valid UTF-8 when its end is reached.

use super::{ARENA_LIMIT, ARENA_START, Capture, Form, Leaf, Message, text};

impl Message {
    /// Starts to keep a leaf; `None` if it is not wanted (again).
    pub(super) fn begin_capture(&mut self, leaf: Leaf, form: Form) -> Option<Leaf> {
        if leaf.is_first_only() && self.captures[leaf as usize].is_some() {
            return None;
        }
        self.make_room();
        let start = self.arena.len() as u32;
        self.captures[leaf as usize] =
            Some(Capture { form, start, len: 0, truncated: false, escaped: false });
        Some(leaf)
    }

    /// Keeps more of the leaf that was begun last.
    pub(super) fn keep(&mut self, leaf: Option<Leaf>, bytes: &[u8]) {
        let Some(leaf) = leaf else { return };
        let Some(capture) = &mut self.captures[leaf as usize] else { return };
        let kept = bytes.len().min(leaf.cap() - capture.len as usize);
        capture.truncated |= kept < bytes.len();
        capture.len += kept as u32;
        self.arena.extend_from_slice(&bytes[..kept]);
    }

    /// Notes that the leaf has an escape, if that is so.
    pub(super) fn note_escape(&mut self, leaf: Option<Leaf>, has_escape: bool) {
        if has_escape && let Some(capture) = leaf.and_then(|leaf| self.captures[leaf as usize].as_mut()) {
            capture.escaped = true;
        }
    }

    /// Undoes the escapes of a leaf that is complete, and repairs what is not UTF-8.
    pub(super) fn end_capture(&mut self, leaf: Option<Leaf>) {
        let Some(leaf) = leaf else { return };
        let Some(capture) = &mut self.captures[leaf as usize] else { return };
        if leaf.keeps_escapes() && capture.form == Form::String {
            return;
        }
        let start = capture.start as usize;
        let raw = &self.arena[start..start + capture.len as usize];
        if capture.form == Form::String && !capture.escaped && !capture.truncated && is_plain(raw) {
            return;
        }
        let whole = if capture.truncated { trim_partial(raw) } else { raw };
        let readable = match capture.form {
            Form::String => text::unescape(whole),
            Form::Scalar | Form::Container => text::sanitise(whole),
        };
        if readable.as_bytes() != raw {
            let readable = readable.into_owned();
            capture.len = readable.len() as u32;
            self.arena.truncate(start);
            self.arena.extend_from_slice(readable.as_bytes());
        }
    }

    /// Memory for the leaves of a usual message at once, and for more as it comes.
    fn make_room(&mut self) {
        if self.arena.capacity() == 0 {
            self.arena.reserve_exact(ARENA_START);
        } else if self.arena.len() >= ARENA_LIMIT {
            self.compact();
        }
    }

    /// Drops the bytes of leaves that came again, once there are many: keys repeated for ever cost nothing.
    fn compact(&mut self) {
        let old = std::mem::take(&mut self.arena);
        for capture in self.captures.iter_mut().flatten() {
            let start = capture.start as usize;
            capture.start = self.arena.len() as u32;
            self.arena.extend_from_slice(&old[start..start + capture.len as usize]);
        }
    }

    /// Makes room for the next message and keeps the memory.
    pub(super) fn clear(&mut self) {
        let (mut arena, mut tape) = (std::mem::take(&mut self.arena), self.tape.take());
        arena.clear();
        if let Some(tape) = &mut tape {
            tape.begin();
        }
        *self = Self { arena, tape, ..Self::default() };
    }

    /// Forgets the leaves in a range: a key that comes twice counts the second time only.
    pub(super) fn forget(&mut self, leaves: std::ops::Range<usize>) {
        self.captures[leaves].fill(None);
    }
}

/// Whether a text without escapes needs no repair; a text beyond ASCII may be fine too.
fn is_plain(raw: &[u8]) -> bool {
    raw.iter().fold(true, |plain, byte| plain & (1..0x80).contains(byte))
}

/// Cuts a string that was cut anywhere back to its last whole character or escape.
pub(super) fn trim_partial(raw: &[u8]) -> &[u8] {
    let escape = raw.iter().rev().take(6).position(|byte| *byte == b'\\');
    let raw = match escape {
        Some(back) => without_high_surrogate(&raw[..raw.len() - back - 1]),
        None => raw,
    };
    match str::from_utf8(raw) {
        Err(error) if error.error_len().is_none() => &raw[..error.valid_up_to()],
        _ => raw,
    }
}

/// Half a character is none: what was cut behind `\\ud83d` may have been the other half.
fn without_high_surrogate(raw: &[u8]) -> &[u8] {
    match raw {
        [whole @ .., b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', _, _] => whole,
        _ => raw,
    }
}
