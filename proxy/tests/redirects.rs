//! A server that sends a client elsewhere: to itself means to its route, and the proxy never goes there in
//! its place.

use crate::{
    message::get_stream,
    raw::{Upstream, Wire},
    support::Mcpmeter,
};

/// What a client of `/a/…` sees of a `Location` that the upstream sends.
async fn seen_location(proxy: &Mcpmeter, upstream: &Upstream, location: &str) -> String {
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(get_stream("localhost", "/a/mcp")).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server
        .send(format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Location: {location}\r\n\
             Content-Length: 0\r\n\r\n"
        ))
        .await;
    let answer = client.read_response().await;
    server.close().await;
    assert_eq!(answer.status(), 307);
    assert_eq!(answer.header("content-location"), answer.header("location"));
    assert!(upstream.is_untouched(), "the proxy followed");
    answer.header("location").expect("there")
}

#[tokio::test]
async fn a_redirect_to_the_upstream_itself_leads_back_through_the_route() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let own = format!("http://{}", upstream.address);
    for (sent, seen) in [
        (format!("{own}/mcp/?x=1"), "/a/mcp/?x=1"),
        ("/mcp/".to_owned(), "/a/mcp/"),
        ("mcp/".to_owned(), "mcp/"),
        ("https://login.example/authorize?x".to_owned(), "https://login.example/authorize?x"),
    ] {
        assert_eq!(seen_location(&proxy, &upstream, &sent).await, seen);
    }
}

#[tokio::test]
async fn a_route_can_leave_redirects_as_they_are() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&format!("{}rewrite_location = false\n", upstream.route("a")));
    let own = format!("http://{}/mcp/", upstream.address);
    assert_eq!(seen_location(&proxy, &upstream, &own).await, own);
}
