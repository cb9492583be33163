//! Requests of the revision without sessions (2026-07-28): the program has no headers, so what they say is checked here,
//! in place of the server that the revision asks to do it.

use super::message::{MODERN, Message};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use mcpmeter_observer::Kind;

pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// The code of a header that is missing or differs from the body (2026-07-28, basic/transports).
pub(super) const HEADER_MISMATCH: i64 = -32020;

const INVALID_PARAMS: i64 = -32602;

/// Whether a request is one of the revision without sessions: by its header, or by what it says itself.
pub(super) fn is_modern(headers: &HeaderMap, messages: &[Message<'_>]) -> bool {
    let by_header = headers.get(VERSION).is_some_and(|version| version.as_bytes() >= MODERN.as_bytes());
    by_header || messages.first().is_some_and(|message| message.version().is_some_and(|own| &*own >= MODERN))
}

/// What is wrong with a message or its headers: code and words of an error.
pub(super) fn check(headers: &HeaderMap, message: &Message<'_>) -> Result<(), (i64, String)> {
    check_headers(headers, message).map_err(|problem| (HEADER_MISMATCH, problem))?;
    if message.kind() == Kind::Request && message.version().is_none() {
        let problem = "params._meta has no io.modelcontextprotocol/protocolVersion";
        return Err((INVALID_PARAMS, problem.to_owned()));
    }
    Ok(())
}

fn check_headers(headers: &HeaderMap, message: &Message<'_>) -> Result<(), String> {
    let version = sole(headers, &VERSION)?;
    if let Some(own) = message.version() {
        equal(&VERSION, &version, &own)?;
    }
    let Some(method) = message.method() else { return Ok(()) };
    equal(&METHOD, &sole(headers, &METHOD)?, &method)?;
    match named_by(&method).and_then(|key| message.param_text(key)) {
        Some(name) => equal(&NAME, &sole(headers, &NAME)?, &name),
        None => Ok(()),
    }
}

/// Which parameter `Mcp-Name` repeats.
fn named_by(method: &str) -> Option<&'static [u8]> {
    match method {
        "tools/call" | "prompts/get" => Some(b"name"),
        "resources/read" => Some(b"uri"),
        _ if method.starts_with("tasks/") => Some(b"taskId"),
        _ => None,
    }
}

fn sole(headers: &HeaderMap, name: &HeaderName) -> Result<String, String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => decode(value.as_bytes()).ok_or_else(|| format!("{name} cannot be read")),
        (None, _) => Err(format!("{name} is missing")),
        (Some(_), Some(_)) => Err(format!("{name} is there twice")),
    }
}

fn equal(name: &HeaderName, header: &str, body: &str) -> Result<(), String> {
    if header == body { Ok(()) } else { Err(format!("{name} differs from the body")) }
}

/// What is no plain text comes as `=?base64?…?=`.
fn decode(value: &[u8]) -> Option<String> {
    let text = str::from_utf8(value).ok()?.trim();
    let Some(encoded) = text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Some(text.to_owned());
    };
    String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()
}

/// The HTTP status of an error (2026-07-28, basic/transports).
pub(super) fn status_of(code: Option<i64>) -> StatusCode {
    match code {
        Some(-32601) => StatusCode::NOT_FOUND,
        Some(-32022..=-32020) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// The first request to a program of unknown age: only one of this revision understands it.
pub(super) fn discovery() -> Bytes {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientInfo":{{"name":"mcpmeter","version":"{version}"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        map
    }

    const CALL: &str = r#"{"id":1,"method":"tools/call","params":{"name":"é","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;

    #[test]
    fn headers_have_to_say_what_the_body_says() {
        let call =
            |pairs: &[(HeaderName, &str)]| check(&headers(pairs), &Message::all_of(CALL.as_bytes())[0]);
        let (version, method, name) = ((VERSION, MODERN), (METHOD, "tools/call"), (NAME, "=?base64?w6k=?="));
        assert_eq!(call(&[version.clone(), method.clone(), name.clone()]), Ok(()));
        for (pairs, problem) in [
            (vec![method.clone(), name.clone()], "mcp-protocol-version is missing"),
            (vec![version.clone(), name.clone()], "mcp-method is missing"),
            (vec![version.clone(), method.clone()], "mcp-name is missing"),
            (vec![version.clone(), method.clone(), (NAME, "e")], "mcp-name differs from the body"),
            (vec![version.clone(), (METHOD, "tools/list"), name.clone()], "mcp-method differs from the body"),
            (
                vec![version.clone(), method.clone(), method.clone(), name.clone()],
                "mcp-method is there twice",
            ),
            (
                vec![(VERSION, "2025-11-25"), method.clone(), name.clone()],
                "mcp-protocol-version differs from the body",
            ),
            (vec![version.clone(), method.clone(), (NAME, "=?base64?!?=")], "mcp-name cannot be read"),
        ] {
            assert_eq!(call(&pairs), Err((HEADER_MISMATCH, problem.to_owned())));
        }
    }

    #[test]
    fn a_request_is_modern_by_its_header_or_by_itself() {
        let of = |pairs: &[(HeaderName, &str)], body: &str| {
            is_modern(&headers(pairs), &Message::all_of(body.as_bytes()))
        };
        assert!(of(&[], CALL));
        assert!(of(&[(VERSION, MODERN)], "{}"));
        assert!(!of(
            &[(VERSION, "2025-11-25")],
            r#"{"method":"initialize","params":{"protocolVersion":"2026-07-28"}}"#
        ));
    }
}
