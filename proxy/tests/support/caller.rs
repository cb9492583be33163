//! A client by hand, for servers that are programs: it writes bodies byte by byte, with the headers that the revision
//! without sessions asks for, and keeps its connection. Never retries.

use crate::{message::Message, raw::Wire, support::Mcpmeter};
use serde_json::{Value, json};

const MODERN: &str = "2026-07-28";

/// One connection of one client to the route `peer`.
pub(crate) struct Caller {
    wire: Wire,
    /// Sent with everything.
    headers: String,
}

/// A request of the revision without sessions, as its client writes it. `id` and `token` are JSON.
pub(crate) fn modern(id: &str, method: &str, params: Value, token: Option<&str>) -> String {
    let mut params = params;
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": { "name": "caller", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut params = params.to_string();
    if let Some(token) = token {
        params = params.replacen("\"_meta\":{", &format!("\"_meta\":{{\"progressToken\":{token},"), 1);
    }
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// A `tools/call` of that revision.
pub(crate) fn modern_call(id: &str, tool: &str, token: Option<&str>) -> String {
    modern(id, "tools/call", json!({ "name": tool, "arguments": {} }), token)
}

/// A `tools/call` inside a session.
pub(crate) fn session_call(id: u64, tool: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": {} } })
        .to_string()
}

impl Caller {
    /// A client of the revision without sessions; its headers come from what it asks.
    pub(crate) async fn connect(proxy: &Mcpmeter) -> Self {
        Self { wire: Wire::connect(proxy.proxy).await, headers: String::new() }
    }

    /// Opens a session, on a connection that is used for it alone.
    pub(crate) async fn open_session(proxy: &Mcpmeter, name: &str) -> Self {
        let mut caller = Self::connect(proxy).await;
        let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": name, "version": "1" },
        } });
        let answer = caller.ask(&initialize.to_string()).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let session = answer.header("mcp-session-id").expect("a session");
        caller.headers = format!("Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: 2025-11-25\r\n");
        caller
    }

    /// Another connection of the same session.
    pub(crate) async fn again(&self, proxy: &Mcpmeter) -> Self {
        Self { wire: Wire::connect(proxy.proxy).await, headers: self.headers.clone() }
    }

    /// Sends a request and does not wait.
    pub(crate) async fn send(&mut self, body: &str) {
        let told = routing(body);
        let head = format!(
            "POST /peer/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\n{headers}{told}Content-Length: {length}\r\n\r\n",
            headers = self.headers,
            length = body.len(),
        );
        self.wire.send(head + body).await;
    }

    /// Sends a request without a body.
    pub(crate) async fn send_bare(&mut self, method: &str) {
        let headers = &self.headers;
        let head = format!(
            "{method} /peer/mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{headers}\r\n"
        );
        self.wire.send(head).await;
    }

    /// The whole answer.
    pub(crate) async fn response(&mut self) -> Message {
        self.wire.read_response().await
    }

    /// Asks and waits.
    pub(crate) async fn ask(&mut self, body: &str) -> Message {
        self.send(body).await;
        self.response().await
    }

    /// The head of an answer that is a stream.
    pub(crate) async fn begin_stream(&mut self) {
        let head = self.wire.read_head().await;
        let kind = head.header("content-type");
        assert_eq!((head.status(), kind.as_deref()), (200, Some("text/event-stream")));
    }

    /// The next message on that stream, as it was written; `None` at its end or its breaking off.
    pub(crate) async fn next_event(&mut self) -> Option<String> {
        let chunk = self.wire.read_chunk().await?;
        let text = String::from_utf8(chunk).expect("text");
        let data = text.strip_prefix("event: message\ndata: ")?.strip_suffix("\n\n")?;
        Some(data.to_owned())
    }

    /// Leaves, whatever is open.
    pub(crate) fn leave(self) {
        drop(self.wire);
    }
}

/// The headers that repeat what a body says, if it is of the revision without sessions.
fn routing(body: &str) -> String {
    let Ok(body) = serde_json::from_str::<Value>(body) else { return String::new() };
    let params = &body["params"];
    if params["_meta"]["io.modelcontextprotocol/protocolVersion"].is_null() {
        return String::new();
    }
    let method = body["method"].as_str().expect("a method");
    let name = params["name"].as_str().map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
    format!("MCP-Protocol-Version: {MODERN}\r\nMcp-Method: {method}\r\n{name}")
}

/// The messages of an answer, whether it is one or a stream of them.
pub(crate) fn messages(answer: &Message) -> Vec<String> {
    let text = answer.text();
    if answer.header("content-type").as_deref() != Some("text/event-stream") {
        return vec![text];
    }
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
}

/// The text of the result of a call.
pub(crate) fn text_of(message: &str) -> String {
    let message: Value = serde_json::from_str(message).unwrap_or_else(|_| panic!("no JSON: {message}"));
    let text = message["result"]["content"][0]["text"].as_str();
    text.unwrap_or_else(|| panic!("no result: {message}")).to_owned()
}
