//! Memory is bounded by configuration, not by traffic: neither a huge message nor a slow reader makes the
//! process grow.

use crate::{
    message::{LAST_CHUNK, SSE_HEAD, call, json_answer, post, result},
    raw::{Upstream, Wire, begin_call},
    support::Mcpmeter,
};
use serde_json::Value;
use std::{fs, time::Duration};
use tokio::time::timeout;

const MIB: u64 = 1 << 20;
/// What an idle process may have resident. A debug build is twice as large before it does anything (24 MB
/// to 12 MB, of which 3.6 MB and 3.1 MB are not its program file), so there only what is not its program
/// file counts.
const IDLE: (&str, u64) =
    if cfg!(debug_assertions) { ("RssAnon:", 10_000_000) } else { ("VmRSS:", 25_000_000) };
/// By how much one message of any size may raise that.
const GROWTH: u64 = 8_000_000;
/// The huge message's filler, and the pieces in which it is written.
const FILLER: usize = 100 << 20;
const PIECE: &[u8] = &[b'x'; 64 << 10];
/// After so long a peer that takes nothing is taken to be full.
const STALLED: Duration = Duration::from_millis(500);

/// A line of `/proc/PID/status`, in bytes.
fn read_status(proxy: &Mcpmeter, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(key)).expect("Linux tells");
    let kilobytes: u64 =
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kilobytes * 1024
}

/// What is resident now.
fn resident(proxy: &Mcpmeter) -> u64 {
    read_status(proxy, "VmRSS:")
}

/// The most that has ever been resident.
fn peak(proxy: &Mcpmeter) -> u64 {
    read_status(proxy, "VmHWM:")
}

/// A proxy that has carried a call before, so that what is made once is made.
async fn start_warm() -> (Upstream, Mcpmeter) {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    for id in 0..4 {
        let (mut client, mut server) = begin_call(&proxy, &upstream, id).await;
        server.send(json_answer(&result(id))).await;
        assert_eq!(client.read_response().await.text(), result(id));
        server.close().await;
    }
    proxy.wait_for_rows(4).await;
    (upstream, proxy)
}

/// Both parts around [`FILLER`] bytes.
async fn send_huge(wire: &mut Wire, before: &str, after: &str) {
    wire.send(before).await;
    for _ in 0..FILLER / PIECE.len() {
        wire.send(PIECE).await;
    }
    wire.send(after).await;
}

fn assert_growth(what: &str, before: u64, after: u64) {
    let grown = after.saturating_sub(before);
    assert!(grown < GROWTH, "{what}: {grown} bytes more than the {before} before");
}

/// The row of the huge call, behind those of the warm-up.
fn last<'a>(rows: &'a [Value], instance_bytes: &str) -> (Option<&'a str>, Option<&'a str>, Option<u64>) {
    let row = rows.last().expect("a row");
    (row["status"].as_str(), row["match"].as_str(), row[instance_bytes].as_u64())
}

const BEFORE: &str = r#"{"result":{"content":[{"type":"text","text":""#;
const AFTER: &str = r#""}]},"jsonrpc":"2.0","id":9}"#;

#[tokio::test]
async fn an_idle_process_is_small() {
    let (_upstream, proxy) = start_warm().await;
    let (key, limit) = IDLE;
    let idle = read_status(&proxy, key);
    assert!(idle < limit, "{key} {idle} bytes");
}

#[tokio::test]
async fn a_huge_answer_of_json_passes_through_and_not_into_memory() {
    let (upstream, proxy) = start_warm().await;
    let before = resident(&proxy);
    let (mut client, mut server) = begin_call(&proxy, &upstream, 9).await;
    let length = BEFORE.len() + FILLER + AFTER.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    server.send(head).await;
    let receive = async {
        client.read_head().await;
        client.skip(length - AFTER.len()).await;
        client.read_up_to(AFTER.len()).await
    };
    let ((), end) = tokio::join!(send_huge(&mut server, BEFORE, AFTER), receive);
    assert_eq!(end, AFTER.as_bytes());
    assert_growth("an answer of JSON", before, peak(&proxy));
    // The id stands behind everything, as in the answers of many servers.
    let rows = proxy.wait_for_rows(5).await;
    assert_eq!(last(&rows, "output_bytes"), (Some("ok"), Some("exact"), Some(length as u64)));
}

#[tokio::test]
async fn a_huge_event_passes_through_and_not_into_memory() {
    let (upstream, proxy) = start_warm().await;
    let before = resident(&proxy);
    let (mut client, mut server) = begin_call(&proxy, &upstream, 9).await;
    let length = BEFORE.len() + FILLER + AFTER.len();
    let event = length + "data: \n\n".len();
    server.send(format!("{SSE_HEAD}{event:x}\r\n")).await;
    let receive = async {
        client.read_head().await;
        // The proxy cuts chunks of its own; what is between them is small.
        client.skip(event).await;
        client.read_until(format!("\r\n{LAST_CHUNK}")).await;
    };
    let before_event = format!("data: {BEFORE}");
    let after_event = format!("{AFTER}\n\n\r\n{LAST_CHUNK}");
    tokio::join!(send_huge(&mut server, &before_event, &after_event), receive);
    assert_growth("an event", before, peak(&proxy));
    let rows = proxy.wait_for_rows(5).await;
    assert_eq!(last(&rows, "output_bytes"), (Some("ok"), Some("exact"), Some(length as u64)));
}

#[tokio::test]
async fn a_huge_request_passes_through_and_not_into_memory() {
    let (upstream, proxy) = start_warm().await;
    let before = resident(&proxy);
    let (head, tail) = (
        r#"{"params":{"arguments":{"a":""#,
        r#""},"name":"add"},"method":"tools/call","jsonrpc":"2.0","id":9}"#,
    );
    let length = head.len() + FILLER + tail.len();
    let mut client = Wire::connect(proxy.proxy).await;
    client
        .send(format!(
            "POST /a/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        ))
        .await;
    let receive = async {
        let mut server = upstream.accept().await;
        server.read_head().await;
        server.skip(length - tail.len()).await;
        assert_eq!(server.read_up_to(tail.len()).await, tail.as_bytes());
        server.send(json_answer(&result(9))).await;
    };
    tokio::join!(send_huge(&mut client, head, tail), receive);
    assert_eq!(client.read_response().await.text(), result(9));
    assert_growth("a request", before, peak(&proxy));
    let rows = proxy.wait_for_rows(5).await;
    assert_eq!(last(&rows, "input_bytes"), (Some("ok"), Some("exact"), Some(length as u64)));
    assert_eq!(rows[4]["tool_name"].as_str(), Some("add"));
}

#[tokio::test]
async fn a_slow_client_holds_its_upstream_back_and_nothing_else() {
    const OFFERED: u64 = 50 * MIB;
    let (upstream, proxy) = start_warm().await;
    let before = resident(&proxy);
    let mut client = Wire::connect_narrow(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(9, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server
        .send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {OFFERED}\r\n\r\n"))
        .await;
    client.read_head().await;
    let mut taken = 0;
    for _ in 0..3 {
        while taken < OFFERED {
            match timeout(STALLED, server.send_some(PIECE)).await {
                Ok(bytes) => taken += bytes as u64,
                Err(_) => break,
            }
        }
        for _ in 0..1000 {
            client.read_up_to(1).await;
        }
    }
    assert!(taken < OFFERED, "the upstream was never held back");
    assert_growth("a slow client", before, peak(&proxy));
    // Another client is served meanwhile.
    let (mut other, mut answering) = begin_call(&proxy, &upstream, 10).await;
    answering.send(json_answer(&result(10))).await;
    assert_eq!(other.read_response().await.text(), result(10));
    // The rest arrives as soon as it is wanted.
    let send_rest = async {
        while taken < OFFERED {
            let piece = PIECE.len().min(usize::try_from(OFFERED - taken).expect("small"));
            server.send(&PIECE[..piece]).await;
            taken += piece as u64;
        }
    };
    tokio::join!(send_rest, client.skip(usize::try_from(OFFERED).expect("small") - 3000));
    assert_growth("a slow client", before, peak(&proxy));
}
