//! What is read of a JSON-RPC message: its kind, its id and a few leaves; everything else is passed over.
//!
//! The memory a message takes is bounded by the caps of its leaves ([`Leaf::cap`]), not by its size. Nothing
//! here ever refuses a message: it only understands less of it.

mod capture;
mod id;
mod lexer;
mod members;
mod path;
mod scanner;
mod tape;
mod text;

pub use id::IdToken;
pub use members::{Elements, Member, Members, find_value};
pub use path::Leaf;
pub use scanner::Scanner;
use std::borrow::Cow;
pub(crate) use tape::Taped;

/// What a message is, from its top-level keys alone (JSON-RPC 2.0, WIRE.md 1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `method` and `id`.
    Request,
    /// `method` without `id`.
    Notification,
    /// `result` or `error` without `method`.
    Response,
    /// None of these.
    Other,
}

/// The form of a leaf's JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A string; its text is unescaped, but for ids and contents, which stay as they were written.
    String,
    /// A number, `true`, `false`, `null`, or what stands in their place: the raw token.
    Scalar,
    /// An object or array: its raw text.
    Container,
}

#[derive(Debug, Clone, Copy)]
struct Capture {
    form: Form,
    start: u32,
    len: u32,
    truncated: bool,
    /// There is a backslash in it.
    escaped: bool,
}

/// Bytes that the leaves of nearly every message fit into.
const ARENA_START: usize = 512;
/// Bytes of captures at which repeated keys are cleaned up; twice what all leaves together can hold.
const ARENA_LIMIT: usize = 80 << 10;

/// The understood part of one message.
#[derive(Debug)]
pub struct Message {
    /// The captured leaves' bytes, one after the other.
    arena: Vec<u8>,
    captures: [Option<Capture>; Leaf::COUNT],
    has_method: bool,
    has_result: bool,
    has_error: bool,
    /// Bytes of the message from its first brace to its last.
    pub bytes: u64,
    /// Elements of `result.tools`, if that is an array.
    pub tool_count: Option<u32>,
    /// Its place in a batch, from 0; absent outside a batch.
    pub batch_index: Option<u32>,
    /// The whole of it, where bodies are kept.
    tape: Option<Box<tape::Tape>>,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            arena: Vec::new(),
            captures: [None; Leaf::COUNT],
            has_method: false,
            has_result: false,
            has_error: false,
            bytes: 0,
            tool_count: None,
            batch_index: None,
            tape: None,
        }
    }
}

impl Message {
    /// What the message is.
    pub fn kind(&self) -> Kind {
        match (self.has_method, self.captures[Leaf::Id as usize].is_some()) {
            (true, true) => Kind::Request,
            (true, false) => Kind::Notification,
            (false, _) if self.has_result || self.has_error => Kind::Response,
            (false, _) => Kind::Other,
        }
    }

    /// Whether it carries an `error` that is an object, as JSON-RPC has it.
    pub const fn has_error(&self) -> bool {
        self.has_error
    }

    /// The `method`, if it is a string.
    pub fn method(&self) -> Option<&str> {
        self.text(Leaf::Method)
    }

    /// The id as it is compared.
    pub fn id(&self) -> IdToken {
        self.id_token(Leaf::Id)
    }

    /// An id that stands in another place, such as [`Leaf::RequestId`].
    pub fn id_token(&self, leaf: Leaf) -> IdToken {
        match self.capture(leaf) {
            Some((Form::String, raw)) => IdToken::from_string(raw),
            Some((Form::Scalar, raw)) => IdToken::from_scalar(raw),
            _ => IdToken::Missing,
        }
    }

    /// The id as it was written, quotes included; cut at its cap.
    pub fn raw_id(&self) -> Option<Cow<'_, str>> {
        let (form, raw) = self.capture(Leaf::Id)?;
        let raw = text::sanitise(raw);
        Some(if form == Form::String { format!("\"{raw}\"").into() } else { raw })
    }

    /// The text of a leaf that is a string.
    pub fn text(&self, leaf: Leaf) -> Option<&str> {
        match self.capture(leaf) {
            Some((Form::String, bytes)) => str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The first text of a result's content.
    pub fn content_text(&self) -> Option<Cow<'_, str>> {
        self.first_text(Leaf::ContentText)
    }

    /// The first text of a content: [`Leaf::ContentText`] or [`Leaf::InnerContentText`].
    pub fn first_text(&self, leaf: Leaf) -> Option<Cow<'_, str>> {
        match self.capture(leaf)? {
            (Form::String, raw) if self.is_truncated(leaf) => {
                Some(text::unescape(capture::trim_partial(raw)))
            }
            (Form::String, raw) => Some(text::unescape(raw)),
            _ => None,
        }
    }

    /// The raw token of a leaf that is a number or a literal.
    pub fn scalar(&self, leaf: Leaf) -> Option<&str> {
        match self.capture(leaf) {
            Some((Form::Scalar, bytes)) => str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Whether the leaf is the literal `true`.
    pub fn is_true(&self, leaf: Leaf) -> bool {
        self.scalar(leaf) == Some("true")
    }

    /// A leaf as a JSON document; `None` where it is absent or was cut short of its end.
    pub fn json(&self, leaf: Leaf) -> Option<String> {
        let capture = self.captures[leaf as usize].filter(|capture| !capture.truncated)?;
        let (_, bytes) = self.capture(leaf)?;
        let text = str::from_utf8(bytes).ok()?;
        Some(if capture.form == Form::String {
            serde_json::Value::from(text).to_string()
        } else {
            text.to_owned()
        })
    }

    /// The leaf was longer than its cap.
    pub fn is_truncated(&self, leaf: Leaf) -> bool {
        self.captures[leaf as usize].is_some_and(|capture| capture.truncated)
    }

    /// The message itself, as far as it is held; `None` where bodies are not kept.
    pub(crate) fn taped(&self) -> Option<Taped<'_>> {
        self.tape.as_ref()?.taped()
    }

    fn capture(&self, leaf: Leaf) -> Option<(Form, &[u8])> {
        let capture = self.captures[leaf as usize]?;
        let start = capture.start as usize;
        Some((capture.form, &self.arena[start..start + capture.len as usize]))
    }
}
