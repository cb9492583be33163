//! The old HTTP+SSE transport: a client posts to the endpoint that its stream announces, through the proxy
//! in whatever form it is announced, and gets its answers on the stream.

use crate::{
    message::{LAST_CHUNK, Message, SSE_HEAD, call, chunk, get_stream, post, result},
    raw::{Upstream, Wire},
    support::Mcpmeter,
};
use serde_json::Value;

const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 8\r\n\r\nAccepted";

/// A stream from the upstream through the proxy to a client, both heads read.
struct Stream {
    client: Wire,
    server: Wire,
}

impl Stream {
    async fn open(proxy: &Mcpmeter, upstream: &Upstream, host: &str, target: &str) -> Self {
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(get_stream(host, target)).await;
        let mut server = upstream.accept().await;
        server.read_request().await;
        server.send(SSE_HEAD).await;
        client.read_head().await;
        Self { client, server }
    }

    /// Sends an event and gives what the client received of it.
    async fn pass(&mut self, event: &str) -> Vec<u8> {
        self.server.send(chunk(event)).await;
        self.client.read_chunk().await.expect("open")
    }

    /// Opens a stream on `/sse` under the route `a` and announces `/messages?s=1`.
    async fn announced(proxy: &Mcpmeter, upstream: &Upstream) -> Self {
        let mut stream = Self::open(proxy, upstream, "localhost", "/a/sse").await;
        let seen = stream.pass("event: endpoint\ndata: /messages?s=1\n\n").await;
        assert_eq!(seen, b"event: endpoint\ndata: /a/messages?s=1\n\n");
        stream
    }
}

/// Posts a call through the proxy; the upstream has read it and not answered.
async fn begin_post(
    proxy: &Mcpmeter,
    upstream: &Upstream,
    target: &str,
    body: &str,
) -> (Wire, Wire, Message) {
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", target, body)).await;
    let mut server = upstream.accept().await;
    let request = server.read_request().await;
    (client, server, request)
}

async fn post_accepted(proxy: &Mcpmeter, upstream: &Upstream, body: &str) {
    let (mut client, mut server, _) = begin_post(proxy, upstream, "/a/messages?s=1", body).await;
    server.send(ACCEPTED).await;
    assert_eq!(client.read_response().await.status(), 202);
    server.close().await;
}

fn start(upstream: &Upstream) -> Mcpmeter {
    Mcpmeter::start(&upstream.route("a"))
}

fn texts<'a>(row: &'a Value, keys: &[&str]) -> Vec<Option<&'a str>> {
    keys.iter().map(|key| row[*key].as_str()).collect()
}

/// What the standard makes of a reference on `/a/sse`.
fn resolve(announced: &str) -> String {
    match announced.chars().next() {
        Some('/') => announced.to_owned(),
        Some('?') => format!("/a/sse{announced}"),
        _ => format!("/a/{announced}"),
    }
}

#[tokio::test]
async fn every_form_of_endpoint_leads_through_the_proxy() {
    let upstream = Upstream::bind();
    let absolute = format!("http://{}/messages?s=1", upstream.address);
    let forms = [
        // What the server announces, what the client has to see, what the server has to be asked for.
        ("/messages/?session_id=x", "/a/messages/?session_id=x", "/messages/?session_id=x"),
        (absolute.as_str(), "/a/messages?s=1", "/messages?s=1"),
        ("message?sessionId=x", "message?sessionId=x", "/message?sessionId=x"),
        ("?sessionid=x", "?sessionid=x", "/sse?sessionid=x"),
    ];
    for (announced, seen, asked) in forms {
        let proxy = start(&upstream);
        let mut stream = Stream::open(&proxy, &upstream, "localhost", "/a/sse").await;
        let event = |reference: &str| format!("event: endpoint\r\ndata: {reference}\r\n\r\n");
        assert_eq!(stream.pass(&event(announced)).await, event(seen).into_bytes());
        // The first one only: what comes later belongs to the server and its client.
        for later in [event("/later"), "data: /messages\n\n".to_owned(), ": \n\n".to_owned()] {
            assert_eq!(stream.pass(&later).await, later.into_bytes());
        }
        let (mut client, mut server, request) =
            begin_post(&proxy, &upstream, &resolve(seen), &call(1, "add")).await;
        assert_eq!(request.start_line(), format!("POST {asked} HTTP/1.1"));
        server.send(ACCEPTED).await;
        assert_eq!(client.read_response().await.text(), "Accepted");
        let answer = format!("event: message\r\ndata: {}\r\n\r\n", result(1));
        assert_eq!(stream.pass(&answer).await, answer.into_bytes());
        let rows = proxy.stop().await;
        assert_eq!(rows.len(), 1, "{announced}");
        assert_eq!(
            texts(&rows[0], &["status", "match", "client_transport", "transport_type", "framing"]),
            [Some("ok"), Some("exact"), Some("SSE"), Some("SSE"), Some("sse")],
            "{announced}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_in_pieces_is_changed_as_one() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream);
    let mut stream = Stream::open(&proxy, &upstream, "localhost", "/a/sse").await;
    for piece in ["event: end", "point\nda", "ta: /mess", "ages?s=1\n", "\n"] {
        stream.server.send(chunk(piece)).await;
    }
    stream.client.read_until("/a/messages?s=1\n").await;
    stream.server.send(LAST_CHUNK).await;
    let (rest, _) = (stream.client.read_until(LAST_CHUNK).await, ());
    assert!(!rest.windows(8).any(|bytes| bytes == b"messages"), "once only");
}

#[tokio::test]
async fn a_route_by_host_or_without_rewriting_changes_no_byte() {
    let upstream = Upstream::bind();
    let by_host = format!("{}host = \"tools.example\"\n", upstream.route("b"));
    let as_it_is = format!("{}rewrite_endpoint = false\n", upstream.route("c"));
    let proxy = Mcpmeter::start(&format!("{by_host}{as_it_is}"));
    for (host, target) in [("tools.example", "/sse"), ("localhost", "/c/sse")] {
        let mut stream = Stream::open(&proxy, &upstream, host, target).await;
        let event = "event: endpoint\ndata: /messages/?session_id=x\n\n";
        assert_eq!(stream.pass(event).await, event.as_bytes());
    }
}

#[tokio::test]
async fn an_endpoint_of_another_origin_is_none_of_ours() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream);
    for event in [
        "event: endpoint\ndata: https://other.example/messages\n\n",
        "event: endpoint\ndata: //other.example/messages\n\n",
        "event: message\ndata: /messages\n\n",
    ] {
        let mut stream = Stream::open(&proxy, &upstream, "localhost", "/a/sse").await;
        assert_eq!(stream.pass(event).await, event.as_bytes());
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_202_is_matched() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream);
    let mut stream = Stream::announced(&proxy, &upstream).await;
    let (mut client, mut server, _) = begin_post(&proxy, &upstream, "/a/messages?s=1", &call(7, "add")).await;
    let answer = format!("data: {}\n\n", result(7));
    assert_eq!(stream.pass(&answer).await, answer.into_bytes());
    let rows = proxy.wait_for_rows(1).await;
    assert_eq!(texts(&rows[0], &["status", "match", "tool_name"]), [Some("ok"), Some("exact"), Some("add")]);
    assert!(rows[0]["duration_ms"].as_f64() >= Some(0.0));
    server.send(ACCEPTED).await;
    assert_eq!(client.read_response().await.status(), 202);
    assert_eq!(proxy.stop().await.len(), 1);
}

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream);
    let mut stream = Stream::announced(&proxy, &upstream).await;
    for (id, tool) in [(1, "one"), (2, "two"), (3, "three")] {
        post_accepted(&proxy, &upstream, &call(id, tool)).await;
    }
    for id in [3, 1, 2] {
        stream.pass(&format!("data: {}\n\n", result(id))).await;
    }
    let rows = proxy.wait_for_rows(3).await;
    let told: Vec<_> = rows.iter().map(|row| texts(row, &["rpc_id", "tool_name", "status"])).collect();
    for (row, tool) in told.iter().zip(["one", "two", "three"]) {
        assert_eq!(row[1..], [Some(tool), Some("ok")]);
    }
}

#[tokio::test]
async fn calls_on_a_stream_that_the_upstream_closes_have_ended_with_it() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream);
    let mut stream = Stream::announced(&proxy, &upstream).await;
    for id in [1, 2] {
        post_accepted(&proxy, &upstream, &call(id, "add")).await;
    }
    stream.server.send(LAST_CHUNK).await;
    stream.client.read_until(LAST_CHUNK).await;
    let rows = proxy.wait_for_rows(2).await;
    for row in rows {
        assert_eq!(
            texts(&row, &["status", "status_detail", "origin"]),
            [Some("upstream_error"), Some("session_ended"), Some("upstream")]
        );
    }
}

#[tokio::test]
async fn calls_on_a_stream_that_the_client_leaves_are_cancelled() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream);
    let mut stream = Stream::announced(&proxy, &upstream).await;
    for id in [1, 2] {
        post_accepted(&proxy, &upstream, &call(id, "add")).await;
    }
    drop(stream.client);
    stream.server.gone().await;
    let rows = proxy.wait_for_rows(2).await;
    for row in rows {
        assert_eq!(
            texts(&row, &["status", "status_detail", "origin"]),
            [Some("cancelled"), Some("session_ended"), Some("client")]
        );
        assert_eq!(row["client_left"].as_bool(), Some(true));
    }
}

#[tokio::test]
async fn a_rejected_post_has_failed_at_once() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream);
    let _stream = Stream::announced(&proxy, &upstream).await;
    let (mut client, mut server, _) = begin_post(&proxy, &upstream, "/a/messages?s=1", &call(1, "add")).await;
    let refusal = "session not found";
    server
        .send(format!(
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{refusal}",
            refusal.len()
        ))
        .await;
    let answer = client.read_response().await;
    assert_eq!((answer.status(), answer.text().as_str()), (404, refusal));
    let rows = proxy.wait_for_rows(1).await;
    assert_eq!(texts(&rows[0], &["status", "error_code"]), [Some("http_error"), Some("http_404")]);
}
