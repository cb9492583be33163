//! What a line of the client's is about, as far as its way over HTTP depends on it. Its bytes are never changed.

use bytes::Bytes;
use mcpmeter_observer::{IdToken, Kind, Leaf, Message, Scanner};

/// The first revision without sessions.
const MODERN: &str = "2026-07-28";

/// A line of the client's: one message, a batch, or something else that the server may make sense of.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) bytes: Bytes,
    /// The requests in it.
    pub(super) asked: Vec<Asked>,
    /// The revision that it states itself (2026-07-28).
    pub(super) version: Option<String>,
    /// The method, of a single message.
    pub(super) method: Option<String>,
    /// Which request it cancels.
    pub(super) cancels: Option<IdToken>,
}

/// A request that the server owes an answer.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: IdToken,
    /// As it was written.
    raw_id: String,
}

impl Line {
    pub(super) fn read(bytes: Bytes) -> Self {
        let mut line = Self { bytes, asked: Vec::new(), version: None, method: None, cancels: None };
        let (mut scanner, mut rest) = (Scanner::default(), &line.bytes[..]);
        while let Some(message) = scanner.next_message(&mut rest) {
            if let (Kind::Request, true) = (message.kind(), line.asked.len() < MAX_ASKED) {
                line.asked.push(Asked::of(message));
            }
        }
        if let Some(message) = scanner.single_message() {
            line.method = message.method().map(str::to_owned);
            line.version = message.text(Leaf::MetaVersion).map(str::to_owned);
            if message.method() == Some("notifications/cancelled") {
                line.cancels = Some(message.id_token(Leaf::RequestId));
            }
        }
        line
    }

    /// Whether there is nothing in it.
    pub(super) fn is_blank(&self) -> bool {
        self.bytes.trim_ascii().is_empty()
    }

    /// Whether the server owes an answer to it.
    pub(super) fn asks(&self) -> bool {
        !self.asked.is_empty()
    }

    pub(super) fn is_method(&self, method: &str) -> bool {
        self.method.as_deref() == Some(method)
    }

    /// Whether it is of a revision that knows no sessions.
    pub(super) fn is_modern(&self) -> bool {
        self.version.as_deref().is_some_and(|version| version >= MODERN)
    }

    /// What `Mcp-Name` has to say of it (2026-07-28, basic/transports).
    pub(super) fn name(&self) -> Option<String> {
        let method = self.method.as_deref()?;
        let key = match method {
            "tools/call" | "prompts/get" => "name",
            "resources/read" => "uri",
            _ if method.starts_with("tasks/") => "taskId",
            _ => return None,
        };
        let message: serde_json::Value = serde_json::from_slice(&self.bytes).ok()?;
        message["params"][key].as_str().map(str::to_owned)
    }
}

/// Requests of one line whose answers are waited for; of a larger batch the others are forwarded all the same.
const MAX_ASKED: usize = 1000;

impl Asked {
    fn of(message: &Message) -> Self {
        let raw_id = message.raw_id().filter(|_| !message.is_truncated(Leaf::Id));
        Self { id: message.id(), raw_id: raw_id.map_or_else(|| "null".to_owned(), |id| id.into_owned()) }
    }

    /// The answer that says that there will be none.
    pub(super) fn refusal(&self, code: i64, words: &str) -> Bytes {
        let words = serde_json::Value::from(words);
        self.error(&format!("{{\"code\":{code},\"message\":{words}}}"))
    }

    /// An error as the answer to this request.
    pub(super) fn error(&self, error: &str) -> Bytes {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}", id = self.raw_id).into()
    }
}

/// The answers in a message of the server's: their ids, and the version that an `initialize` is answered with.
pub(super) fn answers_in(bytes: &[u8]) -> (Vec<IdToken>, Option<String>) {
    let (mut scanner, mut rest) = (Scanner::default(), bytes);
    let (mut ids, mut version) = (Vec::new(), None);
    while let Some(message) = scanner.next_message(&mut rest) {
        if message.kind() == Kind::Response {
            ids.push(message.id());
            version = message.text(Leaf::ResultVersion).map(str::to_owned).or(version);
        }
    }
    (ids, version)
}

/// A message on one line: outside of strings, where JSON allows none, a line's end is blank like any other.
pub(super) fn on_one_line(message: Bytes) -> Bytes {
    let message = message.slice_ref(message.trim_ascii());
    if memchr::memchr2(b'\n', b'\r', &message).is_none() {
        return message;
    }
    let blank = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
    message.iter().map(blank).collect::<Vec<_>>().into()
}

/// Whether it can be a message at all; nothing else is ever written to the client.
pub(super) fn is_message(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::read(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_line_tells_what_it_asks_and_how_it_has_to_be_sent() {
        let call = line(r#"{"id":"a\"b","method":"tools/call","params":{"name":"add"}}"#);
        assert!(call.asks() && !call.is_modern() && call.is_method("tools/call"));
        assert_eq!(call.name().as_deref(), Some("add"));
        assert_eq!(
            call.asked[0].refusal(-32000, "no \"way\""),
            r#"{"jsonrpc":"2.0","id":"a\"b","error":{"code":-32000,"message":"no \"way\""}}"#
        );
        let modern = line(
            r#"{"id":1,"method":"resources/read","params":{"uri":"x://y","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
        );
        assert!(modern.is_modern());
        assert_eq!(modern.name().as_deref(), Some("x://y"));
        let cancel = line(r#"{"method":"notifications/cancelled","params":{"requestId":7}}"#);
        assert_eq!((cancel.cancels.clone(), cancel.asks()), (Some(IdToken::Integer(7)), false));
        let batch = line(
            r#"[{"id":1,"method":"ping"},{"method":"x"},{"id":2,"result":{}},{"id":3,"method":"ping"}]"#,
        );
        assert_eq!(batch.asked.len(), 2);
        assert!(line(" \r").is_blank() && !line("noise").asks());
    }

    #[test]
    fn a_message_of_several_lines_becomes_one() {
        let message = Bytes::from_static(b"{\r\n  \"a\": \"\\n\"\n}\n");
        assert_eq!(on_one_line(message), "{    \"a\": \"\\n\" }");
        assert!(is_message(b"\xef\xbb\xbf [") && !is_message(b"<html>") && !is_message(b""));
    }

    #[test]
    fn answers_are_found_in_batches_and_versions_in_answers() {
        let (ids, version) =
            answers_in(br#"[{"id":1,"result":{}},{"method":"x"},{"id":"2","error":{"code":1}}]"#);
        assert_eq!((ids, version), (vec![IdToken::Integer(1), IdToken::Text(b"2".as_slice().into())], None));
        let (_, version) = answers_in(br#"{"id":1,"result":{"protocolVersion":"2025-11-25"}}"#);
        assert_eq!(version.as_deref(), Some("2025-11-25"));
    }
}
