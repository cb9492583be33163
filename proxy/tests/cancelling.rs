//! Real clients that do not wait for the answer: they cancel, leave, or are killed. One row each, with every
//! column.

use crate::support::{
    Mcpmeter,
    conversation::{on_route, route},
    eventually,
    expected_row::{ExpectedRow, assert_rows},
    peer::{self, PeerServer},
    rmcp_client::{self, Counting, Era},
    rmcp_server::{RmcpServer, RmcpServerOptions},
    wire_tap::WireTap,
};
use rmcp::{
    RoleClient,
    model::{CallToolRequest, CallToolRequestParams, ClientRequest},
    service::{PeerRequestOptions, RequestHandle, RunningService},
};
use serde_json::{Value, json};

/// A call of rmcp's client that has reported progress and would go on for ten seconds.
struct Underway {
    _server: RmcpServer,
    proxy: Mcpmeter,
    client: RunningService<RoleClient, Counting>,
    call: RequestHandle<RoleClient>,
}

impl Underway {
    async fn begin(sessions: bool, era: Era) -> Self {
        let server = RmcpServer::start(RmcpServerOptions { json_response: false, sessions }).await;
        let proxy = Mcpmeter::start(&route(server.address().port()));
        let (client, mut progress) = rmcp_client::connect(&proxy.url("/peer/mcp"), era, &[]).await;
        let arguments = json!({ "steps": 500 }).as_object().cloned().expect("an object");
        let params = CallToolRequestParams::new("slow").with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let options = PeerRequestOptions::no_options();
        let call = client.peer().send_cancellable_request(request, options).await.expect("sent");
        progress.wait_for(|count| *count > 0).await.expect("the client is there");
        Self { _server: server, proxy, client, call }
    }
}

/// A call of the tool `slow` to which no answer came.
fn unanswered(detail: &str) -> ExpectedRow {
    ExpectedRow {
        status: "cancelled".into(),
        status_detail: Some(detail.into()),
        origin: Some("client".into()),
        rpc_id: Some("1".into()),
        ..on_route().call("slow").unanswered()
    }
}

fn of_rmcp(protocol: &str, row: ExpectedRow) -> ExpectedRow {
    ExpectedRow {
        protocol_version: Some(protocol.into()),
        client_name: Some("rmcp-peer".into()),
        client_version: Some("1.0.0".into()),
        ..row
    }
}

#[tokio::test]
async fn a_cancelled_call_in_a_session_is_a_cancelled_row() {
    let Underway { _server, proxy, client, call } = Underway::begin(true, Era::Initialize).await;
    call.cancel(Some("enough".into())).await.expect("sent");
    let rows = proxy.wait_for_rows(1).await;
    let row = ExpectedRow {
        cancel_requested: true,
        // Once it has heard of the cancellation the server closes the stream, and so does the client.
        client_left: rows[0]["client_left"] == true,
        session: Some("the only"),
        // The reason that the client gave.
        error_message: Some("enough".into()),
        ..unanswered("cancel_notified")
    };
    assert_rows(&rows, &[of_rmcp("2025-11-25", row)]);
    client.cancel().await.expect("no panic");
    assert_eq!(proxy.stop().await, rows, "a session that ends afterwards adds nothing");
}

#[tokio::test]
async fn a_cancelled_call_without_a_session_is_a_cancelled_row_if_no_other_could_be_meant() {
    let Underway { _server, proxy, client, call } = Underway::begin(false, Era::Initialize).await;
    call.cancel(Some("enough".into())).await.expect("sent");
    let rows = proxy.wait_for_rows(1).await;
    // It is the only call with this id by anyone with these credentials at this address. The client closes the call's
    // stream, too, once the notification is sent.
    let row = ExpectedRow {
        cancel_requested: true,
        client_left: true,
        protocol_version: Some("2025-11-25".into()),
        error_message: Some("enough".into()),
        ..unanswered("cancel_notified")
    };
    assert_rows(&rows, &[row]);
    client.cancel().await.expect("no panic");
    assert_eq!(proxy.stop().await, rows);
}

#[tokio::test]
async fn closing_the_stream_is_how_a_call_is_cancelled_at_2026_07_28() {
    let Underway { _server, proxy, client, call } = Underway::begin(true, Era::Discover).await;
    call.cancel(None).await.expect("closed");
    let rows = proxy.wait_for_rows(1).await;
    let row = ExpectedRow { client_left: true, ..unanswered("client_left_mid_stream") };
    assert_rows(&rows, &[of_rmcp("2026-07-28", row)]);
    client.cancel().await.expect("no panic");
    assert_eq!(proxy.stop().await, rows);
}

#[tokio::test]
async fn a_client_that_ends_its_session_leaves_its_call() {
    let Underway { _server, proxy, client, call } = Underway::begin(true, Era::Initialize).await;
    // It closes the call's stream, which could be resumed, and deletes the session; in either order.
    client.cancel().await.expect("no panic");
    let rows = proxy.wait_for_rows(1).await;
    let row = ExpectedRow {
        // False if the server is quicker to close the streams of the session that it was told to delete.
        client_left: rows[0]["client_left"] == true,
        session: Some("the only"),
        ..unanswered("session_ended")
    };
    assert_rows(&rows, &[of_rmcp("2025-11-25", row)]);
    assert!(rows[0]["first_event_ms"].is_number(), "it had seen progress: {:#}", rows[0]);
    drop(call);
    assert_eq!(proxy.stop().await, rows);
}

/// Kills a client of the TypeScript SDK when its call has come to the server, and gives the rows: of its
/// `tools/list`, and of that call.
async fn kill_mid_call(server: &PeerServer, path: &str, mode: &str) -> Vec<Value> {
    let tap = WireTap::start(server.port).await;
    let proxy = Mcpmeter::start(&route(tap.port));
    let call = json!({ "tool": "slow", "arguments": { "steps": 500 }, "outcomes": ["ok"] });
    let conversation = json!({ "tools": ["slow"], "calls": [call] }).to_string();
    let url = proxy.url(&format!("/peer{path}"));
    let mut client = peer::spawn("ts_client.mjs", &[&url, mode, "--conversation", &conversation]);
    eventually("the call (scripts/setup-tests installs its client)", || tap.calls().len() == 2).await;
    client.kill().await.expect("it runs");
    let rows = proxy.wait_for_rows(2).await;
    assert_eq!(proxy.stop().await, rows);
    rows
}

fn of_typescript(protocol: &str, id: u64, row: ExpectedRow) -> ExpectedRow {
    ExpectedRow {
        protocol_version: Some(protocol.into()),
        user_agent: Some("node".into()),
        client_name: Some("ts-peer".into()),
        client_version: Some("1.0.0".into()),
        rpc_id: Some(id.to_string()),
        ..row
    }
}

#[tokio::test]
async fn a_client_killed_before_the_head_of_its_answer_leaves_a_cancelled_row() {
    // In plain JSON, the head comes with the answer.
    let server = PeerServer::start("ts_server.mjs", &["--json"]);
    let rows = kill_mid_call(&server, "/mcp", "modern").await;
    let list = ExpectedRow { framing: Some("json"), tool_count: Some(4), ..on_route() };
    let call = ExpectedRow { http_status: None, client_left: true, ..unanswered("client_left_before_head") };
    assert_rows(&rows, &[of_typescript("2026-07-28", 0, list), of_typescript("2026-07-28", 1, call)]);
}

#[tokio::test]
async fn a_killed_client_of_the_old_transport_ends_its_session_and_the_call_in_it() {
    let server = PeerServer::start("py_server.py", &["--transport", "sse"]);
    let rows = kill_mid_call(&server, "/sse", "sse").await;
    let legacy = |row| ExpectedRow {
        transport_type: "SSE",
        client_transport: "SSE",
        session: Some("the announced endpoint"),
        ..row
    };
    let list = legacy(ExpectedRow { tool_count: Some(4), ..on_route() });
    let call = legacy(ExpectedRow { client_left: true, ..unanswered("session_ended") });
    assert_rows(&rows, &[of_typescript("2025-11-25", 1, list), of_typescript("2025-11-25", 2, call)]);
}
