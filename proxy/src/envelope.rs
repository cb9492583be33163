//! What a request's body asks for, read so strictly that every server that understands the body at all understands the
//! same: which messages are in it, with which ids and methods, and which tools they call.
//!
//! For decisions that depend on the tool, and for nothing else: what is not judged passes unread, odd as it may be. The
//! observer is lenient, because it can only fail to log; whoever is lenient here would let another tool run than the one
//! that was judged. So *what could be understood in two ways is refused*: two members of one name, in whatever escapes;
//! names that differ in case alone (Go and .NET read `Method` as `method`); NUL, at which C ends a text; invalid UTF-8
//! and lone surrogates in what is compared; more nesting than every parser follows. Valid JSON is left to `serde_json`.
//!
//! Pure, and bounded by the body: a batch has at most [`MAX_MESSAGES`] messages.

mod answer;
mod head;
mod nesting;
mod object;

pub(crate) use answer::Channel;
pub(crate) use head::announces_call;

use http::StatusCode;
use std::borrow::Cow;

/// The most messages of a batch. No client sends as many; without an end to it, 4 MiB of `{},` would become 100 MiB.
pub(crate) const MAX_MESSAGES: usize = 1_000;
/// The method whose tool is judged.
const TOOLS_CALL: &str = "tools/call";

/// The messages of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    /// In their order; one unless it is a batch, and never none.
    pub(crate) messages: Vec<Message<'a>>,
    /// Whether the body is an array.
    pub(crate) is_batch: bool,
}

/// One message, as far as it is judged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// The id as it was written, quotes included: a string, a number or `null`. Absent from notifications.
    pub(crate) id: Option<&'a str>,
    /// The method; absent from responses.
    pub(crate) method: Option<Cow<'a, str>>,
    /// The tool, of a `tools/call` and of nothing else.
    pub(crate) tool: Option<Cow<'a, str>>,
}

impl<'a> Envelope<'a> {
    /// Reads a whole body.
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, Unreadable> {
        let text = str::from_utf8(body).map_err(|_| Unreadable::Encoding)?;
        if nesting::is_deeper_than(body, nesting::MAX_DEPTH) {
            return Err(Unreadable::Nesting);
        }
        object::read_document(text)
    }

    /// The calls that a limit or a quota counts, by their tools; lists of tools have none.
    pub(crate) fn calls(&self) -> impl Iterator<Item = Option<&str>> {
        self.messages.iter().filter(|message| message.is_call()).map(Message::tool)
    }
}

impl Message<'_> {
    /// The tool that is called, if one is.
    pub(crate) fn tool(&self) -> Option<&str> {
        self.tool.as_deref()
    }

    /// Whether it is what becomes a row: a call, or a list of tools.
    pub(crate) fn is_call(&self) -> bool {
        matches!(self.method.as_deref(), Some(TOOLS_CALL | "tools/list"))
    }

    /// Whether an answer is waited for.
    pub(crate) const fn is_request(&self) -> bool {
        self.id.is_some() && self.method.is_some()
    }
}

/// Why a body cannot be judged. The text is for the client, and tells it nothing that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// `Content-Type` is not JSON, or in another encoding than UTF-8.
    #[error("the content type has to be application/json, in UTF-8")]
    ContentType,
    /// There is a `Content-Encoding`.
    #[error("the body must not be compressed")]
    Coding,
    /// It is longer than `policy.max_body_bytes`.
    #[error("the body is too large")]
    TooLarge,
    /// It is not UTF-8.
    #[error("the body is not UTF-8")]
    Encoding,
    /// It is not JSON, or something follows it, or a text that is compared has half a surrogate pair.
    #[error("the body is not JSON")]
    Json,
    /// It is nested more deeply than every parser follows.
    #[error("the body is nested too deeply")]
    Nesting,
    /// It is neither an object nor an array of objects.
    #[error("the body is no JSON-RPC message")]
    NoMessage,
    /// It is a batch of more than [`MAX_MESSAGES`] messages.
    #[error("the batch has too many messages")]
    Batch,
    /// A member that decides is there twice.
    #[error("a member is there twice: method, params, id or name")]
    Duplicate,
    /// A member's name is not one of ours, but some servers read it as one.
    #[error("a member's name is almost method, params, id or name")]
    AlmostMember,
    /// The method is no string, or one that some servers take for `tools/call`.
    #[error("the method cannot be read")]
    Method,
    /// The id is neither a string nor a number nor null.
    #[error("the id cannot be read")]
    Id,
    /// The name of a tool is missing, or no string, or has control characters or blanks around it.
    #[error("the tool's name cannot be read")]
    Tool,
    /// `Mcp-Method` or `Mcp-Name` is there twice, or says something else than the body.
    #[error("Mcp-Method and Mcp-Name have to say what the body does")]
    HeaderMismatch,
}

impl Unreadable {
    /// The HTTP status of the answer.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::ContentType | Self::Coding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

#[cfg(test)]
mod tests;
