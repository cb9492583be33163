//! Connections to an upstream are kept for the next call, given up when the upstream has closed them, and
//! nothing that was written to one is written to another.

use crate::{
    message::{call, json_answer, post, result},
    raw::{End, Upstream, Wire, begin_call},
    support::Mcpmeter,
};
use tempfile::tempdir;

/// One worker, so that the second call of a client finds the connection of the first.
fn start_with_one_worker() -> (Upstream, Mcpmeter) {
    let upstream = Upstream::bind();
    let folder = tempdir().expect("a temporary folder");
    let proxy = Mcpmeter::start_in(folder, &upstream.route("a"), &["workers = 1"]);
    (upstream, proxy)
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_call() {
    let (upstream, proxy) = start_with_one_worker();
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    let mut server = upstream.accept().await;
    for id in 1..=3 {
        server.read_request().await;
        server.send(json_answer(&result(id))).await;
        assert_eq!(client.read_response().await.text(), result(id));
        client.send(post("localhost", "/a/mcp", &call(id + 1, "add"))).await;
    }
    assert!(upstream.is_untouched(), "no second connection");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_call_and_delivers_none_twice() {
    const CALLS: u64 = 100;
    let (upstream, proxy) = start_with_one_worker();
    let mut client = Wire::connect(proxy.proxy).await;
    for id in 1..=CALLS {
        let body = call(id, "add");
        client.send(post("localhost", "/a/mcp", &body)).await;
        let mut server = tokio::select! {
            server = upstream.accept() => server,
            refusal = client.read_response() => panic!("call {id} was refused: {refusal:?}"),
        };
        assert_eq!(server.read_request().await.text(), body);
        server.send(json_answer(&result(id))).await;
        let answer = client.read_response().await;
        assert_eq!((answer.status(), answer.text()), (200, result(id)));
        // The proxy has put it away, and has seen that it is of no use any more.
        server.close().await;
    }
    assert!(upstream.is_untouched(), "nothing was delivered twice");
    assert_eq!(proxy.stop().await.len() as u64, CALLS);
}

#[tokio::test]
async fn a_written_post_is_never_sent_again() {
    let (upstream, proxy) = start_with_one_worker();
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send(json_answer(&result(1))).await;
    assert_eq!(client.read_response().await.status(), 200);
    // The second call goes over the kept connection, the third one over a new one; both are read and
    // dropped.
    let mut kept = Some(server);
    for id in [2, 3] {
        client.send(post("localhost", "/a/mcp", &call(id, "add"))).await;
        let mut server = match kept.take() {
            Some(kept) => kept,
            None => upstream.accept().await,
        };
        assert_eq!(server.read_request().await.text(), call(id, "add"));
        drop(server);
        let answer = client.read_response().await;
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.header("proxy-status").as_deref(), Some("mcpmeter; error=connection_terminated"));
        assert!(upstream.is_untouched(), "sent again");
    }
    let rows = proxy.stop().await;
    assert!(upstream.is_untouched(), "sent again");
    for row in &rows[1..] {
        let text = |key: &str| row[key].as_str();
        assert_eq!(
            (text("status"), text("status_detail"), text("error_code"), row["http_status"].as_u64()),
            (Some("upstream_error"), Some("aborted"), Some("connection_closed"), Some(502))
        );
    }
}

#[tokio::test]
async fn a_client_is_told_of_the_end_of_its_connection_only_by_its_end() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let (mut client, mut server) = begin_call(&proxy, &upstream, 1).await;
    server.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n").await;
    server.send(result(1)).await;
    drop(server);
    let answer = client.read_response().await;
    assert!(answer.complete);
    assert_eq!(answer.text(), result(1));
    // Only the upstream's connection had to close.
    client.send(post("localhost", "/a/mcp", &call(2, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send(json_answer(&result(2))).await;
    assert_eq!(client.read_response().await.text(), result(2));
    client.finish().await;
    assert_eq!(client.gone().await, End::Closed);
}
