//! explore
use crate::support::{conversation::{Client, hold_twice}, peer::PeerServer};

#[tokio::test]
async fn explore() {
    let agent: &[&str] = &["--user-agent", "x/1"];
    for (server, args, path, script, mode, conversation) in [
        ("everything.mjs", &["streamableHttp"][..], "/mcp", "ts_client.mjs", "streamable", "everything"),
        ("everything.mjs", &["sse"], "/sse", "ts_client.mjs", "sse", "everything"),
        ("everything.mjs", &["streamableHttp"], "/mcp", "py_client.py", "streamable", "everything"),
        ("everything.mjs", &["sse"], "/sse", "py_client.py", "sse", "everything"),
        ("ts_server.mjs", &[], "/mcp", "ts_client.mjs", "modern", "fixture"),
        ("ts_server.mjs", &["--json"], "/mcp", "ts_client.mjs", "modern", "fixture"),
        ("ts_server.mjs", &["--modern-only"], "/mcp", "ts_client.mjs", "auto", "fixture"),
        ("ts_server.mjs", &[], "/mcp", "ts_client.mjs", "streamable", "fixture"),
        ("ts_server.mjs", &[], "/mcp", "py_client.py", "modern", "fixture"),
        ("py_server.py", &[], "/mcp", "py_client.py", "streamable", "fixture"),
        ("py_server.py", &[], "/mcp", "py_client.py", "modern", "fixture"),
        ("py_server.py", &["--json"], "/mcp", "py_client.py", "streamable", "fixture"),
        ("py_server.py", &["--json"], "/mcp", "py_client.py", "modern", "fixture"),
        ("py_server.py", &["--stateless"], "/mcp", "py_client.py", "streamable", "fixture"),
        ("py_server.py", &["--json", "--stateless"], "/mcp", "py_client.py", "streamable", "fixture"),
        ("py_server.py", &["--transport", "sse"], "/sse", "py_client.py", "sse", "fixture"),
        ("py_server.py", &[], "/mcp", "ts_client.mjs", "streamable", "fixture"),
        ("py_server.py", &[], "/mcp", "ts_client.mjs", "modern", "fixture"),
        ("py_server.py", &["--transport", "sse"], "/sse", "ts_client.mjs", "sse", "fixture"),
        ("py_server.py", &[], "/mcp", "py_client.py", "auto", "fixture"),
        ("everything.mjs", &["streamableHttp"], "/mcp", "ts_client.mjs", "auto", "everything"),
    ] {
        println!("===== {server} {args:?} {script} {mode}");
        let server = PeerServer::start(server, args);
        let _ = agent;
        let held = hold_twice(&server, path, Client { script, mode, conversation, arguments: &[] }).await;
        for row in &held.rows {
            let mut r = row.as_object().unwrap().clone();
            r.retain(|k, v| !v.is_null() && !["id","created_at","completed_at","latency_bucket","mcp_server_instance_id","user_id","organization_id","client_ip"].contains(&k.as_str()) && v != &serde_json::json!(false));
            println!("{}", serde_json::to_string(&r).unwrap());
            crate::support::expected_row::assert_measured(row);
        }
    }
}
