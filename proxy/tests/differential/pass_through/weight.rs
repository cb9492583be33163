//! Pass-through, the weight: however much flows, and however slowly, it does not stay in memory.

use crate::{
    bench::Case,
    script::{client, exchange, note_memory, upstream},
    wire::{ACCEPTED, LAST_CHUNK, SSE_HEAD, answer, call, chunk, get_stream, json_answer, post, result},
};
use serde_json::json;

/// By how much a message of any size may raise what is resident.
const GROWTH: u64 = 8_000_000;
/// Instead of the guide's 50 and 60 MB: twice what may stay, since the bench itself keeps every byte. `memory.rs` sends
/// 100 MB.
const HUGE: usize = 16 << 20;

#[tokio::test]
async fn id_last_60mb() {
    let text = "x".repeat(HUGE);
    let huge =
        format!(r#"{{"result":{{"content":[{{"type":"text","text":"{text}"}}]}},"jsonrpc":"2.0","id":"7"}}"#);
    let event = format!("data: {huge}\n\n");
    let mut play = vec![
        client("stream").sends(get_stream("/sse", "")),
        upstream("stream").takes("GET"),
        upstream("stream").sends(SSE_HEAD),
        upstream("stream").sends_chunk("event: endpoint\ndata: /messages?s=1\n\n"),
        client("stream").gets("/messages?s=1\n\n"),
    ];
    for (id, tool) in [("7", "other"), ("\"7\"", "huge"), ("8", "third")] {
        play.extend(exchange(tool, post("/messages?s=1", call(id, tool)), ACCEPTED));
    }
    play.push(note_memory());
    play.push(upstream("stream").pours(chunk(&event)));
    play.push(client("stream").gets("\"id\":\"7\"}\n\n"));
    for id in ["8", "7"] {
        play.extend([upstream("stream").sends_event(result(id)), client("stream").gets(result(id))]);
    }
    play.extend([upstream("stream").sends(LAST_CHUNK), client("stream").gets_answer()]);
    let outcome = Case::new(play).run().await;
    let row = |tool: &str, bytes: usize| json!({ "tool_name": tool, "status": "ok", "match": "exact", "output_bytes": bytes });
    let small = result("7").len();
    outcome.assert_rows(&json!([row("other", small), row("huge", huge.len()), row("third", small)]));
    assert!(outcome.growth < GROWTH, "{} bytes stayed", outcome.growth);
}

#[tokio::test]
async fn slow_client() {
    // Nothing is read at all until another client has been served, instead of 1 KB a second of 50 MB.
    let body = "x".repeat(HUGE);
    let mut play = exchange("warm", post("/mcp", call("0", "add")), json_answer(result("0")));
    play.extend([
        note_memory(),
        client("slow").connects_narrowly(),
        client("slow").sends(post("/mcp", call("1", "add"))),
        upstream("slow").takes(""),
        upstream("slow").pours(answer("200 OK", "Content-Type: text/plain\r\n", &body)),
    ]);
    for number in 0..20 {
        play.extend(exchange(format!("{number}"), post("/mcp", call("2", "add")), json_answer(result("2"))));
    }
    play.extend([client("slow").reads(), client("slow").gets_answer()]);
    let outcome = Case::new(play).run().await;
    assert_eq!(outcome.rows.len(), 22);
    assert!(outcome.growth < GROWTH, "{} bytes stayed", outcome.growth);
}
