//! What several exchanges of one session have in common: polling, resuming, deleting, cancelling.

use super::{IN_SESSION, begin_call, end, initialize, pass, tell};
use crate::{
    bench::Case,
    script::{Line, client, exchange, has_recorded, upstream},
    wire::{
        SSE_HEAD, answer, call, delete, get_stream, json_answer, notification, post, post_with, request,
        result,
    },
};
use serde_json::json;

/// The first event of a stream that can be resumed.
const PRIMING: &str = "id: 0\nretry: 200\ndata: \n\n";

/// A call whose stream the server primes with the event id 0 and closes before the answer.
fn begin_polled_call(name: &'static str, id: &str, tool: &str) -> Vec<Line> {
    let mut lines = begin_call(name, id, tool);
    lines.extend([upstream(name).sends_chunk(PRIMING), client(name).gets(PRIMING)]);
    lines.extend(end(name));
    lines
}

/// The client resumes behind the event 0; the server sends this and leaves the stream open.
fn resume(name: &'static str, event: &str) -> Vec<Line> {
    vec![
        client(name).sends(get_stream("/mcp", &format!("{IN_SESSION}Last-Event-ID: 0\r\n"))),
        upstream(name).takes("Last-Event-ID"),
        upstream(name).sends(SSE_HEAD),
        upstream(name).sends_chunk(event),
        client(name).gets(event),
    ]
}

/// The client leaves the stream, and the server sees it: otherwise it would answer the next resumption with 409.
fn leave(name: &'static str) -> [Line; 2] {
    [client(name).closes(), upstream(name).sees_end()]
}

/// A call that is polled once, answered on the resumed stream, and has its answer sent once more.
fn polled_play() -> Vec<Line> {
    let answer = format!("id: 1\ndata: {}\n\n", result("1"));
    let mut play = initialize();
    // The stream of the server's own, which used the id 0 as well.
    play.extend([
        client("stream").sends(get_stream("/mcp", IN_SESSION)),
        upstream("stream").takes("GET"),
        upstream("stream").sends(SSE_HEAD),
        upstream("stream").sends_chunk(PRIMING),
        client("stream").gets(PRIMING),
    ]);
    play.extend(begin_polled_call("call", "1", "add"));
    play.extend(leave("stream"));
    play.push(has_recorded(0));
    play.extend(resume("resumed", &answer));
    play.push(has_recorded(1));
    play.extend(leave("resumed"));
    play.extend(resume("again", &answer));
    play.extend(leave("again"));
    play
}

#[tokio::test]
async fn poll_and_resume() {
    let outcome = Case::new(polled_play()).run().await;
    outcome.assert_rows(&json!([{
        "tool_name": "add", "status": "ok", "match": "exact", "framing": "sse", "client_left": false,
        "output_bytes": result("1").len(), "protocol_version": "2025-11-25",
    }]));
    let row = &outcome.rows[0];
    assert!(row["duration_ms"].as_f64() > row["ttfb_ms"].as_f64(), "from the POST to the answer: {row:#}");
    // A stored row is not touched again: what was sent once more is counted beside it.
    let shown = String::from_utf8_lossy(&outcome.left);
    let counted = shown.lines().find(|line| line.starts_with("mcpmeter_redelivered_answers_total{"));
    assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{counted:?}");
}

#[tokio::test]
async fn poll_and_resume_of_the_older_of_two_streams_with_one_event_id() {
    let mut play = initialize();
    play.extend(begin_polled_call("older", "1", "the older"));
    play.extend(begin_polled_call("newer", "2", "the newer"));
    play.extend(resume("of older", &format!("id: 1\ndata: {}\n\n", result("1"))));
    play.extend(leave("of older"));
    let failure = r#"{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":"no"}}"#;
    play.extend(resume("of newer", &format!("id: 1\ndata: {failure}\n\n")));
    play.extend(leave("of newer"));
    Case::new(play).run().await.assert_rows(&json!([
        { "tool_name": "the older", "status": "ok", "match": "exact" },
        { "tool_name": "the newer", "status": "rpc_error", "match": "exact" },
    ]));
}

#[tokio::test]
async fn sse_end_no_event_id() {
    let mut play = initialize();
    play.extend(begin_call("call", "1", "add"));
    play.extend(pass("call", &notification("notifications/progress", "{}")));
    play.extend(end("call"));
    // At once: it does not wait for a stream that nobody can resume.
    play.push(has_recorded(1));
    Case::new(play).run().await.assert_rows(&json!([{
        "status": "upstream_error", "status_detail": "no_response", "origin": "upstream", "match": "none",
    }]));
}

#[tokio::test]
async fn detached_then_delete() {
    let mut play = initialize();
    play.extend(begin_polled_call("call", "1", "add"));
    play.push(has_recorded(0));
    play.extend(exchange("delete", delete("/mcp", IN_SESSION), answer("200 OK", "", "")));
    play.push(has_recorded(1));
    let row = json!({ "status": "cancelled", "status_detail": "session_ended", "origin": "client" });
    Case::new(play).run().await.assert_rows(&json!([row]));
}

#[tokio::test]
async fn cancel_race() {
    let mut play = initialize();
    play.extend(begin_call("call", "1", "add"));
    play.extend(tell(
        "cancel",
        notification("notifications/cancelled", r#"{"requestId":1,"reason":"late"}"#),
    ));
    play.extend(pass("call", &result("1")));
    play.extend(end("call"));
    let outcome = Case::new(play).run().await;
    outcome.assert_rows(&json!([{ "status": "ok", "cancel_requested": true, "error_message": null }]));
}

#[tokio::test]
async fn cancel_type_sensitive() {
    let mut play = initialize();
    play.extend(begin_call("call", "5", "add"));
    play.extend(tell("cancel", notification("notifications/cancelled", r#"{"requestId":"5"}"#)));
    play.extend(pass("call", &result("5")));
    play.extend(end("call"));
    let outcome = Case::new(play).run().await;
    outcome.assert_rows(&json!([{ "status": "ok", "cancel_requested": false }]));
}

#[tokio::test]
async fn session_404_reinit() {
    let lost = answer("404 Not Found", "Content-Type: text/plain\r\n", "session not found");
    let mut play = initialize();
    play.extend(exchange("lost", post_with("/mcp", IN_SESSION, call("1", "add")), lost));
    let asked = request("0", "initialize", r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#);
    let told = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}"#;
    let headers = "Content-Type: application/json\r\nMcp-Session-Id: s-2\r\n";
    play.extend(exchange("again", post("/mcp", asked), answer("200 OK", headers, told)));
    let resent = post_with("/mcp", "Mcp-Session-Id: s-2\r\n", call("1", "add"));
    play.extend(exchange("resent", resent, json_answer(result("1"))));
    let outcome = Case::new(play).run().await;
    outcome.assert_rows(&json!([
        { "status": "http_error", "status_detail": "session_lost", "http_status": 404 },
        { "status": "ok", "protocol_version": "2025-11-25" },
    ]));
    assert_ne!(outcome.rows[0]["session_hash"], outcome.rows[1]["session_hash"]);
}

#[tokio::test]
async fn version_from_result() {
    let params = r#"{"protocolVersion":"2026-07-28","clientInfo":{"name":"asker","version":"7"}}"#;
    let told = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}"#;
    let headers = "Content-Type: application/json\r\nMcp-Session-Id: s-1\r\n";
    let asked = request("0", "initialize", params);
    let mut play = exchange("initialize", post("/mcp", asked), answer("200 OK", headers, told));
    let first = post_with("/mcp", "Mcp-Session-Id: s-1\r\n", call("1", "add"));
    play.extend(exchange("call", first, json_answer(result("1"))));
    Case::new(play).run().await.assert_rows(&json!([{
        "protocol_version": "2025-11-25", "client_name": "asker", "client_version": "7", "status": "ok",
    }]));
}
