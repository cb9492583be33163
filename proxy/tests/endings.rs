//! How exchanges end: what happens on one side is carried to the other at once and as what it is, is
//! written down, and is never repeated.

use crate::{
    message::{LAST_CHUNK, SSE_HEAD, call, chunk, get_stream, json_answer, post, result},
    raw::{Upstream, Wire, begin_call},
    support::Mcpmeter,
};
use serde_json::Value;
use std::time::{Duration, Instant};

/// "At once", on a machine that is busy with other tests. It takes about a millisecond.
const AT_ONCE: Duration = Duration::from_secs(1);

const PROGRESS: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n";

/// `(status, status_detail, origin, error_code, http_status)`.
type Ending<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<u64>);

fn ending(row: &Value) -> Ending<'_> {
    let text = |key: &str| row[key].as_str();
    (text("status"), text("status_detail"), text("origin"), text("error_code"), row["http_status"].as_u64())
}

fn start() -> (Upstream, Mcpmeter) {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    (upstream, proxy)
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_ends_the_upstream_call_at_once() {
    let (upstream, proxy) = start();
    let (client, mut server) = begin_call(&proxy, &upstream, 1).await;
    let left = Instant::now();
    drop(client);
    server.gone().await;
    assert!(left.elapsed() < AT_ONCE, "{:?}", left.elapsed());
    let rows = proxy.stop().await;
    assert_eq!(rows.len(), 1);
    let expected = (Some("cancelled"), Some("client_left_before_head"), Some("client"), None, None);
    assert_eq!(ending(&rows[0]), expected);
    assert_eq!((rows[0]["client_left"].as_bool(), rows[0]["tool_name"].as_str()), (Some(true), Some("add")));
}

#[tokio::test]
async fn a_client_that_leaves_mid_stream_ends_it_at_once() {
    for resets in [false, true] {
        let (upstream, proxy) = start();
        let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
        server.send(SSE_HEAD).await;
        server.send(chunk(PROGRESS)).await;
        client.read_until(PROGRESS).await;
        let left = Instant::now();
        if resets {
            client.reset()
        } else {
            drop(client)
        }
        server.gone().await;
        assert!(left.elapsed() < AT_ONCE, "{:?}", left.elapsed());
        let rows = proxy.stop().await;
        let expected = (Some("cancelled"), Some("client_left_mid_stream"), Some("client"), None, Some(200));
        assert_eq!(rows.iter().map(ending).collect::<Vec<_>>(), [expected]);
    }
}

#[tokio::test]
async fn a_client_that_leaves_an_idle_stream_frees_it_at_once() {
    let (upstream, proxy) = start();
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(get_stream("localhost", "/a/mcp")).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send(SSE_HEAD).await;
    client.read_head().await;
    let left = Instant::now();
    drop(client);
    // Servers allow one such stream per session: were it kept, the client's next one would get a 409.
    server.gone().await;
    assert!(left.elapsed() < AT_ONCE, "{:?}", left.elapsed());
}

/// What a client may send behind its request while that is answered.
fn further_words() -> [Vec<u8>; 4] {
    let next = post("localhost", "/a/mcp", &call(2, "add"));
    [b"\r\n".into(), next.as_bytes()[..next.len() / 2].into(), next.into_bytes(), vec![b'x'; 64 << 10]]
}

#[tokio::test]
async fn a_client_that_leaves_behind_further_words_is_noticed_at_once() {
    for words in further_words() {
        for (at_once, resets) in [(true, false), (true, true), (false, false), (false, true)] {
            let (upstream, proxy) = start();
            let mut client = Wire::connect(proxy.proxy).await;
            let request = post("localhost", "/a/mcp", &call(1, "add"));
            client.send([request.as_bytes(), if at_once { &words } else { b"" }].concat()).await;
            let mut server = upstream.accept().await;
            server.read_request().await;
            if !at_once {
                client.send(&words).await;
            }
            server.send(SSE_HEAD).await;
            client.read_head().await;
            let left = Instant::now();
            if resets {
                client.reset()
            } else {
                drop(client)
            }
            server.gone().await;
            assert!(left.elapsed() < AT_ONCE, "{:?}", left.elapsed());
            let rows = proxy.stop().await;
            let expected =
                (Some("cancelled"), Some("client_left_mid_stream"), Some("client"), None, Some(200));
            assert_eq!(rows.iter().map(ending).collect::<Vec<_>>(), [expected]);
        }
    }
}

#[tokio::test]
async fn a_client_that_is_ahead_of_its_answers_loses_nothing() {
    let (upstream, proxy) = start();
    let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
    let ahead: String = (2..=20).map(|id| post("localhost", "/a/mcp", &call(id, "add"))).collect();
    for piece in ahead.as_bytes().chunks(100) {
        client.send(piece).await;
        // Each of them arrives by itself, and nobody reads it yet.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for id in 1..=20 {
        if id > 1 {
            let request = server.read_request().await;
            assert_eq!(request.text(), call(id, "add"));
        }
        server.send(json_answer(&result(id))).await;
        assert_eq!(client.read_response().await.text(), result(id));
    }
    assert_eq!(proxy.stop().await.len(), 20);
}

#[tokio::test]
async fn a_client_that_leaves_in_its_upload_ends_the_upstreams_request_too() {
    let (upstream, proxy) = start();
    let request = post("localhost", "/a/mcp", &call(1, "add"));
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(&request[..request.len() - 10]).await;
    let mut server = upstream.accept().await;
    server.read_until("tools/call").await;
    let left = Instant::now();
    drop(client);
    server.gone().await;
    assert!(left.elapsed() < AT_ONCE, "{:?}", left.elapsed());
    assert!(!server.got().ends_with(b"}"), "the rest was never sent");
}

#[tokio::test]
async fn a_client_that_leaves_behind_its_answer_has_not_cancelled() {
    let (upstream, proxy) = start();
    let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
    let answer = format!("data: {}\n\n", result(1));
    server.send(SSE_HEAD).await;
    server.send(chunk(&answer)).await;
    client.read_until(&answer).await;
    drop(client);
    server.gone().await;
    let rows = proxy.stop().await;
    assert_eq!(rows.iter().map(ending).collect::<Vec<_>>(), [(Some("ok"), None, None, None, Some(200))]);
}

/// What an upstream sends before it dies, and the row that must come of it.
async fn assert_death_is_carried(before: &[u8], resets: bool, code: &str) {
    let (upstream, proxy) = start();
    let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
    server.send(before).await;
    let head = client.read_head().await;
    if resets {
        server.reset();
    } else {
        drop(server);
    }
    let answer = client.read_body(head, false).await;
    assert!(!answer.complete, "a clean end after {}: {answer:?}", before.escape_ascii());
    assert!(!client.got().ends_with(LAST_CHUNK.as_bytes()));
    client.gone().await;
    let rows = proxy.stop().await;
    let expected = (Some("upstream_error"), Some("aborted"), Some("upstream"), Some(code), Some(200));
    assert_eq!(rows.iter().map(ending).collect::<Vec<_>>(), [expected], "{}", before.escape_ascii());
}

#[tokio::test]
async fn an_upstream_that_dies_within_a_stream_gives_the_client_no_clean_end() {
    let whole_event = [SSE_HEAD.as_bytes(), &chunk(PROGRESS)].concat();
    let half_a_chunk = [SSE_HEAD.as_bytes(), b"ff\r\ndata: {\"jsonrpc\":"].concat();
    for before in [&whole_event, &half_a_chunk] {
        assert_death_is_carried(before, false, "connection_closed").await;
        assert_death_is_carried(before, true, "connection_reset").await;
    }
}

#[tokio::test]
async fn an_upstream_that_dies_within_its_json_gives_the_client_no_clean_end() {
    let answer = json_answer(&result(1));
    let half = &answer.as_bytes()[..answer.len() - 20];
    assert_death_is_carried(half, false, "connection_closed").await;
    assert_death_is_carried(half, true, "connection_reset").await;
}

#[tokio::test]
async fn a_reset_of_a_body_without_a_length_is_no_clean_end_either() {
    let before = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"jsonrpc\":";
    assert_death_is_carried(before, true, "connection_reset").await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_reaches_the_client() {
    let (upstream, proxy) = start();
    let body = format!("{{\"filler\":\"{}\",{}", "x".repeat(5 << 20), &call(1, "add")[1..]);
    let request = post("localhost", "/a/mcp", &body);
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(&request[..10 << 10]).await;
    let mut server = upstream.accept().await;
    server.read_until("filler").await;
    server.send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig").await;
    let answer = client.read_response().await;
    assert_eq!((answer.status(), answer.text()), (413, "big".to_owned()));
    drop(server);
    // Nobody wants the rest any more; what matters is that nobody waits for it for ever.
    let _ = client.try_send(&request[10 << 10..]).await;
    client.gone().await;
}

#[tokio::test]
async fn what_an_upstream_says_before_it_closes_within_an_upload_reaches_the_client() {
    const REFUSAL: &str = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig";
    let (upstream, proxy) = start();
    let request = post("localhost", "/a/mcp", &"x".repeat(5 << 20));
    // The proxy may notice first that it cannot write, or that it can read; both have to do.
    for _ in 0..20 {
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(&request[..10 << 10]).await;
        let mut server = upstream.accept().await;
        server.read_until("xxx").await;
        let refuse = async {
            server.send(REFUSAL).await;
            drop(server);
        };
        let (_, ()) = tokio::join!(client.try_send(&request[10 << 10..]), refuse);
        let answer = client.read_response().await;
        assert_eq!((answer.status(), answer.text()), (413, "big".to_owned()));
    }
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_in_time_is_504_and_a_timeout() {
    // The kernel accepts and nobody answers the TLS handshake, so the connection never gets ready.
    let silent = Upstream::bind();
    let route = format!(
        "[[route]]\nname = \"a\"\nupstream = \"https://{}\"\nconnect_timeout_ms = 50\n",
        silent.address
    );
    let proxy = Mcpmeter::start(&route);
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    let answer = client.read_response().await;
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.header("proxy-status").as_deref(), Some("mcpmeter; error=connection_timeout"));
    let rows = proxy.stop().await;
    let expected =
        (Some("timeout"), Some("unreachable"), Some("upstream"), Some("connect_timeout"), Some(504));
    assert_eq!(rows.iter().map(ending).collect::<Vec<_>>(), [expected]);
}
