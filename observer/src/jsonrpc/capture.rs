//! How a message keeps the leaves that the scanner finds: one after the other in one piece of memory, each up
//! to its cap, repaired to valid UTF-8 when its end is reached.

use super::{ARENA_LIMIT, Capture, Form, Leaf, Message, text};

impl Message {
    /// Starts to keep a leaf; `None` if it is not wanted (again).
    pub(super) fn begin_capture(&mut self, leaf: Leaf, form: Form) -> Option<Leaf> {
        // Only the first text of the content tells what went wrong.
        if leaf == Leaf::ContentText && self.captures[leaf as usize].is_some() {
            return None;
        }
        self.compact();
        let start = self.arena.len() as u32;
        self.captures[leaf as usize] = Some(Capture { form, start, len: 0, truncated: false });
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

    /// Undoes the escapes of a leaf that is complete, and repairs what is not UTF-8.
    pub(super) fn end_capture(&mut self, leaf: Option<Leaf>) {
        let Some(leaf) = leaf else { return };
        let Some(capture) = &mut self.captures[leaf as usize] else { return };
        if leaf.keeps_escapes() && capture.form == Form::String {
            return;
        }
        let start = capture.start as usize;
        let raw = &self.arena[start..start + capture.len as usize];
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

    /// Drops the bytes of leaves that came again, once there are many: keys repeated for ever cost nothing.
    fn compact(&mut self) {
        if self.arena.len() < ARENA_LIMIT {
            return;
        }
        let old = std::mem::take(&mut self.arena);
        for capture in self.captures.iter_mut().flatten() {
            let start = capture.start as usize;
            capture.start = self.arena.len() as u32;
            self.arena.extend_from_slice(&old[start..start + capture.len as usize]);
        }
    }

    /// Makes room for the next message and keeps the memory.
    pub(super) fn clear(&mut self) {
        let mut arena = std::mem::take(&mut self.arena);
        arena.clear();
        *self = Self { arena, ..Self::default() };
    }

    /// Forgets the leaves in a range: a key that comes twice counts the second time only.
    pub(super) fn forget(&mut self, leaves: std::ops::Range<usize>) {
        self.captures[leaves].fill(None);
    }
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
