//! Revision 2026-07-28: everything is one POST, without sessions, and what is not finished comes back in another one.

use crate::{
    bench::Case,
    script::{Line, client, exchange, pause, server_comes_up, upstream},
    wire::{LAST_CHUNK, SSE_HEAD, answer, call, json_answer, notification, post_with, request, result},
};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};

/// A request of this revision: its headers say what its body says.
fn post_modern(id: &str, method: &str, name: &str, params: &str) -> Vec<u8> {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    let headers = format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{name}");
    post_with("/mcp", &headers, request(id, method, &format!("{{{params}{meta}}}")))
}

/// A call of the tool `add` with further parameters, each with its comma.
fn post_call(id: &str, params: &str) -> Vec<u8> {
    post_modern(id, "tools/call", "Mcp-Name: add\r\n", &format!(r#""name":"add",{params}"#))
}

/// An answer of JSON with this result.
fn told(id: &str, result: &str) -> Vec<u8> {
    json_answer(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}

#[tokio::test]
async fn mrtr_rounds() {
    let asking = |state: &str| {
        format!(r#"{{"resultType":"input_required","inputRequests":{{}},"requestState":"{state}"}}"#)
    };
    let again = |state: &str| format!(r#""inputResponses":{{}},"requestState":"{state}","#);
    let state = "a-state-that-nobody-may-see";
    let mut play = exchange("first", post_call("1", ""), told("1", &asking(state)));
    play.extend(exchange("second", post_call("2", &again(state)), told("2", &asking(state))));
    play.extend(exchange("third", post_call("3", &again(state)), told("3", r#"{"content":[]}"#)));
    let outcome = Case::new(play).run().await;
    let row = |status| json!({ "tool_name": "add", "status": status, "origin": null, "session_hash": null });
    outcome.assert_rows(&json!([row("input_required"), row("input_required"), row("ok")]));
    let groups = outcome.rows.iter().map(|row| row["mrtr_group"].as_str().expect("one group"));
    assert_eq!(groups.collect::<BTreeSet<_>>().len(), 1);
    assert!(!outcome.has_kept(state), "the state is kept");
}

#[tokio::test]
async fn mrtr_rounds_with_a_state_for_each() {
    let asking = |state: &str| format!(r#"{{"resultType":"input_required","requestState":"{state}"}}"#);
    let again = |state: &str| format!(r#""inputResponses":{{}},"requestState":"{state}","#);
    let mut play = exchange("first", post_call("1", ""), told("1", &asking("one")));
    play.extend(exchange("second", post_call("2", &again("one")), told("2", &asking("two"))));
    play.extend(exchange("third", post_call("3", &again("two")), told("3", r#"{"content":[]}"#)));
    let outcome = Case::new(play).run().await;
    let groups = outcome.rows.iter().map(|row| row["mrtr_group"].as_str().expect("one group"));
    assert_eq!(groups.collect::<BTreeSet<_>>().len(), 1);
}

/// A task that is created by a call, asked for three times, and ends in a tool's error.
fn task_play() -> Vec<Line> {
    let created = r#"{"resultType":"task","taskId":"a-task-id","status":"working"}"#;
    let ended = r#"{"resultType":"complete","taskId":"a-task-id","status":"completed",
                    "result":{"isError":true,"content":[{"type":"text","text":"it broke"}]}}"#;
    let mut play = exchange("create", post_call("1", ""), told("1", created));
    let get = |id: &str| post_modern(id, "tasks/get", "Mcp-Name: a-task-id\r\n", r#""taskId":"a-task-id","#);
    // As two examples of SEP-2663 have it: a task's state that calls itself a task.
    for id in ["2", "3", "4"] {
        play.extend(exchange(format!("get {id}"), get(id), told(id, created)));
    }
    play.extend(exchange("end", get("5"), told("5", ended)));
    play
}

#[tokio::test]
async fn task_ext() {
    // A task that is asked for is no other one, whatever its state calls itself.
    let outcome = Case::new(task_play()).run().await;
    outcome.assert_rows(&json!([
        { "tool_name": "add", "rpc_id": "1", "status": "task_created", "origin": null },
        { "tool_name": "add", "status": "tool_error", "status_detail": "task_end",
          "task_hash": outcome.rows[0]["task_hash"], "error_message": "it broke" },
    ]));
    assert!(outcome.rows[0]["task_hash"].is_string() && !outcome.has_kept("a-task-id"));
}

/// A task of the older design, whose result is waited for and is an error.
fn older_task_play() -> Vec<Line> {
    let version = "MCP-Protocol-Version: 2025-11-25\r\n";
    let asked = request("1", "tools/call", r#"{"name":"add","task":{"ttl":60000}}"#);
    let created = r#"{"task":{"taskId":"a-task-id","status":"working","createdAt":"x"}}"#;
    let mut play = exchange("create", post_with("/mcp", version, asked), told("1", created));
    let awaited = request("2", "tasks/result", r#"{"taskId":"a-task-id"}"#);
    let error = r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"it broke"}}"#;
    play.extend([
        client("result").sends(post_with("/mcp", version, awaited)),
        upstream("result").takes("tasks/result"),
        upstream("result").sends(SSE_HEAD),
        upstream("result").sends_chunk(": still at it\n\n"),
        client("result").gets(": still at it\n\n"),
        upstream("result").sends_event(error),
        upstream("result").sends(LAST_CHUNK),
        client("result").gets_answer(),
    ]);
    play
}

#[tokio::test]
async fn task_2025_11() {
    let outcome = Case::new(older_task_play()).run().await;
    outcome.assert_rows(&json!([
        { "status": "task_created", "tool_name": "add", "protocol_version": "2025-11-25" },
        { "status": "rpc_error", "status_detail": "task_end", "error_code": "-32603",
          "task_hash": outcome.rows[0]["task_hash"], "error_message": "it broke" },
    ]));
    assert!(outcome.rows[0]["task_hash"].is_string() && !outcome.has_kept("a-task-id"));
}

#[tokio::test]
async fn listen_long() {
    // Five seconds instead of ten minutes: longer than everything that the program does now and then to connections
    // that wait for a request (4 s, looked at every second), which this one is not.
    let acknowledged = notification("notifications/subscriptions/acknowledged", "{}");
    let mut play = vec![
        client("c").sends(post_modern("5", "subscriptions/listen", "", "")),
        upstream("c").takes(""),
        upstream("c").sends(SSE_HEAD),
        upstream("c").sends_event(&acknowledged),
        client("c").gets(acknowledged),
    ];
    for number in 0..40 {
        if number == 20 {
            play.push(pause(Duration::from_secs(5)));
        }
        let comment = format!(": {number} is no more than a sign of life\n\n");
        play.extend([upstream("c").sends_chunk(comment.clone()), client("c").gets(comment)]);
    }
    play.extend([client("c").closes(), upstream("c").sees_end()]);
    Case::new(play).run().await.assert_rows(&json!([]));
}

#[tokio::test]
async fn mcp_name_base64() {
    let named = |name: &str, tool: &str| {
        let headers = format!("Mcp-Method: tools/call\r\nMcp-Name: {name}\r\n");
        post_with("/mcp", &headers, call("1", tool))
    };
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32020,"message":"header mismatch"}}"#;
    let refusal = answer("400 Bad Request", "Content-Type: application/json\r\n", error);
    let mut play = exchange("encoded", named("=?base64?w6TDtsO8?=", "äöü"), json_answer(result("1")));
    play.extend(exchange("other", named("other", "add"), refusal.clone()));
    play.extend(exchange("other encoded", named("=?base64?w6TDtsO8?=", "add"), refusal));
    let mismatch = json!({
        "tool_name": "add", "status": "rpc_error", "error_code": "-32020", "http_status": 400,
        "header_mismatch": true,
    });
    Case::new(play).run().await.assert_rows(&json!([
        { "tool_name": "äöü", "status": "ok", "header_mismatch": false }, mismatch, mismatch,
    ]));
}

#[tokio::test]
async fn dup_routing_header_not_added() {
    let outcome = Case::new(exchange("c", post_call("1", ""), told("1", "{}"))).run().await;
    for name in ["mcp-method", "mcp-name", "mcp-protocol-version"] {
        assert_eq!(outcome.proxied.request("c").values(name).len(), 1, "{name}");
    }
    outcome.assert_rows(&json!([{ "status": "ok", "protocol_version": "2026-07-28" }]));
}

#[tokio::test]
async fn unreachable_does_not_downgrade() {
    // What clients make of it is for their SDKs' tests; this is what keeps them from falling back: not a 400, 404,
    // 405 or 500, and nothing that could be the server's own word.
    let mut play = vec![
        client("down").sends(post_modern("1", "server/discover", "", "")),
        client("down").gets_answer(),
        client("down").sends(post_call("2", "")),
        client("down").gets_answer(),
        server_comes_up(),
    ];
    play.extend(exchange("up", post_call("3", ""), told("3", "{}")));
    let outcome = Case::new(play).with_server_down().run_proxied().await;
    for answer in outcome.proxied.answers().take(2) {
        assert_eq!(answer.status(), 502);
        assert!(answer.values("content-type")[0].starts_with("text/plain"), "{}", answer.brief());
        assert_eq!(answer.values("proxy-status"), ["mcpmeter; error=connection_refused"]);
        assert!(!answer.text().contains("jsonrpc"));
    }
    outcome.assert_rows(&json!([
        { "status": "upstream_error", "status_detail": "unreachable", "origin": "upstream",
          "error_code": "connect_refused", "http_status": 502, "tool_name": "add" },
        { "status": "ok" },
    ]));
}
