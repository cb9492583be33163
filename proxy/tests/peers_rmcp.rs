//! rmcp's client and server in both of its lifecycles: the client sees through the proxy what it sees without
//! it, and every column of every row is right.

use crate::support::{
    conversation::{Client, Held, hold_twice, on_route},
    expected_row::ExpectedRow,
    rmcp_client::Era,
    rmcp_server::{RmcpServer, RmcpServerOptions},
};

/// reqwest sends none of its own.
const AGENT: (&str, &str) = ("user-agent", "rmcp-agent/1.2 (tests; #7)");

const SESSIONS: RmcpServerOptions = RmcpServerOptions { json_response: false, sessions: true };
const NO_SESSIONS: RmcpServerOptions = RmcpServerOptions { json_response: false, sessions: false };
const PLAIN_JSON: RmcpServerOptions = RmcpServerOptions { json_response: true, sessions: false };

async fn talk(options: RmcpServerOptions, era: Era) -> Held {
    let server = RmcpServer::start(options).await;
    let held = hold_twice(server.address().port(), "/mcp", Client::Rmcp(era, &[AGENT])).await;
    server.stop().await;
    held
}

/// A `tools/list` that says who asks: `initialize` has told it to the session, or `_meta` tells it each time.
fn from_client(protocol: &str) -> ExpectedRow {
    ExpectedRow {
        protocol_version: Some(protocol.into()),
        user_agent: Some(AGENT.1.into()),
        client_name: Some("rmcp-peer".into()),
        client_version: Some("1.0.0".into()),
        ..on_route()
    }
}

/// Only `initialize` says who the client is, and without a session nothing ties the calls to it.
fn without_session() -> ExpectedRow {
    ExpectedRow { client_name: None, client_version: None, ..from_client("2025-11-25") }
}

/// Progress has to go somewhere, even if the server is told to answer in plain JSON.
fn json_unless_slow(row: &mut ExpectedRow) {
    row.framing = Some(if row.tool_name.as_deref() == Some("slow") { "sse" } else { "json" });
}

/// The progress that the client counted, call by call.
fn progress(held: &Held) -> Vec<u64> {
    held.steps.iter().filter_map(|step| step["progress"].as_u64()).collect()
}

#[tokio::test]
async fn a_session() {
    let held = talk(SESSIONS, Era::Initialize).await;
    assert_eq!(held.protocol(), "2025-11-25");
    assert_eq!(progress(&held), [0, 0, 0, 3, 0]);
    let row = ExpectedRow { session: Some("the only"), ..from_client("2025-11-25") };
    held.assert_recorded(&row, 1, |_| {});
}

#[tokio::test]
async fn a_server_without_sessions() {
    let held = talk(NO_SESSIONS, Era::Initialize).await;
    assert_eq!(held.protocol(), "2025-11-25");
    assert_eq!(progress(&held), [0, 0, 0, 3, 0]);
    held.assert_recorded(&without_session(), 1, |_| {});
}

#[tokio::test]
async fn a_server_without_sessions_in_plain_json() {
    let held = talk(PLAIN_JSON, Era::Initialize).await;
    held.assert_recorded(&without_session(), 1, json_unless_slow);
}

#[tokio::test]
async fn revision_2026_07_28() {
    let held = talk(SESSIONS, Era::Discover).await;
    assert_eq!(held.protocol(), "2026-07-28");
    assert_eq!(progress(&held), [0, 0, 0, 3, 0]);
    held.assert_recorded(&from_client("2026-07-28"), 1, |_| {});
}

#[tokio::test]
async fn revision_2026_07_28_in_plain_json() {
    let held = talk(PLAIN_JSON, Era::Discover).await;
    assert_eq!(progress(&held), [0, 0, 0, 3, 0]);
    held.assert_recorded(&from_client("2026-07-28"), 1, json_unless_slow);
}

#[tokio::test]
async fn a_client_that_probes() {
    let held = talk(SESSIONS, Era::Auto).await;
    assert_eq!(held.protocol(), "2026-07-28");
    held.assert_recorded(&from_client("2026-07-28"), 1, |_| {});
}

#[tokio::test]
async fn a_client_that_says_nothing_about_itself_but_its_trace() {
    let server = RmcpServer::start(SESSIONS).await;
    let headers = &[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    let held = hold_twice(server.address().port(), "/mcp", Client::Rmcp(Era::Initialize, headers)).await;
    let row = ExpectedRow {
        user_agent: None,
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        parent_span_id: Some("00f067aa0ba902b7".into()),
        session: Some("the only"),
        ..from_client("2025-11-25")
    };
    held.assert_recorded(&row, 1, |_| {});
    server.stop().await;
}
