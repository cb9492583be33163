//! The Python SDK's client and server, in every way they can be put together: the client sees through the proxy
//! what it sees without it, and every column of every row is right.

use crate::support::{
    conversation::{Client, Held, hold_twice, on_route},
    expected_row::ExpectedRow,
    peer::PeerServer,
};

const AGENT: &str = "py-agent/1.2 (tests; #7)";

const fn client(mode: &'static str, conversation: &'static str) -> Client {
    Client::Script { script: "py_client.py", mode, conversation, arguments: &["--user-agent", AGENT] }
}

/// Client and server of the SDK; `options` are the server's.
async fn talk(options: &[&str], mode: &'static str) -> Held {
    let server = PeerServer::start("py_server.py", options);
    let path = if mode == "sse" { "/sse" } else { "/mcp" };
    hold_twice(server.port, path, client(mode, "fixture")).await
}

/// A `tools/list` that says who asks: `initialize` has told it to the session, or `_meta` tells it each time.
fn from_client(protocol: &str) -> ExpectedRow {
    ExpectedRow {
        protocol_version: Some(protocol.into()),
        user_agent: Some(AGENT.into()),
        client_name: Some("py-peer".into()),
        client_version: Some("1.0.0".into()),
        ..on_route()
    }
}

fn in_session() -> ExpectedRow {
    ExpectedRow { session: Some("the only"), ..from_client("2025-11-25") }
}

/// Only `initialize` says who the client is, and without a session nothing ties the calls to it.
fn without_session() -> ExpectedRow {
    ExpectedRow { client_name: None, client_version: None, ..from_client("2025-11-25") }
}

fn all_json(row: &mut ExpectedRow) {
    row.framing = Some("json");
}

/// At 2026-07-28 the server answers in plain JSON until it has progress to tell.
fn json_unless_slow(row: &mut ExpectedRow) {
    row.framing = Some(if row.tool_name.as_deref() == Some("slow") { "sse" } else { "json" });
}

#[tokio::test]
async fn a_session_of_streamable_http() {
    let held = talk(&[], "streamable").await;
    assert_eq!(held.protocol(), "2025-11-25");
    // The SDK counts from 1, and `initialize` was that.
    held.assert_recorded(&in_session(), 2, |_| {});
}

#[tokio::test]
async fn a_session_in_plain_json() {
    let held = talk(&["--json"], "streamable").await;
    held.assert_recorded(&in_session(), 2, all_json);
}

#[tokio::test]
async fn a_server_without_sessions() {
    let held = talk(&["--stateless"], "streamable").await;
    assert_eq!(held.protocol(), "2025-11-25");
    held.assert_recorded(&without_session(), 2, |_| {});
}

#[tokio::test]
async fn a_server_without_sessions_in_plain_json() {
    let held = talk(&["--stateless", "--json"], "streamable").await;
    held.assert_recorded(&without_session(), 2, all_json);
}

#[tokio::test]
async fn the_old_sse_transport() {
    let held = talk(&["--transport", "sse"], "sse").await;
    assert_eq!(held.protocol(), "2025-11-25");
    let row = ExpectedRow {
        transport_type: "SSE",
        client_transport: "SSE",
        session: Some("the announced endpoint"),
        ..from_client("2025-11-25")
    };
    held.assert_recorded(&row, 2, |_| {});
}

#[tokio::test]
async fn revision_2026_07_28() {
    let held = talk(&[], "modern").await;
    assert_eq!(held.protocol(), "2026-07-28");
    // No `initialize`, so the first call's id is 1.
    held.assert_recorded(&from_client("2026-07-28"), 1, json_unless_slow);
}

#[tokio::test]
async fn revision_2026_07_28_in_plain_json() {
    let held = talk(&["--json"], "modern").await;
    held.assert_recorded(&from_client("2026-07-28"), 1, all_json);
}

#[tokio::test]
async fn a_client_that_probes() {
    let held = talk(&[], "auto").await;
    assert_eq!(held.protocol(), "2026-07-28");
    // The probe, `server/discover`, was 1.
    held.assert_recorded(&from_client("2026-07-28"), 2, json_unless_slow);
}

#[tokio::test]
async fn the_typescript_demo_server_over_both_old_transports() {
    let server = PeerServer::start("everything.mjs", &["streamableHttp"]);
    let held = hold_twice(server.port, "/mcp", client("streamable", "everything")).await;
    held.assert_recorded(&in_session(), 2, |_| {});

    let server = PeerServer::start("everything.mjs", &["sse"]);
    let held = hold_twice(server.port, "/sse", client("sse", "everything")).await;
    let row = ExpectedRow { transport_type: "SSE", client_transport: "SSE", ..in_session() };
    held.assert_recorded(&row, 2, |_| {});
}

#[tokio::test]
async fn the_typescript_server_at_2026_07_28() {
    let server = PeerServer::start("ts_server.mjs", &["--modern-only"]);
    let held = hold_twice(server.port, "/mcp", client("modern", "fixture")).await;
    held.assert_recorded(&from_client("2026-07-28"), 1, json_unless_slow);
}

#[tokio::test]
async fn credentials_and_a_trace_go_through_and_only_the_trace_is_kept() {
    let server = PeerServer::start("py_server.py", &[]);
    let with_headers = Client::Script {
        script: "py_client.py",
        mode: "streamable",
        conversation: "fixture",
        arguments: &[
            "--user-agent",
            AGENT,
            "--header",
            "X-API-Key: tell-nobody-7f3a",
            "--header",
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        ],
    };
    let held = hold_twice(server.port, "/mcp", with_headers).await;
    let row = ExpectedRow {
        auth_method: "passthrough",
        auth_state: "unverified",
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        parent_span_id: Some("00f067aa0ba902b7".into()),
        ..in_session()
    };
    held.assert_recorded(&row, 2, |_| {});
    let stored = format!("{:?}", held.rows);
    assert!(!stored.contains("tell-nobody"), "{stored}");
}
