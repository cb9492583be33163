//! The messages that most cases send. `{host}` and `{prefix}` are filled in by the stage.

/// The head of an answer that is a stream of events.
pub(crate) const SSE_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The last chunk.
pub(crate) const LAST_CHUNK: &str = "0\r\n\r\n";

/// What a server says to a message that wants no answer.
pub(crate) const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

/// A POST of JSON.
pub(crate) fn post(target: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    post_with(target, "", body)
}

/// A POST of JSON with further headers, each with its end of line.
pub(crate) fn post_with(target: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "POST {{prefix}}{target} HTTP/1.1\r\nHost: {{host}}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len(),
    );
    [head.as_bytes(), body].concat()
}

/// A GET of an event stream with further headers.
pub(crate) fn get_stream(target: &str, headers: &str) -> String {
    format!("GET {{prefix}}{target} HTTP/1.1\r\nHost: {{host}}\r\nAccept: text/event-stream\r\n{headers}\r\n")
}

/// A DELETE with further headers.
pub(crate) fn delete(target: &str, headers: &str) -> String {
    format!("DELETE {{prefix}}{target} HTTP/1.1\r\nHost: {{host}}\r\n{headers}\r\n")
}

/// A request of any method; `id` is a token of JSON.
pub(crate) fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// A `tools/call`; `id` is a token of JSON.
pub(crate) fn call(id: &str, tool: &str) -> String {
    request(id, "tools/call", &format!(r#"{{"name":"{tool}"}}"#))
}

/// The result of a call.
pub(crate) fn result(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#)
}

/// A notification.
pub(crate) fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

/// A complete answer of JSON.
pub(crate) fn json_answer(body: impl AsRef<[u8]>) -> Vec<u8> {
    answer("200 OK", "Content-Type: application/json\r\n", body)
}

/// A complete answer with a status and headers.
pub(crate) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A chunk, as it stands on the wire.
pub(crate) fn chunk(data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// A complete answer of one stream with these events in it.
pub(crate) fn sse_answer(events: &[&str]) -> Vec<u8> {
    let events: Vec<_> = events.iter().flat_map(|event| chunk(format!("data: {event}\n\n"))).collect();
    [SSE_HEAD.as_bytes(), &events, LAST_CHUNK.as_bytes()].concat()
}
