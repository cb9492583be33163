//! Real peers with much to say: 5 MiB both ways, and 200 calls at once on one session.

use crate::support::{
    conversation::{Client, Held, hold_twice},
    expected_row::assert_measured,
    peer::PeerServer,
};
use std::collections::HashSet;

const FIVE_MIB: u64 = 5 << 20;

async fn talk(server: &str, script: &'static str, mode: &'static str, conversation: &'static str) -> Held {
    let server = PeerServer::start(server, &[]);
    hold_twice(server.port, "/mcp", Client::Script { script, mode, conversation, arguments: &[] }).await
}

async fn large(server: &str, script: &'static str, mode: &'static str) {
    let held = talk(server, script, mode, "large").await;
    let row = &held.rows[1];
    assert_eq!(row["status"], "ok", "{row:#}");
    for column in ["input_bytes", "output_bytes", "http_request_bytes", "http_response_bytes"] {
        assert!(row[column].as_u64().is_some_and(|bytes| bytes > FIVE_MIB), "{row:#}");
    }
    held.assert_bytes_on_the_wire();
    held.rows.iter().for_each(assert_measured);
}

/// The client checks that each call got its own answer.
async fn parallel(server: &str, script: &'static str, mode: &'static str) {
    let held = talk(server, script, mode, "parallel").await;
    assert_eq!(held.rows.len(), 201, "one tools/list and 200 calls");
    held.assert_bytes_on_the_wire();
    held.rows.iter().for_each(assert_measured);
    let distinct = |column: &str| held.rows.iter().map(|row| row[column].to_string()).collect::<HashSet<_>>();
    assert_eq!(distinct("status"), HashSet::from([r#""ok""#.to_owned()]));
    assert_eq!(distinct("match"), HashSet::from([r#""exact""#.to_owned()]));
    assert_eq!((distinct("rpc_id").len(), distinct("session_hash").len()), (201, 1));
}

#[tokio::test]
async fn five_mib_between_the_typescript_client_1_and_the_python_server() {
    large("py_server.py", "ts_client.mjs", "streamable").await;
}

#[tokio::test]
async fn five_mib_between_the_python_client_and_server_at_2026_07_28() {
    large("py_server.py", "py_client.py", "modern").await;
}

#[tokio::test]
async fn parallel_calls_of_the_typescript_client_1_on_one_session() {
    parallel("py_server.py", "ts_client.mjs", "streamable").await;
}

#[tokio::test]
async fn parallel_calls_of_the_typescript_client_2() {
    parallel("ts_server.mjs", "ts_client.mjs", "modern").await;
}

#[tokio::test]
async fn parallel_calls_of_the_python_client_on_one_session() {
    parallel("py_server.py", "py_client.py", "streamable").await;
}

#[tokio::test]
async fn parallel_calls_of_the_python_client_1_on_one_session() {
    parallel("py1_server.py", "py1_client.py", "streamable").await;
}
