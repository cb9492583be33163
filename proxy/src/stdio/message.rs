//! One message on its way between a client and a program: what it is, and where in its bytes the few values stand that
//! a shared program has to see differently. Messages are never written anew; single values are exchanged in them.

use bytes::Bytes;
use mcpmeter_observer::{Elements, IdToken, Kind, Members, find_value};
use std::{borrow::Cow, ops::Range};

/// The revision without sessions.
pub(super) const MODERN: &str = "2026-07-28";

const META: &[u8] = b"_meta";

/// A message inside a line, by the places of its parts.
#[derive(Debug, Clone)]
pub(super) struct Message<'a> {
    line: &'a [u8],
    whole: Range<usize>,
    method: Option<Range<usize>>,
    id: Option<Range<usize>>,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    error: Option<Range<usize>>,
    /// A key that some readers take for one of these, and others do not.
    has_doubtful_key: bool,
}

impl<'a> Message<'a> {
    /// The messages of a line: one, or the elements of a batch.
    pub(super) fn all_of(line: &'a [u8]) -> Vec<Self> {
        if is_batch(line) {
            Elements::of(line, 0..line.len()).map(|element| Self::at(line, element)).collect()
        } else {
            vec![Self::at(line, 0..line.len())]
        }
    }

    fn at(line: &'a [u8], whole: Range<usize>) -> Self {
        let mut message = Self {
            line,
            whole: whole.clone(),
            method: None,
            id: None,
            params: None,
            result: None,
            error: None,
            has_doubtful_key: false,
        };
        // Of keys that come twice the last counts, here as with every peer (WIRE.md 1.5).
        for member in Members::of(line, whole) {
            let part = match &*member.key {
                b"method" => &mut message.method,
                b"id" => &mut message.id,
                b"params" => &mut message.params,
                b"result" => &mut message.result,
                b"error" => &mut message.error,
                other => {
                    message.has_doubtful_key |= is_doubtful(other, &[b"method", b"id", b"params"]);
                    continue;
                }
            };
            *part = Some(member.value);
        }
        message
    }

    /// From the top-level keys alone.
    pub(super) fn kind(&self) -> Kind {
        match (&self.method, &self.id) {
            (Some(_), Some(_)) => Kind::Request,
            (Some(_), None) => Kind::Notification,
            (None, _) if self.result.is_some() || self.is_error() => Kind::Response,
            (None, _) => Kind::Other,
        }
    }

    /// Whether a reader that ignores the case of keys, as Go's does, sees another message than we do.
    pub(super) fn is_doubtful(&self) -> bool {
        let inside = |object: Option<Range<usize>>, known: &[&[u8]]| {
            object.is_some_and(|object| {
                Members::of(self.line, object).any(|member| is_doubtful(&member.key, known))
            })
        };
        self.has_doubtful_key
            || inside(self.params.clone(), &[META, b"requestId"])
            || inside(self.in_params(&[META]), &[b"progressToken"])
    }

    /// Where in the line it stands.
    pub(super) fn place(&self) -> Range<usize> {
        self.whole.clone()
    }

    pub(super) fn method(&self) -> Option<Cow<'a, str>> {
        self.text(self.method.clone()?)
    }

    pub(super) fn is(&self, method: &str) -> bool {
        self.method().is_some_and(|own| own == method)
    }

    /// Where its id stands.
    pub(super) fn id(&self) -> Option<Range<usize>> {
        self.id.clone()
    }

    pub(super) fn is_error(&self) -> bool {
        self.error.as_ref().is_some_and(|error| self.line[error.start] == b'{')
    }

    pub(super) fn error_code(&self) -> Option<i64> {
        let code = find_value(self.line, self.error.clone()?, &[b"code"])?;
        str::from_utf8(&self.line[code]).ok()?.parse().ok()
    }

    /// Where a value inside `params` stands.
    pub(super) fn in_params(&self, path: &[&[u8]]) -> Option<Range<usize>> {
        find_value(self.line, self.params.clone()?, path)
    }

    /// What a request wants to be told its progress by.
    pub(super) fn wanted_token(&self) -> Option<Range<usize>> {
        self.in_params(&[META, b"progressToken"])
    }

    /// Which subscription a notification or a result belongs to (2026-07-28).
    pub(super) fn subscription(&self) -> Option<Range<usize>> {
        let path: &[&[u8]] = &[META, b"io.modelcontextprotocol/subscriptionId"];
        match &self.result {
            Some(result) => find_value(self.line, result.clone(), path),
            None => self.in_params(path),
        }
    }

    /// The task that a message of the server is about (2025-11-25).
    pub(super) fn related_task(&self) -> Option<Cow<'a, str>> {
        let path: &[&[u8]] = &[META, b"io.modelcontextprotocol/related-task", b"taskId"];
        self.text(self.in_params(path)?)
    }

    /// A text inside `params`.
    pub(super) fn param_text(&self, key: &[u8]) -> Option<Cow<'a, str>> {
        self.text(self.in_params(&[key])?)
    }

    /// The revision that the request itself says it is written in.
    pub(super) fn version(&self) -> Option<Cow<'a, str>> {
        self.text(self.in_params(&[META, b"io.modelcontextprotocol/protocolVersion"])?)
    }

    /// The revision that an `initialize` ended in.
    pub(super) fn agreed_version(&self) -> Option<Cow<'a, str>> {
        self.text(find_value(self.line, self.result.clone()?, &[b"protocolVersion"])?)
    }

    /// The bytes of a part.
    pub(super) fn raw(&self, part: Range<usize>) -> &'a [u8] {
        &self.line[part]
    }

    /// A part as an id, or what is compared like one.
    pub(super) fn token(&self, part: Range<usize>) -> IdToken {
        IdToken::of(self.raw(part))
    }

    fn text(&self, part: Range<usize>) -> Option<Cow<'a, str>> {
        let raw = self.raw(part);
        let inside = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if !inside.contains(&b'\\') {
            return str::from_utf8(inside).ok().map(Cow::Borrowed);
        }
        serde_json::from_slice(raw).ok().map(Cow::Owned)
    }
}

pub(super) fn is_batch(line: &[u8]) -> bool {
    line.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// Values to be exchanged in a line.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, Bytes)>);

impl Edits {
    pub(super) fn replace(&mut self, part: Range<usize>, by: impl Into<Bytes>) {
        self.0.push((part, by.into()));
    }

    /// A part of the line with what has been exchanged in it; the very bytes, if nothing has.
    pub(super) fn apply(&mut self, line: &Bytes, part: Range<usize>) -> Bytes {
        self.0.sort_by_key(|(at, _)| at.start);
        let mut edits =
            self.0.iter().filter(|(at, _)| part.start <= at.start && at.end <= part.end).peekable();
        if edits.peek().is_none() {
            return line.slice(part);
        }
        let mut spliced = Vec::with_capacity(part.len() + 64);
        let mut from = part.start;
        for (at, by) in edits.filter(|(at, _)| at.start >= part.start) {
            // Two edits of one place: the first stands.
            if at.start < from {
                continue;
            }
            spliced.extend_from_slice(&line[from..at.start]);
            spliced.extend_from_slice(by);
            from = at.end;
        }
        spliced.extend_from_slice(&line[from..part.end]);
        spliced.into()
    }
}

fn is_doubtful(key: &[u8], known: &[&[u8]]) -> bool {
    known.iter().any(|known| key != *known && key.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_values_are_exchanged_and_every_other_byte_stays() {
        let line =
            Bytes::from_static(br#"{ "id" : 1.0,"x":NaN, "params":{"_meta":{"progressToken":"a\u0062"}}}"#);
        let messages = Message::all_of(&line);
        let message = &messages[0];
        let mut edits = Edits::default();
        edits.replace(message.wanted_token().expect("a token"), &b"7"[..]);
        edits.replace(message.id().expect("an id"), &b"7"[..]);
        assert_eq!(message.token(message.wanted_token().unwrap()), IdToken::of(b"\"ab\""));
        let spliced = edits.apply(&line, message.place());
        assert_eq!(&spliced[..], br#"{ "id" : 7,"x":NaN, "params":{"_meta":{"progressToken":7}}}"#);
    }

    #[test]
    fn a_line_in_which_nothing_is_exchanged_is_not_copied() {
        let line = Bytes::from_static(br#"[{"id":1},{"id":2}]"#);
        let messages = Message::all_of(&line);
        assert_eq!(messages.len(), 2);
        let second = Edits::default().apply(&line, messages[1].place());
        assert_eq!((&second[..], second.as_ptr()), (&br#"{"id":2}"#[..], line[10..].as_ptr()));
    }

    #[test]
    fn a_message_is_known_by_its_top_level_keys() {
        for (line, kind) in [
            (r#"{"id":1,"method":"a"}"#, Kind::Request),
            (r#"{"method":"a","params":{"id":1}}"#, Kind::Notification),
            (r#"{"result":{"method":"a"},"id":1}"#, Kind::Response),
            (r#"{"error":{"code":-32601},"id":null}"#, Kind::Response),
            (r#"{"id":1}"#, Kind::Other),
            ("{}", Kind::Other),
            ("[]x", Kind::Other),
        ] {
            let messages = Message::all_of(line.as_bytes());
            let found = messages.first().map_or(Kind::Other, Message::kind);
            assert_eq!(found, kind, "{line}");
        }
        let line = br#"{"\u006dethod":"tools\/call","id":null}"#;
        assert!(Message::all_of(line)[0].is("tools/call"));
    }
}
