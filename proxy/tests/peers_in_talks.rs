//! Servers that ask back, log, report, and cut their own streams, with the clients of several SDKs: sampling and
//! elicitation inside of a call, a call that is resumed elsewhere, and the rounds in which 2026-07-28 asks. The client
//! sees through the proxy what it sees without it.

use crate::support::{
    conversation::{Client, Held, hold_twice},
    expected_row::assert_measured,
    peer::PeerServer,
};
use serde_json::Value;

async fn talk(server: &str, script: &'static str, mode: &'static str, conversation: &'static str) -> Held {
    let server = PeerServer::start(server, &[]);
    hold_twice(server.port, "/mcp", Client::Script { script, mode, conversation, arguments: &[] }).await
}

fn column<'a>(rows: &'a [Value], name: &str) -> Vec<&'a str> {
    rows.iter().map(|row| row[name].as_str().unwrap_or("null")).collect()
}

/// What was asked back, logged and reported is no call; each call is one row, whatever happened to its stream.
async fn everything_in_a_session(server: &str, script: &'static str) {
    let held = talk(server, script, "streamable", "talkative").await;
    let tools = [
        "null",
        "test_sampling",
        "test_elicitation",
        "test_tool_with_logging",
        "test_tool_with_progress",
        "test_reconnection",
        "test_simple_text",
    ];
    assert_eq!(column(&held.rows, "tool_name"), tools);
    assert_eq!(column(&held.rows, "status"), ["ok"; 7]);
    assert_eq!(column(&held.rows, "match"), ["exact"; 7]);
    assert_eq!(column(&held.rows, "protocol_version"), ["2025-11-25"; 7]);
    assert_eq!(column(&held.rows, "transport_type"), ["STREAMABLE_HTTPS"; 7]);
    assert_eq!(
        column(&held.rows, "session_hash"),
        [held.rows[0]["session_hash"].as_str().expect("a session"); 7]
    );
    held.assert_bytes_on_the_wire();
    // The answer of the one that was cut came on another exchange, whose sizes it does not have.
    held.rows.iter().filter(|row| row["tool_name"] != "test_reconnection").for_each(assert_measured);
}

#[tokio::test]
async fn the_typescript_client_with_the_typescript_server() {
    everything_in_a_session("conformance_ts1.mjs", "ts_client.mjs").await;
}

#[tokio::test]
async fn the_typescript_client_with_the_python_server() {
    everything_in_a_session("conformance_py.py", "ts_client.mjs").await;
}

#[tokio::test]
async fn the_python_client_with_the_typescript_server() {
    everything_in_a_session("conformance_ts1.mjs", "py_client.py").await;
}

#[tokio::test]
async fn the_python_client_1_with_the_python_server() {
    everything_in_a_session("conformance_py.py", "py1_client.py").await;
}

/// A round is a call of its own on the wire, and a row of its own: what was asked for, then the answer.
async fn rounds(server: &str, script: &'static str) {
    let held = talk(server, script, "modern", "inputs").await;
    let statuses =
        ["ok", "input_required", "ok", "input_required", "ok", "input_required", "input_required", "ok"];
    assert_eq!(column(&held.rows, "status"), statuses);
    assert_eq!(column(&held.rows, "protocol_version"), ["2026-07-28"; 8]);
    held.assert_bytes_on_the_wire();
    held.rows.iter().for_each(assert_measured);
    // The rounds that are tied together by states, each by its own, are one group.
    let groups = column(&held.rows, "mrtr_group");
    assert_eq!(groups[..5], ["null"; 5], "there was no state");
    assert!(groups[5] != "null" && groups[5..].iter().all(|group| *group == groups[5]), "{groups:?}");
}

#[tokio::test]
async fn rounds_of_the_typescript_client_with_the_typescript_server() {
    rounds("conformance_ts2.mjs", "ts_client.mjs").await;
}

#[tokio::test]
async fn rounds_of_the_typescript_client_with_the_python_server() {
    rounds("conformance_py.py", "ts_client.mjs").await;
}

#[tokio::test]
async fn rounds_of_the_python_client_with_the_typescript_server() {
    rounds("conformance_ts2.mjs", "py_client.py").await;
}
