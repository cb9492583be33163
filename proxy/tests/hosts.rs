//! The name by which a client calls the proxy: it can choose the route, and a name that is not ours gets
//! nowhere.

use crate::{
    message::{Message, call, json_answer, post, result},
    raw::{Upstream, Wire},
    spawned::Spawned,
    support::Mcpmeter,
};
use std::{fs, net::SocketAddr};
use tempfile::tempdir;

async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Message {
    let mut client = Wire::connect(address).await;
    client.send(request).await;
    client.read_response().await
}

/// Asks and answers as the upstream; gives the request that the upstream saw.
async fn ask_through(address: SocketAddr, upstream: &Upstream, request: String) -> Message {
    let serve = async {
        let mut server = upstream.accept().await;
        let request = server.read_request().await;
        server.send(json_answer(&result(1))).await;
        (request, server)
    };
    let (answer, (seen, server)) = tokio::join!(ask(address, request), serve);
    assert_eq!(answer.text(), result(1));
    server.close().await;
    seen
}

#[tokio::test]
async fn a_foreign_host_is_refused_before_anything_reaches_the_upstream() {
    let upstream = Upstream::bind();
    let by_host = format!("{}host = \"tools.example\"\n", upstream.route("b"));
    let proxy = Mcpmeter::start(&format!("{}{by_host}", upstream.route("a")));
    let body = call(1, "add");
    for host in [
        "evil.example",
        "evil.example:7300",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "sub.tools.example",
        "*",
        "0.0.0.0",
        "192.0.2.1",
        "[2001:db8::1]:80",
    ] {
        let answer = ask(proxy.proxy, post(host, "/a/mcp", &body)).await;
        assert_eq!(answer.status(), 403, "{host}");
        assert_eq!(answer.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("proxy-status").as_deref(), Some("mcpmeter; error=http_request_denied"));
    }
    // The target's authority wins over `Host`, and a harmless `Origin` changes nothing.
    let absolute = post("localhost", "http://evil.example/a/mcp", &body);
    assert_eq!(ask(proxy.proxy, absolute).await.status(), 403);
    let origin =
        post("evil.example", "/a/mcp", &body).replacen("\r\n", "\r\nOrigin: http://localhost\r\n", 1);
    assert_eq!(ask(proxy.proxy, origin).await.status(), 403);
    assert!(proxy.stop().await.is_empty(), "no call, no row");
    assert!(upstream.is_untouched());
}

#[tokio::test]
async fn loopback_names_and_public_hosts_pass() {
    let upstream = Upstream::bind();
    let folder = tempdir().expect("a temporary folder");
    let proxy = Mcpmeter::start_in(folder, &upstream.route("a"), &["public_hosts = [\"mcp.example.com\"]"]);
    for host in
        ["localhost", "LocalHost:1", "127.0.0.1", "[::1]:7300", "mcp.example.com", "MCP.example.COM:443"]
    {
        let seen = ask_through(proxy.proxy, &upstream, post(host, "/a/mcp", &call(1, "add"))).await;
        assert_eq!(seen.header("host"), Some(upstream.address.to_string()), "{host}");
    }
    // From HTTP/1.0, which no browser speaks.
    let old = "GET /a/mcp HTTP/1.0\r\n\r\n".to_owned();
    let seen = ask_through(proxy.proxy, &upstream, old).await;
    assert_eq!(seen.start_line(), "GET /mcp HTTP/1.1");
    assert_eq!(ask(proxy.proxy, post("other.example.com", "/a/mcp", "")).await.status(), 403);
}

#[tokio::test]
async fn a_host_name_leads_to_its_route_and_the_others_stay_behind_their_prefixes() {
    let (by_path, by_host) = (Upstream::bind(), Upstream::bind());
    let base = by_host.route("b").replace("\"\n", "/base\"\n").replace("name = \"b/base\"", "name = \"b\"");
    let proxy = Mcpmeter::start(&format!("{}{base}host = \"tools.example\"\n", by_path.route("a")));
    let body = call(1, "add");
    for (host, target, asked) in
        [("tools.example", "/mcp", "/base/mcp"), ("Tools.Example:7300", "/a/mcp?x", "/base/a/mcp?x")]
    {
        let seen = ask_through(proxy.proxy, &by_host, post(host, target, &body)).await;
        assert_eq!(seen.start_line(), format!("POST {asked} HTTP/1.1"));
    }
    let seen = ask_through(proxy.proxy, &by_path, post("localhost", "/a/mcp", &body)).await;
    assert_eq!(seen.start_line(), "POST /mcp HTTP/1.1");
    let answer = ask(proxy.proxy, post("localhost", "/b/mcp", &body)).await;
    assert_eq!(answer.status(), 404, "a route by host has no prefix");
    let rows = proxy.stop().await;
    let instances: Vec<_> = rows.iter().map(|row| row["mcp_server_instance_id"].as_str()).collect();
    assert_eq!(instances, [Some("b"), Some("b"), Some("a")]);
}

#[tokio::test]
async fn a_preserved_host_reaches_the_upstream() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&format!("{}preserve_host = true\n", upstream.route("a")));
    let seen = ask_through(proxy.proxy, &upstream, post("localhost:1234", "/a/mcp", &call(1, "add"))).await;
    assert_eq!(seen.header("host").as_deref(), Some("localhost:1234"));
}

#[tokio::test]
async fn a_proxy_for_other_machines_serves_any_host() {
    let upstream = Upstream::bind();
    let folder = tempdir().expect("a temporary folder");
    let config = format!(
        "[proxy]\nlisten = \"0.0.0.0:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n{}",
        upstream.route("a")
    );
    fs::write(folder.path().join("mcpmeter.toml"), config).expect("a configuration");
    let mut proxy = Spawned::start(folder.path(), &["serve"]);
    let listening: serde_json::Value =
        serde_json::from_str(&proxy.wait_for_stderr("listening")).expect("a line of the log");
    let bound: SocketAddr = listening["proxy.address"].as_str().expect("a text").parse().expect("an address");
    let address = SocketAddr::from(([127, 0, 0, 1], bound.port()));
    // What names lead here is known to whoever runs it; the loopback check would only break it.
    ask_through(address, &upstream, post("anything.example", "/a/mcp", &call(1, "add"))).await;
    // But it is nobody's business what else is here.
    let mut client = Wire::connect(address).await;
    client.send(post("anything.example", "/b/mcp", &call(1, "add"))).await;
    let answer = client.read_response().await;
    assert_eq!((answer.status(), answer.text().contains("/a/")), (404, false), "{}", answer.text());
}
