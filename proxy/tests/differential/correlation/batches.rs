//! Batches (2025-03-26): each element is a call of its own, whatever the shape of the answer.

use crate::{
    bench::Case,
    script::{client, exchange, upstream},
    wire::{LAST_CHUNK, SSE_HEAD, answer, call, json_answer, notification, post, request, result},
};
use serde_json::{Value, json};

/// Two calls whose ids differ by type only, a list, and two messages that are no calls.
fn batch() -> String {
    let elements = [
        call("1", "first"),
        call("\"1\"", "second"),
        request("2", "tools/list", "{}"),
        request("3", "ping", "{}"),
        notification("notifications/initialized", "{}"),
    ];
    format!("[{}]", elements.join(" ,\n"))
}

/// The rows of its three calls; of each what `add` says, too.
fn rows(add: impl Fn(&str) -> Value) -> Value {
    let row = |id: &str, tool: Value, index: u32, bytes: usize| {
        let mut row = json!({
            "rpc_id": id, "tool_name": tool, "batch_index": index, "batch_size": 5, "input_bytes": bytes,
            "http_request_bytes": batch().len(), "status": "ok", "match": "exact",
        });
        row.as_object_mut().expect("columns").extend(add(id).as_object().expect("columns").clone());
        row
    };
    json!([
        row("1", "first".into(), 0, call("1", "first").len()),
        row("\"1\"", "second".into(), 1, call("\"1\"", "second").len()),
        row("2", Value::Null, 2, request("2", "tools/list", "{}").len()),
    ])
}

#[tokio::test]
async fn batch_mixed() {
    let pair = format!("[{}, {}]", result("2"), result("\"1\""));
    let mut play = vec![
        client("c").sends(post("/mcp", batch())),
        upstream("c").takes(""),
        upstream("c").sends(SSE_HEAD),
    ];
    for event in [pair, result("3"), result("1")] {
        play.extend([upstream("c").sends_event(&event), client("c").gets(event)]);
    }
    play.extend([upstream("c").sends(LAST_CHUNK), client("c").gets_answer()]);
    let outcome = Case::new(play).run().await;
    outcome.assert_rows(&rows(|id| json!({ "framing": "batch_sse", "output_bytes": result(id).len() })));
}

#[tokio::test]
async fn batch_mixed_as_json_in_another_order() {
    let told = ["3", "2", "\"1\"", "1"].map(result).join(",");
    let outcome =
        Case::new(exchange("c", post("/mcp", batch()), json_answer(format!("[{told}]")))).run().await;
    outcome.assert_rows(&rows(|id| json!({ "framing": "batch_json", "output_bytes": result(id).len() })));
}

#[tokio::test]
async fn batch_mixed_with_one_answer_missing() {
    let told = ["2", "1", "3"].map(result).join(",");
    let outcome =
        Case::new(exchange("c", post("/mcp", batch()), json_answer(format!("[{told}]")))).run().await;
    let missing = json!({ "status": "upstream_error", "status_detail": "no_response", "match": "none",
                          "output_bytes": 0 });
    let mut rows = rows(|id| if id == "\"1\"" { missing.clone() } else { json!({}) });
    rows.as_array_mut().expect("rows").sort_by_key(|row| row["batch_index"].as_u64());
    outcome.assert_rows(&rows);
}

#[tokio::test]
async fn batch_mixed_with_one_error_for_all() {
    let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no batches"}}"#;
    let refusal = answer("400 Bad Request", "Content-Type: application/json\r\n", error);
    let outcome = Case::new(exchange("c", post("/mcp", batch()), refusal)).run().await;
    outcome.assert_rows(&rows(|_| {
        json!({ "status": "rpc_error", "match": "positional", "error_code": "-32600", "http_status": 400 })
    }));
}

#[tokio::test]
async fn batch_mixed_with_duplicate_ids() {
    let asked = format!("[{},{}]", call("7", "first"), call("7", "second"));
    let error = r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}"#;
    let told = json_answer(format!("[{},{error}]", result("7")));
    let outcome = Case::new(exchange("c", post("/mcp", asked), told)).run().await;
    outcome.assert_rows(&json!([
        { "tool_name": "first", "status": "ok", "match": "fifo" },
        { "tool_name": "second", "status": "rpc_error" },
    ]));
}

#[tokio::test]
async fn batch_mixed_of_nothing() {
    let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"empty"}}"#;
    let refusal = answer("400 Bad Request", "Content-Type: application/json\r\n", error);
    Case::new(exchange("c", post("/mcp", "[]"), refusal)).run().await.assert_rows(&json!([]));
}
