//! Nothing waits for more: what one side has sent reaches the other while the rest is still to come.

use crate::{
    message::{LAST_CHUNK, SSE_HEAD, call, chunk, get_stream, post, result},
    raw::{Upstream, Wire},
    support::Mcpmeter,
};

#[tokio::test]
async fn half_an_upload_reaches_the_upstream_before_the_rest_is_sent() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let body = call(1, "add");
    let (first, second) = body.split_at(body.len() / 2);
    let request = post("localhost", "/a/mcp", &body);
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(request.strip_suffix(second).expect("it ends so")).await;
    let mut server = upstream.accept().await;
    server.read_until(first).await;
    client.send(second).await;
    server.read_until(second).await;
    server.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.read_response().await.status(), 202);
}

#[tokio::test]
async fn an_event_reaches_the_client_while_the_upstream_still_holds_the_stream() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send(SSE_HEAD).await;
    client.read_head().await;
    for event in [
        ": soon\n\n".to_owned(),
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n".to_owned(),
        format!("data: {}\n\n", result(1)),
    ] {
        server.send(chunk(&event)).await;
        client.read_until(&event).await;
    }
    // The call has ended with its answer, not with the stream.
    assert_eq!(proxy.wait_for_rows(1).await[0]["status"].as_str(), Some("ok"));
    server.send(LAST_CHUNK).await;
    client.read_until(LAST_CHUNK).await;
}

#[tokio::test]
async fn comments_on_a_stream_without_events_are_not_held_back() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(get_stream("localhost", "/a/mcp")).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send(SSE_HEAD).await;
    // They are all that keeps a client from giving up on a stream on which nothing happens.
    for comment in [": ping 1\n\n", ": ping 2\r\n\r\n", "retry: 5\n\n", ": ping 3\n\n"] {
        server.send(chunk(comment)).await;
        client.read_until(comment).await;
    }
}

#[tokio::test]
async fn a_client_that_expects_100_is_invited_when_the_upstream_is_there() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let body = format!("{{\"filler\":\"{}\"}}", "x".repeat(2 << 20));
    let head = format!(
        "POST /a/mcp HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(head).await;
    let invitation = client.read_response().await;
    assert_eq!(invitation.status(), 100);
    let mut server = upstream.accept().await;
    let (request, ()) = tokio::join!(server.read_request(), client.send(&body));
    assert_eq!(request.header("expect"), None);
    assert!(request.body == body.as_bytes());
    server.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.read_response().await.status(), 202);
}

#[tokio::test]
async fn a_client_that_expects_100_is_not_invited_by_a_dead_upstream() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    drop(upstream);
    let mut client = Wire::connect(proxy.proxy).await;
    client
        .send(
            "POST /a/mcp HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
               Content-Length: 2000000\r\n\r\n",
        )
        .await;
    let answer = client.read_response().await;
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert_eq!(client.got(), [answer.head, answer.body].concat());
}
