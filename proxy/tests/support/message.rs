//! HTTP messages: as they arrive, and those that most tests send.

use crate::raw::Wire;
use std::net::SocketAddr;

/// An HTTP message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Start line and headers, with the empty line behind them.
    pub(crate) head: Vec<u8>,
    /// The body without its chunks' framing.
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing promised.
    pub(crate) complete: bool,
}

impl Message {
    /// The first line, without its end.
    pub(crate) fn start_line(&self) -> String {
        let end = self.head.windows(2).position(|two| two == b"\r\n").unwrap_or(self.head.len());
        String::from_utf8_lossy(&self.head[..end]).into_owned()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.start_line().split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a response")
    }

    /// Names and values in the order of the wire; a byte beyond ASCII is read as Latin-1.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let text: String = self.head.iter().copied().map(char::from).collect();
        let lines = text.split("\r\n").skip(1).filter(|line| !line.is_empty());
        let pair = |line: &str| {
            let (name, value) = line.split_once(':').expect("a header has a colon");
            (name.to_owned(), value.trim().to_owned())
        };
        lines.map(pair).collect()
    }

    /// The value of a header, if it is there once.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut values = self.headers();
        values.retain(|(known, _)| known.eq_ignore_ascii_case(name));
        assert!(values.len() < 2, "{name} is there {} times", values.len());
        values.pop().map(|(_, value)| value)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }
}

/// A chunk of a body, as it stands on the wire.
pub(crate) fn chunk(data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// The last chunk.
pub(crate) const LAST_CHUNK: &str = "0\r\n\r\n";

/// The head of an answer that is a stream of events.
pub(crate) const SSE_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A POST of JSON to a host.
pub(crate) fn post(host: impl std::fmt::Display, target: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    )
}

/// A GET of an event stream from a host.
pub(crate) fn get_stream(host: impl std::fmt::Display, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n")
}

/// A `tools/call` with a number as its id.
pub(crate) fn call(id: u64, tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}"}}}}"#)
}

/// The result of a call.
pub(crate) fn result(id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#)
}

/// A complete answer of JSON.
pub(crate) fn json_answer(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Makes a call over a connection of its own; it has to succeed.
pub(crate) async fn make_call(proxy: SocketAddr, target: &str, id: u64, tool: &str) {
    let mut client = Wire::connect(proxy).await;
    client.send(post("localhost", target, &call(id, tool))).await;
    assert_eq!(client.read_response().await.status(), 200);
}
