//! The TypeScript SDKs (1.x for the revisions with sessions, 2.x for 2026-07-28) and their demo server: clients
//! see through the proxy what they see without it, and every column of every row is right.

use crate::support::{
    conversation::{Client, hold_twice, on_route},
    expected_row::ExpectedRow,
    peer::PeerServer,
};

const AGENT: &str = "ts-agent/1.2 (tests; #7)";

const fn client(mode: &'static str, conversation: &'static str) -> Client {
    Client::Script { script: "ts_client.mjs", mode, conversation, arguments: &["--user-agent", AGENT] }
}

/// A `tools/list` that says who asks: `initialize` has told it to the session, or `_meta` tells it each time.
fn from_client(protocol: &str) -> ExpectedRow {
    ExpectedRow {
        protocol_version: Some(protocol.into()),
        user_agent: Some(AGENT.into()),
        client_name: Some("ts-peer".into()),
        client_version: Some("1.0.0".into()),
        ..on_route()
    }
}

/// The 2.x server answers in plain JSON until it has progress to tell.
fn json_unless_slow(row: &mut ExpectedRow) {
    row.framing = Some(if row.tool_name.as_deref() == Some("slow") { "sse" } else { "json" });
}

#[tokio::test]
async fn a_session_of_streamable_http_with_the_demo_server() {
    let server = PeerServer::start("everything.mjs", &["streamableHttp"]);
    let held = hold_twice(server.port, "/mcp", client("streamable", "everything")).await;
    assert_eq!(held.protocol(), "2025-11-25");
    let row = ExpectedRow { session: Some("the only"), ..from_client("2025-11-25") };
    held.assert_recorded(&row, 1, |_| {});
}

#[tokio::test]
async fn the_old_sse_transport_with_the_demo_server() {
    let server = PeerServer::start("everything.mjs", &["sse"]);
    let held = hold_twice(server.port, "/sse", client("sse", "everything")).await;
    assert_eq!(held.protocol(), "2025-11-25");
    let row = ExpectedRow {
        transport_type: "SSE",
        client_transport: "SSE",
        session: Some("the announced endpoint"),
        ..from_client("2025-11-25")
    };
    held.assert_recorded(&row, 1, |_| {});
}

#[tokio::test]
async fn revision_2026_07_28_with_the_server_of_the_sdk() {
    let server = PeerServer::start("ts_server.mjs", &[]);
    let held = hold_twice(server.port, "/mcp", client("modern", "fixture")).await;
    assert_eq!(held.protocol(), "2026-07-28");
    // No `initialize`, so the first call's id is 0.
    held.assert_recorded(&from_client("2026-07-28"), 0, json_unless_slow);
}

#[tokio::test]
async fn revision_2026_07_28_in_plain_json() {
    let server = PeerServer::start("ts_server.mjs", &["--modern-only", "--json"]);
    let held = hold_twice(server.port, "/mcp", client("modern", "fixture")).await;
    held.assert_recorded(&from_client("2026-07-28"), 0, |row| row.framing = Some("json"));
}

#[tokio::test]
async fn a_session_with_a_server_that_keeps_none() {
    let server = PeerServer::start("ts_server.mjs", &[]);
    let held = hold_twice(server.port, "/mcp", client("streamable", "fixture")).await;
    assert_eq!(held.protocol(), "2025-11-25");
    // Only `initialize` says who the client is, and without a session nothing ties the calls to it.
    let row = ExpectedRow { client_name: None, client_version: None, ..from_client("2025-11-25") };
    held.assert_recorded(&row, 1, |_| {});
}

#[tokio::test]
async fn a_client_that_probes_finds_the_modern_server() {
    let server = PeerServer::start("ts_server.mjs", &["--modern-only"]);
    let held = hold_twice(server.port, "/mcp", client("auto", "fixture")).await;
    assert_eq!(held.protocol(), "2026-07-28");
    held.assert_recorded(&from_client("2026-07-28"), 0, json_unless_slow);
}

#[tokio::test]
async fn a_client_that_probes_falls_back_to_the_old_server() {
    let server = PeerServer::start("everything.mjs", &["streamableHttp"]);
    let held = hold_twice(server.port, "/mcp", client("auto", "everything")).await;
    assert_eq!(held.protocol(), "2025-11-25");
    let row = ExpectedRow { session: Some("the only"), ..from_client("2025-11-25") };
    held.assert_recorded(&row, 1, |_| {});
}

#[tokio::test]
async fn the_python_server_in_both_eras() {
    let server = PeerServer::start("py_server.py", &[]);
    let held = hold_twice(server.port, "/mcp", client("streamable", "fixture")).await;
    let row = ExpectedRow { session: Some("the only"), ..from_client("2025-11-25") };
    held.assert_recorded(&row, 1, |_| {});

    let held = hold_twice(server.port, "/mcp", client("modern", "fixture")).await;
    held.assert_recorded(&from_client("2026-07-28"), 0, json_unless_slow);
}

#[tokio::test]
async fn credentials_and_a_trace_go_through_and_only_the_trace_is_kept() {
    let server = PeerServer::start("ts_server.mjs", &[]);
    let with_headers = Client::Script {
        script: "ts_client.mjs",
        mode: "modern",
        conversation: "fixture",
        arguments: &[
            "--header",
            "Authorization: Bearer tell-nobody-7f3a",
            "--header",
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ],
    };
    let held = hold_twice(server.port, "/mcp", with_headers).await;
    let row = ExpectedRow {
        auth_method: "passthrough",
        auth_state: "unverified",
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        parent_span_id: Some("00f067aa0ba902b7".into()),
        // What Node calls itself when it is not told to call itself anything else.
        user_agent: Some("node".into()),
        ..from_client("2026-07-28")
    };
    held.assert_recorded(&row, 0, json_unless_slow);
    let stored = format!("{:?}", held.rows);
    assert!(!stored.contains("tell-nobody"), "{stored}");
}
