//! Messages that are rare on the wire and allowed, or not allowed: each arrives as it was meant, or is refused as the RFC
//! says.

use crate::{
    message::{LAST_CHUNK, SSE_HEAD, call, chunk, get_stream, json_answer, post, result},
    raw::{Upstream, Wire, begin_call},
    support::Mcpmeter,
};

#[tokio::test]
async fn options_of_the_server_as_a_whole_reach_it_as_such() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&format!("{}host = \"tools.example\"\n", upstream.route("a")));
    let mut client = Wire::connect(proxy.proxy).await;
    client.send("OPTIONS * HTTP/1.1\r\nHost: tools.example\r\n\r\n").await;
    let mut server = upstream.accept().await;
    assert_eq!(server.read_request().await.start_line(), "OPTIONS * HTTP/1.1");
    server.send("HTTP/1.1 204 No Content\r\nAllow: POST\r\n\r\n").await;
    let answer = client.read_response().await;
    assert_eq!((answer.status(), answer.header("allow").as_deref()), (204, Some("POST")));
}

#[tokio::test]
async fn a_change_of_protocol_that_nobody_asked_for_is_502() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    for asked in ["", "Connection: Upgrade\r\nUpgrade: websocket\r\n"] {
        let mut client = Wire::connect(proxy.proxy).await;
        client
            .send(post("localhost", "/a/mcp", &call(1, "add")).replacen("\r\n", &format!("\r\n{asked}"), 1))
            .await;
        let mut server = upstream.accept().await;
        assert_eq!(server.read_request().await.header("upgrade"), None);
        server
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        let answer = client.read_response().await;
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.header("proxy-status").as_deref(), Some("mcpmeter; error=http_protocol_error"));
        server.gone().await;
    }
    for row in proxy.stop().await {
        let text = |key: &str| row[key].as_str();
        assert_eq!((text("status"), text("error_code")), (Some("upstream_error"), Some("invalid_response")));
    }
}

#[tokio::test]
async fn a_transfer_coding_that_is_no_framing_is_refused_and_not_lost() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let coded = format!(
        "POST /a/mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n{}",
        String::from_utf8([chunk("zip"), LAST_CHUNK.into()].concat()).expect("text")
    );
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(&coded).await;
    assert_eq!(client.read_response().await.status(), 501);
    assert!(upstream.is_untouched());
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(coded.replace("gzip, chunked", "CHUNKED")).await;
    let mut server = upstream.accept().await;
    assert_eq!(server.read_request().await.text(), "zip");
    server.send(json_answer("{}")).await;
    assert_eq!(client.read_response().await.status(), 200);
    server.close().await;
    let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    server.send([head.as_bytes(), &chunk("zip"), LAST_CHUNK.as_bytes()].concat()).await;
    assert_eq!(client.read_response().await.status(), 502);
}

#[tokio::test]
async fn trailers_come_behind_what_was_held_back() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(get_stream("localhost", "/a/sse").replacen("\r\n", "\r\nTE: trailers\r\n", 1)).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server
        .send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTrailer: X-End\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
        )
        .await;
    // An endpoint that is not complete is held back; the stream ends behind it all the same.
    let begun = "event: endpoint\ndata: /mess";
    server.send([&chunk(begun)[..], b"0\r\nX-End: 1\r\n\r\n"].concat()).await;
    client.read_head().await;
    assert_eq!(client.read_chunk().await.expect("not cut"), begun.as_bytes());
    assert_eq!(client.read_until("\r\n\r\n").await, b"0\r\nx-end: 1\r\n\r\n");
}

#[tokio::test]
async fn what_is_held_while_the_connection_is_made_arrives_whole_and_in_order() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    // More than is held, of known and of unknown length.
    let long = call(1, &"x".repeat(300_000));
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &long)).await;
    let mut server = upstream.accept().await;
    let seen = server.read_request().await;
    assert_eq!((seen.header("content-length"), seen.text()), (Some(long.len().to_string()), long.clone()));
    server.send(json_answer(&result(1))).await;
    assert_eq!(client.read_response().await.status(), 200);
    server.close().await;
    let head = "POST /a/mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks: Vec<u8> = long.as_bytes().chunks(10_000).flat_map(chunk).collect();
    client.send([head.as_bytes(), &chunks, LAST_CHUNK.as_bytes()].concat()).await;
    let mut server = upstream.accept().await;
    let seen = server.read_request().await;
    assert_eq!((seen.header("content-length"), seen.text()), (None, long));
}

#[tokio::test]
async fn a_legacy_endpoint_outside_of_the_base_path_is_within_reach_while_it_is_announced() {
    let upstream = Upstream::bind();
    let route = format!("[[route]]\nname = \"a\"\nupstream = \"http://{}/v1\"\n", upstream.address);
    let proxy = Mcpmeter::start(&route);
    // What a POST to the announced endpoint reaches, through the proxy.
    let reached = async || {
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(post("localhost", "/a/~/messages?s=1", &call(1, "add"))).await;
        let mut server = upstream.accept().await;
        let asked = server.read_request().await.start_line();
        server.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(client.read_response().await.status(), 202);
        server.close().await;
        asked
    };
    assert_eq!(reached().await, "POST /v1/~/messages?s=1 HTTP/1.1", "not announced yet");
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(get_stream("localhost", "/a/sse")).await;
    let mut server = upstream.accept().await;
    assert_eq!(server.read_request().await.start_line(), "GET /v1/sse HTTP/1.1");
    server.send([SSE_HEAD.as_bytes(), &chunk("event: endpoint\ndata: /messages?s=1\n\n")].concat()).await;
    client.read_head().await;
    let event = client.read_chunk().await.expect("open");
    assert_eq!(event, b"event: endpoint\ndata: /a/~/messages?s=1\n\n");
    assert_eq!(reached().await, "POST /messages?s=1 HTTP/1.1");
    server.send(chunk(format!("data: {}\n\n", result(1)))).await;
    client.read_chunk().await.expect("the answer");
    drop(client);
    server.gone().await;
    let rows = proxy.wait_for_rows(2).await;
    assert_eq!((rows[1]["status"].as_str(), rows[1]["tool_name"].as_str()), (Some("ok"), Some("add")));
    assert_eq!(reached().await, "POST /v1/~/messages?s=1 HTTP/1.1", "announced no more");
}
