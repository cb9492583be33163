//! The incremental JSON-RPC scanner: bytes in any chunking, messages out.
//!
//! It follows the tree of `path.rs`, keeps the leaves and passes over everything else at the speed of a byte
//! search. It is lenient where clients and servers are: duplicate keys (the last wins), any depth, `NaN`,
//! lone surrogates, a byte order mark. It never recurses, and what it keeps is bounded by the leaves' caps.

use super::{
    Form, Message,
    lexer::Passing,
    path::{Leaf, MAX_DEPTH, Node, Target},
    tape::Tape,
};

mod token;

#[derive(Debug, Clone, Copy)]
enum State {
    /// Before a value; also where an array may end.
    Value(Target),
    /// Inside an object, before a key or the end.
    KeyStart,
    /// Inside a key; its bytes so far are in `key`.
    Key { escaped: bool },
    /// Inside a string value.
    String { leaf: Option<Leaf>, escaped: bool },
    /// Inside a number or literal.
    Scalar(Target),
    /// Inside a container of no interest, or of raw interest.
    Inside { leaf: Option<Leaf>, passing: Passing },
    /// The document is over, or is none; the rest is not looked at.
    Over,
}

/// Reads one document (a body, an event's data, a line) after the other.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    frames: [Node; MAX_DEPTH],
    depth: usize,
    key: Vec<u8>,
    message: Message,
    /// Bytes of the document consumed before the current step.
    offset: u64,
    message_start: u64,
    elements: Option<u32>,
    /// A message has been read to its end.
    complete: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            state: State::Value(Target::Root),
            frames: [Node::Message; MAX_DEPTH],
            depth: 0,
            key: Vec::new(),
            message: Message::default(),
            offset: 0,
            message_start: 0,
            elements: None,
            complete: false,
        }
    }
}

impl Scanner {
    /// Forgets the document and expects the next one; keeps the memory.
    pub fn restart(&mut self) {
        self.state = State::Value(Target::Root);
        self.depth = 0;
        self.offset = 0;
        self.elements = None;
        self.complete = false;
        if let Some(tape) = &mut self.message.tape {
            tape.release();
        }
    }

    /// From now on the bytes of each message are held as well, up to so many; 0 for none.
    pub(crate) fn keep_bodies(&mut self, limit: usize) {
        self.message.tape = (limit > 0).then(|| Tape::new(limit));
    }

    /// Consumes input up to the end of the next message, and returns that message; `None` when all input is
    /// consumed. To be called until it returns `None`.
    pub fn next_message(&mut self, input: &mut &[u8]) -> Option<&Message> {
        let (read, from) = (*input, self.offset);
        while !input.is_empty() {
            let (used, complete) = self.step(input);
            self.offset += used as u64;
            *input = &input[used..];
            if complete {
                self.message.bytes = self.offset - self.message_start;
                self.complete = true;
                self.tape(&read[..read.len() - input.len()], from);
                if let Some(tape) = &mut self.message.tape {
                    tape.end();
                }
                return Some(&self.message);
            }
        }
        self.tape(read, from);
        None
    }

    /// Holds what was read since the document's byte `from`, where bodies are kept.
    fn tape(&mut self, read: &[u8], from: u64) {
        if let Some(tape) = &mut self.message.tape {
            tape.read(read, self.message_start.saturating_sub(from));
        }
    }

    /// The message that is the whole document, once that has been read to its end.
    pub fn single_message(&self) -> Option<&Message> {
        (self.is_over() && self.complete && self.elements.is_none()).then_some(&self.message)
    }

    /// What is known of a message that has not ended yet.
    pub fn partial_message(&self) -> Option<&Message> {
        (self.depth > 0).then_some(&self.message)
    }

    /// Elements of the batch so far; `None` if the document is not an array.
    pub const fn batch_size(&self) -> Option<u32> {
        self.elements
    }

    /// Bytes of the document consumed so far.
    pub const fn consumed(&self) -> u64 {
        self.offset
    }

    /// Whether the document has been read to its end.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Consumes at least one byte; says whether a message ends with the last consumed one.
    fn step(&mut self, input: &[u8]) -> (usize, bool) {
        match self.state {
            State::Value(target) => self.begin_value(target, input),
            State::KeyStart => self.begin_key(input),
            State::Key { escaped } => (self.continue_key(escaped, input), false),
            State::String { leaf, escaped } => (self.continue_string(leaf, escaped, input), false),
            State::Scalar(target) => self.continue_scalar(target, input),
            State::Inside { leaf, passing } => (self.continue_inside(leaf, passing, input), false),
            State::Over => (input.len(), false),
        }
    }

    fn begin_value(&mut self, target: Target, input: &[u8]) -> (usize, bool) {
        let blank =
            |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b':' | 0xef | 0xbb | 0xbf);
        let Some(at) = input.iter().position(|byte| !blank(byte)) else {
            return (input.len(), false);
        };
        let first = input[at];
        if matches!(first, b']' | b'}') {
            return (at + 1, self.end_container());
        }
        self.count_element();
        self.note_presence(target, first);
        match first {
            b'{' | b'[' => {
                self.begin_container(target, first == b'[', at);
                (at + 1, false)
            }
            _ if target == Target::Root => {
                self.state = State::Over;
                (at + 1, false)
            }
            b'"' => {
                let leaf = self.capture(target, Form::String);
                (at + 1 + self.continue_string(leaf, false, &input[at + 1..]), false)
            }
            _ => {
                self.capture(target, Form::Scalar);
                self.state = State::Scalar(target);
                let (used, complete) = self.continue_scalar(target, &input[at..]);
                (at + used, complete)
            }
        }
    }

    /// Counts the value that begins, where its array is counted.
    fn count_element(&mut self) {
        match self.top() {
            Some(Node::Tools) => *self.message.tool_count.get_or_insert(0) += 1,
            Some(Node::Batch) => {
                let elements = self.elements.get_or_insert(0);
                self.message.batch_index = Some(*elements);
                *elements += 1;
            }
            _ => {}
        }
    }

    /// The top-level keys decide the message's kind, whatever their values' form. Of keys that come twice the last
    /// counts, and nothing of what was below the first.
    fn note_presence(&mut self, target: Target, first: u8) {
        let node = match target {
            Target::Node(node) => node,
            Target::Leaf(Leaf::Method) => return self.message.has_method = true,
            _ => return,
        };
        self.message.forget(node.leaves());
        match node {
            Node::Result => {
                self.message.has_result = true;
                self.message.tool_count = None;
            }
            Node::Tools => self.message.tool_count = None,
            // `"error": null` beside a result is no error, and `"error": "invalid_token"` is one of OAuth (RFC 6749, 5.2).
            Node::Error => self.message.has_error = first == b'{',
            _ => {}
        }
    }

    fn begin_container(&mut self, target: Target, array: bool, at: usize) {
        let node = match target {
            Target::Root if array => Some(Node::Batch),
            Target::Root => Some(Node::Message),
            Target::Node(node) if node.is_array() == array => Some(node),
            _ => None,
        };
        let Some(node) = node else {
            let leaf = self.capture(target, Form::Container);
            self.message.keep(leaf, if array { b"[" } else { b"{" });
            self.state = State::Inside { leaf, passing: Passing::BEGIN };
            return;
        };
        self.frames[self.depth] = node;
        self.depth += 1;
        match node {
            Node::Batch => self.elements = Some(0),
            Node::Message => {
                let index = self.elements.map(|elements| elements.saturating_sub(1));
                self.message.clear();
                self.message.batch_index = index;
                self.message_start = self.offset + at as u64;
            }
            Node::Tools => self.message.tool_count = Some(0),
            _ => {}
        }
        self.state = self.state_inside();
    }

    fn begin_key(&mut self, input: &[u8]) -> (usize, bool) {
        match input.iter().position(|byte| matches!(byte, b'"' | b'}' | b']')) {
            None => (input.len(), false),
            Some(at) if input[at] == b'"' => {
                self.key.clear();
                (at + 1 + self.continue_key(false, &input[at + 1..]), false)
            }
            Some(at) => (at + 1, self.end_container()),
        }
    }

    /// Ends the innermost container; says whether that was a message.
    fn end_container(&mut self) -> bool {
        let Some(depth) = self.depth.checked_sub(1) else {
            self.state = State::Over;
            return false;
        };
        self.depth = depth;
        self.state = self.state_inside();
        self.frames[depth] == Node::Message
    }

    const fn top(&self) -> Option<Node> {
        match self.depth {
            0 => None,
            depth => Some(self.frames[depth - 1]),
        }
    }

    /// What is expected inside the innermost container once a value has ended.
    const fn state_inside(&self) -> State {
        match self.top() {
            None => State::Over,
            Some(node) if node.is_array() => State::Value(node.element()),
            Some(_) => State::KeyStart,
        }
    }

    fn capture(&mut self, target: Target, form: Form) -> Option<Leaf> {
        match target {
            Target::Leaf(leaf) => self.message.begin_capture(leaf, form),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
