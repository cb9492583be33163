//! What redaction costs, printed: `cargo test --release -p mcpmeter-observer --test redaction_cost -- --nocapture`.
//!
//! Promises 20 µs for a typical message when optimized. What is asserted holds without optimization on a busy machine, too.

use mcpmeter_observer::Redactor;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

const TYPICAL: &str = "MCP error -32602: Invalid arguments for tool search_files: [{\"code\":\"invalid_type\",\
    \"expected\":\"string\",\"received\":\"undefined\",\"path\":[\"query\"],\"message\":\"Required\"}] at \
    /srv/app/index.js:12:7 after 3 tries";
const CLEAN: &str = "the tool could not read the file because the folder does not exist and nobody may create it there, so \
    nothing was written at all; ask the administrator of the machine to look after it when there is time";
const SECRETS: &str = "cannot connect to https://user:hunter2@db.internal/x: Authorization: Bearer abc.def-1234567890 was \
    refused for alice@example.com, card 4111 1111 1111 1111, token ghp_0123456789abcdef0123, at index.js:12:7";
const FRAMES: &str = "    at async Client.request (file:///app/node_modules/@modelcontextprotocol/sdk/dist/esm/shared/\
    protocol.js:312:22)\n  File \"/usr/lib/python3.12/asyncio/runners.py\", line 194, in run\n";
const CALL: &str = "{\"file\":\"/srv/app/src/tool.ts\",\"line\":128,\"function\":\"callTool\",\
    \"id\":\"550e8400-e29b-41d4-a716-446655440000\"},";

/// The median of some rounds.
fn measure(what: &str, bytes: usize, mut once: impl FnMut()) -> Duration {
    let mut round = || {
        let began = Instant::now();
        (0..100).for_each(|_| once());
        began.elapsed() / 100
    };
    round();
    let mut rounds: Vec<Duration> = (0..15).map(|_| round()).collect();
    rounds.sort();
    println!("{what}, {bytes} bytes: {:.2} µs", rounds[7].as_secs_f64() * 1e6);
    rounds[7]
}

#[test]
fn a_typical_message_takes_little_time() {
    let redactor = Redactor::new(&[], Vec::new());
    let trace: String = FRAMES.chars().cycle().take(2048).collect();
    let document = format!("[{}null]", CALL.repeat(8192 / CALL.len()));
    for (what, text) in [
        ("name of a tool", "search_files"),
        ("prose", CLEAN),
        ("typical message", TYPICAL),
        ("message full of secrets", SECRETS),
        ("stack trace", &trace),
    ] {
        let time = measure(what, text.len(), || drop(black_box(redactor.redact(black_box(text)))));
        assert!(time < Duration::from_millis(50), "{what}: {time:?}");
    }
    let time = measure("error.data", document.len(), || {
        drop(black_box(redactor.redact_document(black_box(&document), 8192)));
    });
    assert!(time < Duration::from_millis(200), "{time:?}");
}
