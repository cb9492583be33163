//! TLS on both sides: clients that are spoken to by `[proxy.tls]`, and upstreams behind `https://`.

use crate::{
    certificates::Certificate,
    message::{call, json_answer, post, result},
    raw::{Upstream, Wire},
    serving::Serving,
    support::Mcpmeter,
};
use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::fs;
use tempfile::{TempDir, tempdir};
use tokio::{net::TcpStream, task::JoinSet};

const TLS: &str = "[proxy.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";

fn start_with_tls(certificate: &Certificate, routes: &str) -> Mcpmeter {
    let folder = tempdir().expect("a temporary folder");
    certificate.write(folder.path());
    Mcpmeter::start_in(folder, &format!("{TLS}{routes}"), &[])
}

/// An upstream that speaks TLS with this certificate, and the route to it.
fn https_route(upstream: &Upstream, keys: &str) -> String {
    format!("[[route]]\nname = \"a\"\nupstream = \"https://localhost:{}\"\n{keys}\n", upstream.address.port())
}

fn folder_trusting(certificate: &Certificate) -> TempDir {
    let folder = tempdir().expect("a temporary folder");
    certificate.write_certificate(&folder.path().join("ca.pem"));
    folder
}

#[tokio::test]
async fn a_client_chooses_http_1_or_2_by_alpn() {
    let upstream = Serving::results();
    let certificate = Certificate::of("localhost");
    let proxy = start_with_tls(&certificate, &upstream.route("a"));
    for (offered, chosen) in
        [(vec!["h2", "http/1.1"], Some("h2")), (vec!["http/1.1"], Some("http/1.1")), (vec![], None)]
    {
        let stream = TcpStream::connect(proxy.proxy).await.expect("accepted");
        let stream = certificate.connect(stream, "localhost", &offered).await.expect("trusted");
        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(protocol.as_deref(), chosen.map(str::as_bytes));
        if chosen == Some("h2") {
            let mut tasks = JoinSet::new();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .expect("HTTP/2");
            tasks.spawn(connection);
            let request = Request::post("https://localhost/a/mcp")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(call(1, "add"))));
            let response = sender.send_request(request.expect("valid")).await.expect("answered");
            assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
            let body = response.into_body().collect().await.expect("complete").to_bytes();
            assert_eq!(body, result(1));
        } else {
            let mut client = Wire::over(stream);
            client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
            assert_eq!(client.read_response().await.text(), result(1));
        }
    }
    assert_eq!(proxy.stop().await.len(), 3);
}

#[tokio::test]
async fn cleartext_on_a_tls_port_reaches_nobody() {
    let upstream = Upstream::bind();
    let proxy = start_with_tls(&Certificate::of("localhost"), &upstream.route("a"));
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    client.gone().await;
    assert!(!client.got().starts_with(b"HTTP/"), "{:?}", client.got());
    assert!(upstream.is_untouched());
}

#[tokio::test]
async fn a_reload_reads_the_certificate_again_and_keeps_the_old_one_if_it_is_broken() {
    let (old, new) = (Certificate::of("localhost"), Certificate::of("localhost"));
    let upstream = Serving::results();
    let mut proxy = start_with_tls(&old, &upstream.route("a"));
    let connect = async |trusted: &Certificate| {
        let stream = TcpStream::connect(proxy.proxy).await.expect("accepted");
        trusted.connect(stream, "localhost", &[]).await
    };
    let mut before = Wire::over(connect(&old).await.expect("trusted"));
    fs::write(proxy.folder().join("key.pem"), "no key").expect("written");
    proxy.signal("HUP");
    proxy.wait_for_log("the old certificate stays in force");
    let connect = async |trusted: &Certificate| {
        let stream = TcpStream::connect(proxy.proxy).await.expect("accepted");
        trusted.connect(stream, "localhost", &[]).await
    };
    connect(&old).await.expect("still the old one");
    new.write(proxy.folder());
    proxy.signal("HUP");
    // The second reload is the one that does not complain.
    let reloads = || proxy.log().iter().filter(|line| line.contains("configuration reloaded")).count();
    crate::support::eventually("two reloads", || reloads() == 2).await;
    connect(&new).await.expect("the new one");
    connect(&old).await.expect_err("no longer the old one");
    // A connection that was there goes on.
    before.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    assert_eq!(before.read_response().await.text(), result(1));
}

#[tokio::test]
async fn an_https_upstream_is_trusted_by_its_ca_file() {
    let upstream = Upstream::bind();
    let certificate = Certificate::of("localhost");
    let folder = folder_trusting(&certificate);
    let proxy = Mcpmeter::start_in(folder, &https_route(&upstream, "ca_file = \"ca.pem\""), &[]);
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    let mut server = certificate.accept(upstream.accept().await.into_stream()).await.expect("trusted");
    let request = server.read_request().await;
    assert_eq!(request.text(), call(1, "add"));
    assert_eq!(request.header("host"), Some(format!("localhost:{}", upstream.address.port())));
    server.send(json_answer(&result(1))).await;
    assert_eq!(client.read_response().await.text(), result(1));
    let rows = proxy.stop().await;
    assert_eq!(rows.iter().map(|row| row["status"].as_str()).collect::<Vec<_>>(), [Some("ok")]);
}

#[tokio::test]
async fn an_https_upstream_that_is_not_trusted_is_502_and_gets_no_request() {
    let own = Certificate::of("localhost");
    // Signed by somebody else; the right signer but for another name; not in the system's store either.
    let wrong_name = Certificate::of("other.example");
    let cases = [
        (&own, Some(Certificate::of("localhost"))),
        (&wrong_name, Some(Certificate::of("localhost"))),
        (&own, None),
    ];
    for (shown, trusted) in cases {
        let upstream = Upstream::bind();
        let folder = folder_trusting(trusted.as_ref().unwrap_or(shown));
        let keys = if trusted.is_some() { "ca_file = \"ca.pem\"" } else { "" };
        let proxy = Mcpmeter::start_in(folder, &https_route(&upstream, keys), &[]);
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
        let server = shown.accept(upstream.accept().await.into_stream()).await;
        assert!(server.is_err(), "the handshake fails before a request");
        let answer = client.read_response().await;
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.header("proxy-status").as_deref(), Some("mcpmeter; error=tls_protocol_error"));
        let rows = proxy.stop().await;
        assert_eq!(rows.len(), 1);
        let text = |key: &str| rows[0][key].as_str();
        assert_eq!(
            (text("status"), text("status_detail"), text("error_code")),
            (Some("upstream_error"), Some("unreachable"), Some("tls_error"))
        );
        assert!(
            text("error_message").is_some_and(|message| message.contains("certificate")),
            "{:?}",
            rows[0]
        );
    }
}
