//! Pass-through, the flow: nothing waits for more, and every ending is carried over as what it is.

use crate::{
    bench::Case,
    inbox::Message,
    script::{Line, client, exchange, server_comes_up, upstream},
    wire::{ACCEPTED, LAST_CHUNK, SSE_HEAD, answer, call, chunk, json_answer, notification, post, result},
};
use serde_json::json;
use std::io::Write;

/// A stream's pieces in a coding, each flushed as a server would.
fn encode(coding: &str, events: &[String]) -> Vec<Vec<u8>> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            let mut pieces: Vec<_> = events
                .iter()
                .map(|event| {
                    encoder.write_all(event.as_bytes()).and_then(|()| encoder.flush()).expect("into memory");
                    std::mem::take(encoder.get_mut())
                })
                .collect();
            pieces.push(encoder.finish().expect("into memory"));
            pieces
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            let mut pieces: Vec<_> = events
                .iter()
                .map(|event| {
                    encoder.write_all(event.as_bytes()).and_then(|()| encoder.flush()).expect("into memory");
                    std::mem::take(encoder.get_mut())
                })
                .collect();
            pieces.push(encoder.into_inner());
            pieces
        }
        "zstd" => {
            let mut encoder = zstd_safe::CCtx::create();
            let mut encode = |event: &[u8], end| {
                let mut piece = vec![0; 4096];
                let mut out = zstd_safe::OutBuffer::around(piece.as_mut_slice());
                let mut input = zstd_safe::InBuffer::around(event);
                let left = encoder.compress_stream2(&mut out, &mut input, end).expect("room");
                assert_eq!(left, 0, "there was room for all of it");
                out.as_slice().to_vec()
            };
            let flush = zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_flush;
            let end = zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_end;
            let mut pieces: Vec<_> = events.iter().map(|event| encode(event.as_bytes(), flush)).collect();
            pieces.push(encode(b"", end));
            pieces
        }
        _ => events.iter().map(|event| event.bytes().map(|byte| byte ^ 0x55).collect()).collect(),
    }
}

#[tokio::test]
async fn gzip_sse_live() {
    // Step by step instead of a second apart: a piece that were held back would end the play.
    let progress = notification("notifications/progress", r#"{"progressToken":1,"progress":1}"#);
    let mut events = vec![format!("data: {progress}\n\n"); 6];
    events.push(format!("data: {}\n\n", result("1")));
    let play = ["gzip", "br", "zstd", "x-own"].into_iter().flat_map(|coding| {
        let head = SSE_HEAD.replace("\r\n\r\n", &format!("\r\nContent-Encoding: {coding}\r\n\r\n"));
        let mut lines = vec![
            client(coding).sends(post("/mcp", call("1", "add"))),
            upstream(coding).takes(""),
            upstream(coding).sends(head),
        ];
        for piece in encode(coding, &events).into_iter().filter(|piece| !piece.is_empty()) {
            lines.extend([upstream(coding).sends_chunk(piece.clone()), client(coding).gets(piece)]);
        }
        lines.extend([upstream(coding).sends(LAST_CHUNK), client(coding).gets_answer()]);
        lines
    });
    let outcome = Case::new(play).run().await;
    let read = json!({ "status": "ok", "match": "exact", "output_bytes": result("1").len() });
    let unread = json!({ "status": "ok", "status_detail": "unread", "output_bytes": 0 });
    outcome.assert_rows(&json!([read, read, read, unread]));
    for row in &outcome.rows[..3] {
        assert!(row["first_event_ms"].as_f64() < row["duration_ms"].as_f64(), "{row:#}");
        assert!(row["first_event_ms"].is_number(), "progress is seen: {row:#}");
    }
    assert_eq!(outcome.rows[3]["http_response_bytes"], outcome.proxied.answer("x-own").body.len());
}

#[tokio::test]
async fn expect_100() {
    let body = format!("{{\"filler\":\"{}\"}}", "x".repeat(2 << 20));
    let head = format!(
        "POST {{prefix}}/mcp HTTP/1.1\r\nHost: {{host}}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let invited = Case::new([
        client("c").sends(head.clone()),
        upstream("c").takes_head(""),
        upstream("c").sends("HTTP/1.1 100 Continue\r\n\r\n"),
        client("c").gets_answer(),
        client("c").sends(body),
        upstream("c").gets_all(),
        upstream("c").sends(ACCEPTED),
        client("c").gets_answer(),
    ]);
    let seen = invited.run().await.proxied;
    let statuses: Vec<_> = seen.answers().map(Message::status).collect();
    assert_eq!((statuses, seen.request("c").values("expect").len()), (vec![100, 202], 0));
    // Nobody is invited to upload into nothing.
    let dead = Case::new([client("c").sends(head), client("c").gets_answer()]).with_server_down();
    assert_eq!(dead.run_proxied().await.proxied.answer("c").status(), 502);
}

#[tokio::test]
async fn upload_streams() {
    let request = post("/mcp", call("1", "add"));
    let (first, second) = request.split_at(request.len() - 20);
    let play = [
        client("c").sends(first),
        upstream("c").takes_head(""),
        upstream("c").gets(&first[first.len() - 10..]),
        client("c").sends(second),
        upstream("c").gets_all(),
        upstream("c").sends(json_answer(result("1"))),
        client("c").gets_answer(),
    ];
    Case::new(play).run().await.assert_rows(&json!([{ "tool_name": "add", "status": "ok" }]));
}

#[tokio::test]
async fn early_413() {
    let filler = "x".repeat(5 << 20);
    let body = call("1", "add").replace("}}", &format!(",\"arguments\":{{\"filler\":\"{filler}end\"}}}}}}"));
    let request = post("/mcp", body);
    let (first, rest) = request.split_at(10 << 10);
    let refusal = answer("413 Content Too Large", "Connection: close\r\nContent-Type: text/plain\r\n", "big");
    let play = [
        client("c").sends(first),
        upstream("c").takes_head(""),
        upstream("c").gets(&first[first.len() - 1000..]),
        upstream("c").sends(refusal),
        upstream("c").closes(),
        client("c").gets_answer(),
        // Nobody wants the rest any more; nobody may wait for it for ever either.
        client("c").pours(rest),
        client("c").sees_end(),
    ];
    let outcome = Case::new(play).run().await;
    outcome.assert_rows(&json!([{
        "tool_name": "add", "status": "http_error", "origin": "client", "error_code": "http_413",
        "http_status": 413, "error_message": "big", "client_left": false,
    }]));
    // The question's instant is that of its head: it never ended.
    let row = &outcome.rows[0];
    assert!(row["duration_ms"].as_f64() >= row["ttfb_ms"].as_f64(), "{row:#}");
}

#[tokio::test]
async fn stale_pool() {
    // The server closes what is idle at once, instead of after 5 s, and the next call comes at that very moment. One
    // worker, so that it would find the connection of the one before; a client each, since the server's closing is
    // the client's, too, where nothing is between the two.
    const CALLS: usize = 200;
    let play = (0..CALLS).flat_map(|number| {
        let closing = upstream(format!("{number}"));
        let mut lines =
            exchange(format!("{number}"), post("/mcp", call("1", "add")), json_answer(result("1")));
        lines.push(if number % 2 == 0 { closing.closes() } else { closing.resets() });
        lines
    });
    let outcome = Case::new(play).with_proxy("workers = 1").run().await;
    outcome.assert_rows(&vec![json!({ "status": "ok" }); CALLS].into());
}

#[tokio::test]
async fn nodelay() {
    const EVENTS: usize = 500;
    let mut play: Vec<Line> = vec![
        client("c").sends(post("/mcp", call("1", "add"))),
        upstream("c").takes(""),
        upstream("c").sends(SSE_HEAD),
        client("c").gets_head(),
    ];
    for number in 0..EVENTS {
        let event = |part| notification("notifications/message", &format!("{{\"data\":\"{number}{part}\"}}"));
        // Two at once: on a connection with Nagle's algorithm the second waits until the first is acknowledged.
        play.extend([
            upstream("c").sends_event(event('a')),
            upstream("c").sends_event(event('b')),
            client("c").gets(format!("{}\n\n", event('b'))),
        ]);
    }
    play.extend([
        upstream("c").sends_event(result("1")),
        upstream("c").sends(LAST_CHUNK),
        client("c").gets_answer(),
    ]);
    // That lines do not wait longer than directly is part of every comparison.
    let outcome = Case::new(play).run().await;
    assert!(outcome.proxied.waits.len() > EVENTS);
    outcome.assert_rows(&json!([{ "status": "ok", "framing": "sse", "output_bytes": result("1").len() }]));
}

#[tokio::test]
async fn upstream_dies_mid_body() {
    let half = format!("data: {}", &result("1")[..20]);
    let length = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n";
    let until_close = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    let whole_event = chunk(format!("data: {}\n\n", notification("notifications/progress", "{}")));
    let deaths: [(&str, Vec<u8>, bool); 7] = [
        ("half an event", [SSE_HEAD.as_bytes(), &chunk(&half)].concat(), false),
        ("half an event, reset", [SSE_HEAD.as_bytes(), &chunk(&half)].concat(), true),
        ("half a chunk", [SSE_HEAD, "ff\r\n", &half].concat().into(), true),
        ("a whole event", [SSE_HEAD.as_bytes(), &whole_event].concat(), false),
        ("short", [length, &half].concat().into(), false),
        ("short, reset", [length, &half].concat().into(), true),
        ("without a length, reset", [until_close, &half].concat().into(), true),
    ];
    let play = deaths.iter().flat_map(|(name, before, resets)| {
        let seen = if *name == "a whole event" { "progress".to_owned() } else { half.clone() };
        [
            client(*name).sends(post("/mcp", call("1", "add"))),
            upstream(*name).takes(""),
            upstream(*name).sends(before.clone()),
            client(*name).gets(seen),
            if *resets { upstream(*name).resets() } else { upstream(*name).closes() },
            client(*name).gets_cut_off(),
        ]
    });
    let outcome = Case::new(play).run().await;
    let row = json!({ "status": "upstream_error", "status_detail": "aborted", "origin": "upstream" });
    outcome.assert_rows(&vec![row; deaths.len()].into());
}

#[tokio::test]
async fn a_server_that_comes_up_is_found() {
    let mut play =
        vec![client("before").sends(post("/mcp", call("1", "add"))), client("before").gets_answer()];
    play.push(server_comes_up());
    play.extend(exchange("after", post("/mcp", call("2", "add")), json_answer(result("2"))));
    let outcome = Case::new(play).with_server_down().run_proxied().await;
    assert_eq!(outcome.proxied.answer("before").status(), 502);
    assert_eq!(outcome.proxied.answer("after").status(), 200);
}
