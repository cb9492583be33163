//! Clients that leave: behind their answer, before it, or for a while.

use super::{IN_SESSION, begin_call, end, initialize, pass};
use crate::{
    bench::Case,
    script::{client, has_recorded, upstream},
    wire::{SSE_HEAD, call, get_stream, notification, post, post_with, request, result},
};
use serde_json::json;

#[tokio::test]
async fn client_hangs_up_after_answer() {
    let mut play = initialize();
    play.extend(begin_call("call", "1", "add"));
    play.extend(pass("call", &result("1")));
    play.extend([client("call").closes(), upstream("call").sees_end()]);
    play.extend(begin_call("reset", "2", "add"));
    play.extend(pass("reset", &result("2")));
    play.extend([client("reset").resets(), upstream("reset").sees_end()]);
    let row = json!({ "status": "ok", "match": "exact", "origin": null });
    Case::new(play).run().await.assert_rows(&json!([row, row]));
}

#[tokio::test]
async fn abort_before_head() {
    // The tool would go on for long; that the server sees its client leave before it has said anything is the
    // point, and the lines wait for it.
    let modern = r#"{"name":"slow","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
    let version = "MCP-Protocol-Version: 2025-06-18\r\n";
    let asks = [
        ("modern", post("/mcp", request("1", "tools/call", modern))),
        ("older", post_with("/mcp", version, call("1", "slow"))),
    ];
    let play = asks.into_iter().flat_map(|(name, ask)| {
        [client(name).sends(ask), upstream(name).takes(""), client(name).closes(), upstream(name).sees_end()]
    });
    let outcome = Case::new(play).run().await;
    let row = |version| {
        json!({ "status": "cancelled", "status_detail": "client_left_before_head", "origin": "client",
                "client_left": true, "protocol_version": version, "http_status": null })
    };
    outcome.assert_rows(&json!([row("2026-07-28"), row("2025-06-18")]));
}

#[tokio::test]
async fn abort_before_head_of_an_upload() {
    let request = post("/mcp", call("1", "slow"));
    let half = &request[..request.len() - 10];
    let play = [
        client("c").sends(half),
        upstream("c").takes_head(""),
        upstream("c").gets("tools/call"),
        client("c").closes(),
        upstream("c").sees_end(),
    ];
    // What was read of it tells the method and not the tool.
    Case::new(play).run().await.assert_rows(&json!([]));
}

#[tokio::test]
async fn abort_before_head_by_a_half_close() {
    // hyper takes a client that ends its sending side for one that leaves; WIRE keeps that and documents it.
    let play = [
        client("c").sends(post("/mcp", call("1", "slow"))),
        upstream("c").takes(""),
        client("c").half_closes(),
        upstream("c").sees_end(),
    ];
    let outcome = Case::new(play).run().await;
    outcome.assert_rows(&json!([{ "status": "cancelled", "status_detail": "client_left_before_head" }]));
}

#[tokio::test]
async fn abort_mid_stream() {
    let mut play = initialize();
    play.extend(begin_call("call", "1", "slow"));
    play.extend(pass("call", &notification("notifications/progress", "{}")));
    play.extend([client("call").closes(), upstream("call").sees_end(), has_recorded(1)]);
    Case::new(play).run().await.assert_rows(&json!([{
        "status": "cancelled", "status_detail": "client_left_mid_stream", "client_left": true,
        "http_status": 200,
    }]));
}

#[tokio::test]
async fn abort_of_a_stream_with_event_ids_is_no_cancel() {
    let answer = format!("id: 8\ndata: {}\n\n", result("1"));
    let mut play = initialize();
    play.extend(begin_call("call", "1", "slow"));
    play.extend([
        upstream("call").sends_chunk("id: 7\ndata: \n\n"),
        client("call").gets("id: 7\ndata: \n\n"),
    ]);
    play.extend([client("call").closes(), upstream("call").sees_end(), has_recorded(0)]);
    play.extend([
        client("resumed").sends(get_stream("/mcp", &format!("{IN_SESSION}Last-Event-ID: 7\r\n"))),
        upstream("resumed").takes("Last-Event-ID"),
        upstream("resumed").sends(SSE_HEAD),
        upstream("resumed").sends_chunk(answer.clone()),
        client("resumed").gets(answer),
    ]);
    play.extend(end("resumed"));
    let outcome = Case::new(play).run().await;
    outcome.assert_rows(&json!([{ "status": "ok", "match": "exact", "output_bytes": result("1").len() }]));
}
