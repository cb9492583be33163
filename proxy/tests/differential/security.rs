//! Security and rewriting: names, origins and redirects, and nothing secret in anything that is kept.

use crate::{
    bench::Case,
    inbox::Message,
    script::{Line, client, exchange, upstream},
    wire::{ACCEPTED, SSE_HEAD, answer, call, get_stream, json_answer, post, post_with, request, result},
};
use serde_json::json;

/// A POST that calls the server by a name of its own.
fn post_to(host: &str, headers: &str) -> String {
    let body = call("1", "add");
    format!(
        "POST {{prefix}}/mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn host_and_rebinding() {
    let evil = [
        ("evil.example", ""),
        ("evil.example:7300", "Origin: http://evil.example\r\n"),
        ("evil.example", "Origin: http://localhost\r\n"),
        ("localhost.evil.example", ""),
        ("127.0.0.1.evil.example", ""),
    ];
    let play = evil.iter().enumerate().flat_map(|(number, (host, headers))| {
        let name = format!("{number}");
        [client(name.clone()).sends(post_to(host, headers)), client(name).gets_answer()]
    });
    let outcome = Case::new(play).run_proxied().await;
    let statuses: Vec<_> = outcome.proxied.answers().map(Message::status).collect();
    assert_eq!((statuses, outcome.proxied.untaken), (vec![403; evil.len()], 0));
    outcome.assert_rows(&json!([]));
}

#[tokio::test]
async fn host_and_rebinding_of_honest_clients() {
    // A server that allows its own names only sees one of them, whatever the client called the proxy.
    let play = ["localhost", "127.0.0.1:1", "[::1]:80", "LOCALHOST"]
        .map(|host| exchange(host, post_to(host, ""), json_answer(result("1"))))
        .concat();
    let outcome = Case::new(play).run_proxied().await;
    let named = |host: &'static str| outcome.proxied.request(host).values("host");
    assert!(named("localhost") == named("[::1]:80") && named("localhost") == named("127.0.0.1:1"));
    assert!(named("localhost")[0].starts_with("127.0.0.1:"), "the upstream's own name");
    assert_eq!(outcome.rows.len(), 4);
}

#[tokio::test]
async fn host_and_rebinding_in_redirects() {
    // Where the server names itself, the client must not see it.
    let redirect = |location: &str| {
        format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Location: {location}\r\n\
             X-End: 1\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let locations = [
        "http://{upstream}/mcp/?x=1",
        "/mcp/",
        "mcp/",
        "https://login.example/authorize?x",
        "//other.example/",
    ];
    let play = locations.map(|location| exchange(location, get_stream("/mcp", ""), redirect(location)));
    let outcome = Case::new(play.concat()).run().await;
    assert_eq!(outcome.proxied.answer("http://{upstream}/mcp/?x=1").values("location"), ["/a/mcp/?x=1"]);
    assert_eq!(outcome.proxied.answer("mcp/").values("location"), ["mcp/"]);
    outcome.assert_rows(&json!([]));
}

#[tokio::test]
async fn origin_untouched() {
    let refusal = answer("403 Forbidden", "Content-Type: text/plain\r\n", "invalid origin");
    let origins = ["http://page.example", "null", "http://localhost:6274"];
    let play = origins.map(|origin| {
        let headers = format!("Origin: {origin}\r\n");
        exchange(origin, post_with("/mcp", &headers, call("1", "add")), refusal.clone())
    });
    let outcome = Case::new(play.concat()).run().await;
    for origin in origins {
        assert_eq!(outcome.proxied.request(origin).values("origin"), [origin]);
    }
    let row = json!({ "status": "http_error", "http_status": 403, "error_message": "invalid origin" });
    outcome.assert_rows(&json!([row, row, row]));
}

/// Where a client looks for the metadata of the resource at `/a/mcp`.
const METADATA: &str = "/.well-known/oauth-protected-resource/a/mcp";

/// A refusal that names the metadata, and the metadata: both of a server that only knows its own name.
fn authorization_play() -> Vec<Line> {
    let challenge = "Basic realm=\"x\", Bearer scope=\"a b\", resource_metadata=\
                     \"http://{upstream}/.well-known/oauth-protected-resource/mcp\"";
    let refusal = answer("401 Unauthorized", &format!("WWW-Authenticate: {challenge}\r\n"), "{}");
    let mut play = exchange("call", post("/mcp", call("1", "add")), refusal);
    // Without a length, because the server's name is filled in later.
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    let metadata = "{ \"resource\":\"http://{upstream}/mcp\",\n\
                    \"authorization_servers\":[\"https://login.example\"], \"x\":1.0}";
    play.extend([
        client("metadata").sends(format!("GET {METADATA} HTTP/1.1\r\nHost: {{host}}\r\n\r\n")),
        upstream("metadata").takes("GET"),
        upstream("metadata").sends(format!("{head}{metadata}")),
        upstream("metadata").closes(),
        client("metadata").gets_answer(),
    ]);
    play
}

#[tokio::test]
async fn oauth_same_public_url() {
    // The flows of real SDKs are elsewhere; here is that by default not a byte is rewritten.
    let outcome = Case::new(authorization_play()).run().await;
    outcome.assert_rows(&json!([{ "status": "http_error", "status_detail": "auth_challenge" }]));
}

#[tokio::test]
async fn oauth_urls_mode() {
    let outcome =
        Case::new(authorization_play()).with_route("auth_rewrite = \"urls\"").run_proxied().await.proxied;
    let asked = outcome.request("metadata");
    assert_eq!(asked.lines()[0], "GET /.well-known/oauth-protected-resource/mcp HTTP/1.1");
    let own = &asked.values("host")[0];
    let metadata: serde_json::Value = serde_json::from_slice(&outcome.answer("metadata").body).expect("JSON");
    assert_eq!(metadata["authorization_servers"][0], "https://login.example");
    let resource = metadata["resource"].as_str().expect("a text");
    let dialled = resource.strip_suffix("/a/mcp").expect("what the client calls it");
    assert_ne!(dialled, format!("http://{own}"));
    let expected =
        format!("Basic realm=\"x\", Bearer scope=\"a b\", resource_metadata=\"{dialled}{METADATA}\"");
    assert_eq!(outcome.answer("call").values("www-authenticate"), [expected]);
}

#[tokio::test]
async fn cors_single() {
    let preflight = "OPTIONS {prefix}/mcp HTTP/1.1\r\nHost: {host}\r\nOrigin: http://page.example\r\n\
                     Access-Control-Request-Method: POST\r\n\
                     Access-Control-Request-Headers: content-type, mcp-session-id\r\n\r\n";
    let allowed = "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: http://page.example\r\n\
                   Access-Control-Allow-Headers: content-type, mcp-session-id\r\nVary: Origin\r\n\r\n";
    let headers = "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: Mcp-Session-Id\r\n";
    let mut play = exchange("preflight", preflight, allowed);
    let call = post_with("/mcp", "Origin: http://page.example\r\n", call("1", "add"));
    play.extend(exchange("call", call, answer("200 OK", headers, result("1"))));
    let outcome = Case::new(play).run().await;
    for name in ["preflight", "call"] {
        assert_eq!(outcome.proxied.answer(name).values("access-control-allow-origin").len(), 1, "{name}");
    }
    outcome.assert_rows(&json!([{ "status": "ok" }]));
}

#[tokio::test]
async fn no_secrets() {
    let secrets = [
        "the-session-id-that-is-secret",
        "the-bearer-that-is-secret",
        "the-request-state-that-is-secret",
        "the-task-id-that-is-secret",
        "the-query-token-that-is-secret",
        "the-legacy-session-that-is-secret",
        "the-cookie-that-is-secret",
        "the-argument-that-is-secret",
        "the-event-id-that-is-secret",
        "the-api-key-that-is-secret",
    ];
    let [session, bearer, state, task, query, legacy, cookie, argument, event, key] = secrets;
    let headers = format!(
        "Mcp-Session-Id: {session}\r\nAuthorization: Bearer {bearer}\r\nCookie: a={cookie}\r\n\
         X-Api-Key: {key}\r\nLast-Event-ID: {event}\r\n"
    );
    let target = format!("/mcp?token={query}");
    let json_with = |result: &str| json_answer(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#));
    let params = format!(r#"{{"name":"add","requestState":"{state}","arguments":{{"a":"{argument}"}}}}"#);
    let asked = request("1", "tools/call", &params);
    let mut play = exchange(
        "state",
        post_with(&target, &headers, &asked),
        json_with(&format!(r#"{{"resultType":"input_required","requestState":"{state}"}}"#)),
    );
    play.extend(exchange(
        "task",
        post_with(&target, &headers, &asked),
        json_with(&format!(r#"{{"resultType":"task","taskId":"{task}"}}"#)),
    ));
    let refusal = format!("Bearer {bearer} is not valid; see https://{bearer}@a.example/");
    play.extend(exchange(
        "refused",
        post_with(&target, &headers, &asked),
        answer("401 Unauthorized", "Content-Type: text/plain\r\n", refusal),
    ));
    play.extend(exchange("odd", get_stream(&target, &headers), answer("200 OK", "", "")));
    play.extend([
        client("stream").sends(get_stream("/sse", &headers)),
        upstream("stream").takes("/sse"),
        upstream("stream").sends(SSE_HEAD),
        upstream("stream").sends_chunk(format!("event: endpoint\ndata: /m?s={legacy}\n\n")),
        client("stream").gets("secret\n\n"),
    ]);
    play.extend(exchange("post", post(&format!("/m?s={legacy}"), call("1", "add")), ACCEPTED));
    play.extend([client("stream").closes(), upstream("stream").sees_end()]);
    let outcome = Case::new(play).run().await;
    assert_eq!(outcome.rows.len(), 4);
    for secret in secrets {
        assert!(!outcome.has_kept(secret), "{secret} is kept somewhere");
    }
}

#[tokio::test]
async fn no_secrets_in_a_url_of_an_error() {
    let said = "not allowed: https://a.example/callback?access_token=a-token-that-is-secret&x=1";
    let refusal = answer("403 Forbidden", "Content-Type: text/plain\r\n", said);
    let outcome = Case::new(exchange("c", post("/mcp", call("1", "add")), refusal)).run().await;
    assert!(!outcome.has_kept("a-token-that-is-secret"), "{}", outcome.rows[0]["error_message"]);
}
