//! What a server says about authorization: byte for byte, or with its own URLs exchanged for the client's
//! (`auth_rewrite`).

use crate::{
    message::{LAST_CHUNK, chunk, post},
    raw::{Upstream, Wire},
    support::Mcpmeter,
};

const METADATA: &str = "/.well-known/oauth-protected-resource";

fn get(host: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n\r\n")
}

/// Sends a request, answers it with these bytes, and gives what the upstream was asked and what the client got.
async fn relay(proxy: &Mcpmeter, upstream: &Upstream, request: String, answer: &str) -> (String, Vec<u8>) {
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(request).await;
    let mut server = tokio::select! {
        server = upstream.accept() => server,
        refusal = client.read_response() => panic!("refused: {refusal:?}"),
    };
    let asked = server.read_request().await;
    server.send(answer).await;
    server.close().await;
    client.read_response().await;
    (asked.start_line(), client.got().to_vec())
}

/// A 401 as servers send it, with a challenge that names the metadata between two others.
fn challenge(metadata: &str) -> String {
    format!(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
         WWW-Authenticate: Bearer error=\"invalid_token\",  resource_metadata=\"{metadata}\", scope=\"a b\"\r\n\
         www-authenticate: DPoP algs=\"ES256\"\r\nContent-Length: 2\r\n\r\n{{}}"
    )
}

fn metadata(resource: &str, server: &str) -> String {
    format!(
        "{{\n  \"resource\" : \"{resource}\",\n  \"authorization_servers\": [\"{server}\"], \"x\": 1.0\n}}"
    )
}

fn json(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn by_default_everything_passes_byte_for_byte() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let own = format!("http://{}", upstream.address);
    let answer = challenge(&format!("{own}{METADATA}/mcp"));
    let (_, got) = relay(&proxy, &upstream, post("localhost", "/a/mcp", "{}"), &answer).await;
    assert_eq!(String::from_utf8_lossy(&got), answer);
    // A server that was told its public URL has put the document where that leads.
    for document in [METADATA, "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]
    {
        let answer = json(&metadata(&format!("{own}/mcp"), &own));
        let target = format!("{document}/a/mcp?x=%20");
        let (asked, got) = relay(&proxy, &upstream, get("localhost", &target), &answer).await;
        assert_eq!(asked, format!("GET {target} HTTP/1.1"));
        assert_eq!(String::from_utf8_lossy(&got), answer);
    }
}

#[tokio::test]
async fn with_urls_a_client_is_led_from_the_challenge_to_metadata_of_what_it_dialled() {
    let upstream = Upstream::bind();
    let route = upstream.route("a").replace("\"\n", "/v1\"\n").replace("\"a/v1\"", "\"a\"");
    let proxy = Mcpmeter::start(&format!("{route}auth_rewrite = \"urls\"\n"));
    let own = format!("http://{}", upstream.address);
    let host = proxy.proxy.to_string();
    let answer = challenge(&format!("{own}{METADATA}/v1/mcp"));
    let (asked, got) = relay(&proxy, &upstream, post(&host, "/a/mcp", "{}"), &answer).await;
    assert_eq!(asked, "POST /v1/mcp HTTP/1.1");
    let expected = challenge(&format!("http://{host}{METADATA}/a/mcp"));
    assert_eq!(String::from_utf8_lossy(&got), expected, "one URL, and not another byte");
    let before = metadata(&format!("{own}/v1/mcp"), &own);
    let after = metadata(&format!("http://{host}/a/mcp"), &own);
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks: Vec<u8> = before.as_bytes().chunks(7).flat_map(chunk).collect();
    let chunked =
        String::from_utf8([chunked.as_bytes(), &chunks, LAST_CHUNK.as_bytes()].concat()).expect("text");
    for answer in [json(&before), chunked] {
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(get(&host, &format!("{METADATA}/a/mcp"))).await;
        let mut server = upstream.accept().await;
        let asked = server.read_request().await;
        assert_eq!(asked.start_line(), format!("GET {METADATA}/v1/mcp HTTP/1.1"));
        assert_eq!(asked.header("accept-encoding").as_deref(), Some("identity"));
        server.send(answer).await;
        server.close().await;
        let response = client.read_response().await;
        assert!(response.complete);
        assert_eq!(response.text(), after);
    }
    assert!(proxy.stop().await.is_empty(), "no call, no row");
}

#[tokio::test]
async fn with_urls_the_scheme_is_the_one_that_the_client_used() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start_in(
        tempfile::tempdir().expect("a temporary folder"),
        &format!("{}host = \"mcp.example\"\nauth_rewrite = \"urls\"\n", upstream.route("a")),
        &[],
    );
    let request = post("mcp.example", "/mcp", "{}").replacen("\r\n", "\r\nX-Forwarded-Proto: https\r\n", 1);
    let answer = challenge(&format!("http://{}{METADATA}/mcp", upstream.address));
    let (_, got) = relay(&proxy, &upstream, request, &answer).await;
    assert_eq!(String::from_utf8_lossy(&got), challenge(&format!("https://mcp.example{METADATA}/mcp")));
}

#[tokio::test]
async fn with_urls_nothing_changes_that_points_elsewhere_or_is_no_metadata() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&format!("{}auth_rewrite = \"urls\"\n", upstream.route("a")));
    let own = format!("http://{}", upstream.address);
    let elsewhere = challenge("https://login.example/.well-known/oauth-protected-resource/mcp");
    let (_, got) = relay(&proxy, &upstream, post("localhost", "/a/mcp", "{}"), &elsewhere).await;
    assert_eq!(String::from_utf8_lossy(&got), elsewhere);
    let document = json(&metadata(&format!("{own}/mcp"), &own));
    let authorization_server = "/.well-known/oauth-authorization-server/a";
    for (request, answer) in [
        // Not metadata of a resource, not asked for as such, not plain.
        (get("localhost", authorization_server), document.clone()),
        (post("localhost", &format!("{METADATA}/a/mcp"), "{}"), document.clone()),
        (
            get("localhost", &format!("{METADATA}/a/mcp")),
            document.replacen("\r\n", "\r\nContent-Encoding: gzip\r\n", 1),
        ),
        (get("localhost", &format!("{METADATA}/a/mcp")), document.replace("200 OK", "404 Not Found")),
    ] {
        let (_, got) = relay(&proxy, &upstream, request, &answer).await;
        assert_eq!(String::from_utf8_lossy(&got), answer);
    }
}
