//! Programs that people put between themselves and a server: the MCP Inspector's command line, and mcp-remote, which
//! makes a remote server look like one on stdio. They see through the proxy what they see without it, and every call is
//! a row.

use crate::support::{
    Mcpmeter,
    conversation::{Client, hold, route},
    expected_row::assert_measured,
    peer::PeerServer,
};
use serde_json::json;

async fn inspect(server: &str, era: &'static str, protocol: &str) {
    let server = PeerServer::start(server, &[]);
    let inspector =
        Client::Script { script: "inspector_client.mjs", mode: era, conversation: "brief", arguments: &[] };
    let direct = hold(&format!("http://127.0.0.1:{}/mcp", server.port), inspector).await;
    let proxy = Mcpmeter::start(&route(server.port));
    let steps = hold(&proxy.url("/peer/mcp"), inspector).await;
    assert_eq!(steps, direct, "through the proxy as directly");
    let rows = proxy.stop().await;
    rows.iter().for_each(assert_measured);
    for row in &rows {
        assert_eq!(row["protocol_version"], protocol, "{row:#}");
        assert_eq!(row["transport_type"], "STREAMABLE_HTTPS", "{row:#}");
        assert_eq!(row["session_hash"].is_string(), era == "legacy", "{row:#}");
    }
    // It lists the tools before it calls one.
    let called: Vec<_> = rows.iter().filter(|row| row["method"] == "tools/call").collect();
    assert_eq!((called.len(), rows.len() > called.len()), (2, true), "{rows:#?}");
    assert_eq!((&called[0]["tool_name"], &called[0]["status"]), (&json!("add"), &json!("ok")));
    assert_eq!((&called[1]["tool_name"], &called[1]["status"]), (&json!("fail"), &json!("tool_error")));
}

#[tokio::test]
async fn the_inspector_by_default() {
    inspect("py1_server.py", "legacy", "2025-11-25").await;
}

#[tokio::test]
async fn the_inspector_at_2026_07_28() {
    inspect("ts_server.mjs", "modern", "2026-07-28").await;
}

#[tokio::test]
async fn mcp_remote() {
    let server = PeerServer::start("py_server.py", &[]);
    let remote =
        Client::Script { script: "ts_client.mjs", mode: "remote", conversation: "brief", arguments: &[] };
    let direct = hold(&format!("http://127.0.0.1:{}/mcp", server.port), remote).await;
    let proxy = Mcpmeter::start(&route(server.port));
    let steps = hold(&proxy.url("/peer/mcp"), remote).await;
    assert_eq!(steps, direct, "through the proxy as directly");
    let rows = proxy.stop().await;
    rows.iter().for_each(assert_measured);
    let outcomes: Vec<_> =
        rows.iter().map(|row| (row["tool_name"].as_str(), row["status"].as_str())).collect();
    let (ok, failed) = (Some("ok"), Some("tool_error"));
    assert_eq!(outcomes, [(None, ok), (Some("add"), ok), (Some("fail"), failed)]);
    for row in &rows {
        assert_eq!(row["protocol_version"], "2025-11-25", "{row:#}");
        assert_eq!(row["session_hash"], rows[0]["session_hash"], "{row:#}");
        let name = row["client_name"].as_str().expect("it names itself");
        assert!(name.contains("ts-peer") && name.contains("mcp-remote"), "{name}");
    }
}
