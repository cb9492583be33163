//! FastMCP, client and server, each in its own default mode: the client sees through the proxy what it sees without it,
//! and every column of every row is right.

use crate::support::{
    conversation::{Client, hold_twice, on_route},
    expected_row::ExpectedRow,
    peer::PeerServer,
};

const AGENT: &str = "fastmcp-agent/1.2 (tests; #7)";

const fn client(script: &'static str, mode: &'static str) -> Client {
    Client::Script { script, mode, conversation: "fixture", arguments: &["--user-agent", AGENT] }
}

fn from_client(name: &str, protocol: &str) -> ExpectedRow {
    ExpectedRow {
        protocol_version: Some(protocol.into()),
        user_agent: Some(AGENT.into()),
        client_name: Some(name.into()),
        client_version: Some("1.0.0".into()),
        ..on_route()
    }
}

/// At 2026-07-28 the server answers in plain JSON until it has progress to tell.
fn json_unless_slow(row: &mut ExpectedRow) {
    row.framing = Some(if row.tool_name.as_deref() == Some("slow") { "sse" } else { "json" });
}

#[tokio::test]
async fn streamable_http() {
    let server = PeerServer::start("fastmcp_server.py", &[]);
    let held = hold_twice(server.port, "/mcp", client("fastmcp_client.py", "streamable")).await;
    assert_eq!(held.protocol(), "2026-07-28", "the client probes");
    held.assert_recorded(&from_client("fastmcp-peer", "2026-07-28"), 2, json_unless_slow);
}

#[tokio::test]
async fn the_old_sse_transport() {
    let server = PeerServer::start("fastmcp_server.py", &["--transport", "sse"]);
    let held = hold_twice(server.port, "/sse", client("fastmcp_client.py", "sse")).await;
    let row = ExpectedRow {
        transport_type: "SSE",
        client_transport: "SSE",
        session: Some("the announced endpoint"),
        ..from_client("fastmcp-peer", "2025-11-25")
    };
    held.assert_recorded(&row, 2, |_| {});
}

#[tokio::test]
async fn a_client_of_the_typescript_sdk_in_a_session() {
    let server = PeerServer::start("fastmcp_server.py", &[]);
    let held = hold_twice(server.port, "/mcp", client("ts_client.mjs", "streamable")).await;
    let row = ExpectedRow { session: Some("the only"), ..from_client("ts-peer", "2025-11-25") };
    held.assert_recorded(&row, 1, |_| {});
}
