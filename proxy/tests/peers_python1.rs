//! The Python SDK 1.x, client and server: the client sees through the proxy what it sees without it, and every column
//! of every row is right.

use crate::support::{
    conversation::{Client, Held, hold_twice, on_route},
    expected_row::ExpectedRow,
    peer::PeerServer,
};

const AGENT: &str = "py1-agent/1.2 (tests; #7)";

async fn talk(server: &str, options: &[&str], mode: &'static str) -> Held {
    let server = PeerServer::start(server, options);
    let path = if mode == "sse" { "/sse" } else { "/mcp" };
    let arguments = &["--user-agent", AGENT];
    hold_twice(
        server.port,
        path,
        Client::Script { script: "py1_client.py", mode, conversation: "fixture", arguments },
    )
    .await
}

fn in_session() -> ExpectedRow {
    ExpectedRow {
        protocol_version: Some("2025-11-25".into()),
        user_agent: Some(AGENT.into()),
        client_name: Some("py1-peer".into()),
        client_version: Some("1.0.0".into()),
        session: Some("the only"),
        ..on_route()
    }
}

#[tokio::test]
async fn a_session_of_streamable_http() {
    let held = talk("py1_server.py", &[], "streamable").await;
    held.assert_recorded(&in_session(), 1, |_| {});
}

#[tokio::test]
async fn the_old_sse_transport() {
    let held = talk("py1_server.py", &["--transport", "sse"], "sse").await;
    let row = ExpectedRow { transport_type: "SSE", client_transport: "SSE", ..in_session() };
    held.assert_recorded(&row, 1, |_| {});
}

#[tokio::test]
async fn a_server_of_the_newer_sdk() {
    let held = talk("py_server.py", &[], "streamable").await;
    held.assert_recorded(&in_session(), 1, |_| {});
}
