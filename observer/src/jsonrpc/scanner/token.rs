//! What the scanner does inside a token: a key, a string, a number or literal, a container that is passed over.

use super::{Scanner, State};
use crate::jsonrpc::{
    lexer::{Passing, StringEnd, find_string_end},
    path::{Leaf, Target},
    text,
};

/// Longer keys are none of ours: the longest wanted one has 39 bytes, or 234 with every byte escaped.
const MAX_KEY: usize = 256;

impl Scanner {
    pub(super) fn continue_key(&mut self, escaped: bool, input: &[u8]) -> usize {
        let part = find_string_end(escaped, input);
        let inside = &input[..part.inside];
        let node = self.frames[self.depth.saturating_sub(1)];
        self.state = match part.end {
            // Nearly all keys are whole and plain, and need not be copied.
            StringEnd::Closed if self.key.is_empty() && !part.has_escape => State::Value(node.child(inside)),
            StringEnd::Closed => {
                self.keep_key(inside);
                State::Value(node.child(&text::unescape_bytes(&self.key)))
            }
            StringEnd::Open { escaped } => {
                self.keep_key(inside);
                State::Key { escaped }
            }
        };
        part.used
    }

    /// Keeps more of a key. One of which only a part is kept is as long as none that is wanted.
    fn keep_key(&mut self, inside: &[u8]) {
        let room = MAX_KEY.saturating_sub(self.key.len()).min(inside.len());
        self.key.extend_from_slice(&inside[..room]);
    }

    pub(super) fn continue_string(&mut self, leaf: Option<Leaf>, escaped: bool, input: &[u8]) -> usize {
        let part = find_string_end(escaped, input);
        self.message.keep(leaf, &input[..part.inside]);
        self.message.note_escape(leaf, part.has_escape);
        match part.end {
            StringEnd::Open { escaped } => self.state = State::String { leaf, escaped },
            StringEnd::Closed => {
                self.message.end_capture(leaf);
                self.state = self.state_inside();
            }
        }
        part.used
    }

    pub(super) fn continue_scalar(&mut self, target: Target, input: &[u8]) -> (usize, bool) {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}' | b':' | b'"');
        let end = input.iter().position(ends);
        let token = &input[..end.unwrap_or(input.len())];
        if let Target::Leaf(leaf) = target {
            self.message.keep(Some(leaf), token);
        }
        match end {
            // Nothing may be consumed here, but then the state has changed, and the next one does.
            Some(end) => {
                self.state = self.state_inside();
                (end, false)
            }
            None => (input.len(), false),
        }
    }

    pub(super) fn continue_inside(
        &mut self,
        leaf: Option<Leaf>,
        mut passing: Passing,
        input: &[u8],
    ) -> usize {
        let used = passing.pass(input);
        self.message.keep(leaf, &input[..used]);
        if passing.depth == 0 {
            self.message.end_capture(leaf);
            self.state = self.state_inside();
        } else {
            self.state = State::Inside { leaf, passing };
        }
        used
    }
}
