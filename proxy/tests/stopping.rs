//! SIGTERM: nothing new is accepted, calls that are on their way end well, streams that owe nothing are not
//! waited for, every row is written, and the exit code is 0.

use crate::{
    message::{LAST_CHUNK, SSE_HEAD, call, chunk, get_stream, json_answer, post, result},
    raw::{End, Upstream, Wire, begin_call},
    serving::Serving,
    spawned,
    support::{Mcpmeter, PATIENCE, sqlite_rows},
};
use serde_json::Value;
use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};
use tempfile::tempdir;
use tokio::net::TcpStream;

/// Far below the ten seconds that a drain may take by default.
const SOON: Duration = Duration::from_secs(5);

/// An idle stream of which the client has the head.
async fn open_stream(proxy: &Mcpmeter, upstream: &Upstream) -> (Wire, Wire) {
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(get_stream("localhost", "/a/mcp")).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send(SSE_HEAD).await;
    client.read_head().await;
    (client, server)
}

async fn refuses_connections(proxy: &Mcpmeter) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(proxy.proxy).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            // Accepted by the kernel just before the socket closed, which resets it.
            _ => assert!(Instant::now() < deadline, "it still accepts"),
        }
    }
}

/// The rows once it has ended.
async fn ended(proxy: Mcpmeter) -> Vec<Value> {
    let folder = spawned::ended(proxy).await;
    sqlite_rows(&folder.path().join("mcpmeter.db")).await
}

fn endings(rows: &[Value]) -> Vec<(Option<&str>, Option<&str>, Option<&str>)> {
    rows.iter()
        .map(|row| (row["status"].as_str(), row["status_detail"].as_str(), row["origin"].as_str()))
        .collect()
}

#[tokio::test]
async fn a_call_on_its_way_ends_well_while_nothing_new_is_accepted() {
    for signal in ["TERM", "INT"] {
        let upstream = Upstream::bind();
        let mut proxy = Mcpmeter::start(&upstream.route("a"));
        let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
        let (mut streaming, mut streamer) = begin_call(&proxy, &upstream, 2).await;
        streamer.send(SSE_HEAD).await;
        streaming.read_head().await;
        let mut idle = Wire::connect(proxy.proxy).await;
        idle.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(idle.read_response().await.status(), 404);
        proxy.signal(signal);
        proxy.wait_for_log("stopping");
        refuses_connections(&proxy).await;
        assert_eq!(idle.gone().await, End::Closed, "a connection that waits for nothing");
        let (status, report) = proxy.admin("/readyz?verbose").await;
        assert_eq!(
            (status, report.starts_with("[-] accepting connections: stopping\n")),
            (503, true),
            "{report}"
        );
        server.send(json_answer(&result(1))).await;
        let answer = client.read_response().await;
        assert_eq!((answer.status(), answer.text()), (200, result(1)));
        streamer.send(chunk(format!("data: {}\n\n", result(2)))).await;
        streamer.send(LAST_CHUNK).await;
        streaming.read_until(LAST_CHUNK).await;
        let rows = ended(proxy).await;
        assert_eq!(endings(&rows), [(Some("ok"), None, None); 2]);
    }
}

#[tokio::test]
async fn a_call_of_a_legacy_client_is_waited_for_on_its_stream() {
    let upstream = Upstream::bind();
    let mut proxy = Mcpmeter::start(&upstream.route("a"));
    let (mut stream, mut events) = open_stream(&proxy, &upstream).await;
    events.send(chunk("event: endpoint\ndata: /m?s=1\n\n")).await;
    stream.read_until("/a/m?s=1\n\n").await;
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/m?s=1", &call(1, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.read_response().await.status(), 202);
    proxy.signal("TERM");
    proxy.wait_for_log("stopping");
    refuses_connections(&proxy).await;
    events.send(chunk(format!("data: {}\n\n", result(1)))).await;
    stream.read_until(result(1)).await;
    assert_eq!(endings(&ended(proxy).await), [(Some("ok"), None, None)]);
}

#[tokio::test]
async fn idle_streams_do_not_delay_it_and_are_cut() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let (mut client, mut server) = open_stream(&proxy, &upstream).await;
    let told = Instant::now();
    proxy.signal("TERM");
    assert!(ended(proxy).await.is_empty());
    assert!(told.elapsed() < SOON, "{:?}", told.elapsed());
    client.gone().await;
    assert!(!client.got().ends_with(LAST_CHUNK.as_bytes()), "no clean end");
    server.gone().await;
}

#[tokio::test]
async fn a_slow_client_gets_its_answer_to_the_end() {
    const LENGTH: usize = 16 << 20;
    const PIECE: &[u8] = &[b'x'; 64 << 10];
    let upstream = Upstream::bind();
    let mut proxy = Mcpmeter::start(&upstream.route("a"));
    let mut client = Wire::connect_narrow(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server
        .send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {LENGTH}\r\n\r\n"))
        .await;
    client.read_head().await;
    proxy.signal("TERM");
    proxy.wait_for_log("stopping");
    let offer = async {
        for _ in 0..LENGTH / PIECE.len() {
            server.send(PIECE).await;
        }
    };
    // The client takes no more than it takes for the exchange to be over: the rest is in the proxy's hands.
    let mut taken = 0;
    let take = async {
        while !proxy.admin("/metrics").await.1.contains("mcpmeter_in_flight 0\n") {
            client.skip(PIECE.len()).await;
            taken += PIECE.len();
        }
    };
    tokio::join!(offer, take);
    client.skip(LENGTH - taken).await;
    ended(proxy).await;
}

#[tokio::test]
async fn a_connection_that_has_never_spoken_does_not_delay_it() {
    let proxy = Mcpmeter::start(&Upstream::bind().route("a"));
    let mut silent = Wire::connect(proxy.proxy).await;
    let told = Instant::now();
    proxy.signal("TERM");
    ended(proxy).await;
    assert!(told.elapsed() < SOON, "{:?}", told.elapsed());
    silent.gone().await;
}

#[tokio::test]
async fn a_second_signal_cuts_what_is_open_and_says_so_in_its_row() {
    let upstream = Upstream::bind();
    let mut proxy = Mcpmeter::start(&upstream.route("a"));
    let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
    proxy.signal("TERM");
    proxy.wait_for_log("stopping");
    // Between the two, a wish to reload is out of place and must not be taken for anything else.
    proxy.signal("HUP");
    proxy.signal("TERM");
    proxy.wait_for_log("told again to stop");
    let rows = ended(proxy).await;
    assert_eq!(endings(&rows), [(Some("upstream_error"), Some("proxy_shutdown"), Some("proxy"))]);
    client.gone().await;
    assert!(client.got().is_empty(), "no answer was invented");
    server.gone().await;
}

#[tokio::test]
async fn the_deadline_cuts_what_is_open_and_says_so_in_its_row() {
    let upstream = Upstream::bind();
    let folder = tempdir().expect("a temporary folder");
    let mut proxy = Mcpmeter::start_in(folder, &upstream.route("a"), &["drain_timeout_ms = 100"]);
    let (mut client, _server) = begin_call(&proxy, &upstream, 1).await;
    proxy.signal("TERM");
    proxy.wait_for_log("not all calls have ended in time");
    let rows = ended(proxy).await;
    assert_eq!(endings(&rows), [(Some("upstream_error"), Some("proxy_shutdown"), Some("proxy"))]);
    client.gone().await;
}

#[tokio::test]
async fn every_finished_call_is_written_before_the_end() {
    const CALLS: u64 = 500;
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let mut client = Wire::connect(proxy.proxy).await;
    for id in 0..CALLS {
        client.send(post("localhost", "/a/mcp", &call(id, "add"))).await;
        assert_eq!(client.read_response().await.text(), result(id));
    }
    proxy.signal("TERM");
    let rows = ended(proxy).await;
    let ids: Vec<u64> = rows.iter().filter_map(|row| row["rpc_id"].as_str()?.parse().ok()).collect();
    assert_eq!(ids, (0..CALLS).collect::<Vec<_>>());
}
