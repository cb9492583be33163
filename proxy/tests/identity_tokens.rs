//! Callers with JSON Web Tokens: who gets in, what the server sees of it, and what the rows say. The tokens are made with
//! Node's cryptography, ours are checked with ring.

use crate::{
    message::{Message, call, get_stream, post, result},
    raw::Wire,
    scripted_http::{Reply, ScriptedHttp},
    support::{Mcpmeter, PATIENCE},
    token_issuer::{AUDIENCE, ISSUER, TokenIssuer, now},
};
use serde_json::{Value, json};
use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const METADATA: &str = "/.well-known/oauth-protected-resource";

/// A server that answers every call.
async fn server() -> ScriptedHttp {
    ScriptedHttp::start(|seen| {
        let id = seen.body["id"].as_u64().unwrap_or_default();
        Reply::json(&serde_json::from_str(&result(id)).expect("JSON"))
    })
    .await
}

fn route(server: &ScriptedHttp, identity: &str) -> String {
    let (url, name) = (server.url(""), "a");
    format!(
        "[[route]]\nname = \"{name}\"\nupstream = \"{url}\"\nuser_id = \"u_route\"\n[route.identity]\n{identity}\n"
    )
}

fn tokens(mode: &str, jwks: &str) -> String {
    format!(
        "mode = \"{mode}\"\nissuer = \"{ISSUER}\"\naudience = [\"{AUDIENCE}\"]\njwks = \"{jwks}\"\n\
         organization_claim = \"org\"\n"
    )
}

/// A request with one more header line.
fn with(request: &str, line: &str) -> String {
    request.replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1)
}

async fn ask(proxy: &Mcpmeter, request: String) -> Message {
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(request).await;
    client.read_response().await
}

async fn call_with(proxy: &Mcpmeter, token: &str) -> Message {
    let request = post("localhost", "/a/mcp", &call(1, "add"));
    ask(proxy, with(&request, &format!("Authorization: Bearer {token}"))).await
}

/// What a row says of its caller.
fn caller_of(row: &Value) -> [&str; 4] {
    ["auth_method", "auth_state", "user_id", "organization_id"].map(|name| row[name].as_str().unwrap_or("-"))
}

/// An issuer whose keys are in a file, and a proxy that trusts it.
struct Scene {
    issuer: TokenIssuer,
    server: ScriptedHttp,
    proxy: Mcpmeter,
    _folder: tempfile::TempDir,
}

async fn scene(keys: &str) -> Scene {
    let mut issuer = TokenIssuer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jwks.json");
    fs::write(&file, issuer.jwks(&["rsa1", "ec1", "ec2", "ed1"]).to_string()).expect("written");
    let server = server().await;
    let identity = tokens("jwt", &file.display().to_string());
    let proxy = Mcpmeter::start(&route(&server, &format!("{identity}{keys}")));
    Scene { issuer, server, proxy, _folder: folder }
}

#[tokio::test]
async fn a_valid_token_of_every_algorithm_gets_in_and_goes_no_further() {
    let mut scene = scene("algorithms = [\"RS256\", \"PS256\", \"ES256\", \"ES384\", \"EdDSA\"]").await;
    for (key, alg) in
        [("rsa1", "RS256"), ("rsa1", "PS256"), ("ec1", "ES256"), ("ec2", "ES384"), ("ed1", "EdDSA")]
    {
        let token = scene.issuer.token(key, alg, &json!({}), &json!({}));
        assert_eq!(call_with(&scene.proxy, &token).await.status(), 200, "{alg}");
    }
    let seen = scene.server.seen();
    assert!(seen.iter().all(|request| !request.headers.contains_key("authorization")));
    let rows = scene.proxy.stop().await;
    assert_eq!((rows.len(), caller_of(&rows[0])), (5, ["jwt", "ok", "ann", "acme"]));
    assert!(rows.iter().all(|row| row["status"] == "ok"));
}

/// Tokens that must not get in: what they are, what the client is told of each, and what the row says.
fn bad_tokens(issuer: &mut TokenIssuer) -> Vec<(&'static str, String, &'static str, &'static str)> {
    let plain = json!({});
    let right = issuer.right();
    let [head, _, signature] = right.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let other = issuer.token("rsa1", "RS256", &plain, &json!({ "sub": "root" }));
    let payload = other.split('.').nth(1).expect("a payload").to_owned();
    let mut of = |alg: &str, header: Value, claims: Value| issuer.token("rsa1", alg, &header, &claims);
    vec![
        ("garbage", "abc".to_owned(), "token_malformed", "invalid"),
        ("two parts", format!("{head}.{payload}"), "token_malformed", "invalid"),
        ("alg none", of("none", json!({}), json!({})), "token_malformed", "invalid"),
        ("the public key as a secret", of("HS256", json!({}), json!({})), "token_malformed", "invalid"),
        (
            "another alg than signed",
            of("RS256", json!({ "alg": "PS256" }), json!({})),
            "token_forged",
            "invalid",
        ),
        (
            "a key of another kind",
            of("RS256", json!({ "kid": "ec1" }), json!({})),
            "token_key_unknown",
            "invalid",
        ),
        ("an unknown key", of("RS256", json!({ "kid": "x" }), json!({})), "token_key_unknown", "invalid"),
        ("another payload", format!("{head}.{payload}.{signature}"), "token_forged", "invalid"),
        ("no signature", format!("{head}.{payload}."), "token_forged", "invalid"),
        ("expired", of("RS256", json!({}), json!({ "exp": now() - 60 })), "token_expired", "expired"),
        ("not yet", of("RS256", json!({}), json!({ "nbf": now() + 600 })), "token_expired", "expired"),
        ("for ever", of("RS256", json!({}), json!({ "exp": null })), "token_malformed", "invalid"),
        ("of nobody", of("RS256", json!({}), json!({ "iss": null })), "token_malformed", "invalid"),
        (
            "of somebody else",
            of("RS256", json!({}), json!({ "iss": "https://evil" })),
            "token_issuer",
            "invalid",
        ),
        ("for nobody", of("RS256", json!({}), json!({ "aud": null })), "token_malformed", "invalid"),
        (
            "for somebody else",
            of("RS256", json!({}), json!({ "aud": ["https://b"] })),
            "token_audience",
            "invalid",
        ),
        ("without a user", of("RS256", json!({}), json!({ "sub": null })), "token_user", "invalid"),
        (
            "a user that is a list",
            of("RS256", json!({}), json!({ "sub": ["ann"] })),
            "token_malformed",
            "invalid",
        ),
        (
            "critical",
            of("RS256", json!({ "crit": ["b64"], "b64": false }), json!({})),
            "token_malformed",
            "invalid",
        ),
    ]
}

#[tokio::test]
async fn no_other_token_gets_in() {
    let mut scene = scene("").await;
    let bad = bad_tokens(&mut scene.issuer);
    for (what, token, code, _) in &bad {
        let answer = call_with(&scene.proxy, token).await;
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert_eq!(answer.status(), 401, "{what}");
        assert!(challenge.starts_with("Bearer error=\"invalid_token\", error_description="), "{challenge}");
        assert!(answer.text().contains(code), "{what}: {}", answer.text());
        assert!(!answer.text().contains(token.as_str()), "{what}");
    }
    assert_eq!(scene.server.seen().len(), 0);
    let rows = scene.proxy.stop().await;
    assert_eq!(rows.len(), bad.len());
    for ((what, _, code, state), row) in bad.iter().zip(&rows) {
        assert_eq!(
            (&row["status"], &row["origin"], &row["http_status"]),
            (&json!("denied"), &json!("client"), &json!(401)),
            "{what}"
        );
        assert_eq!((&row["error_code"], &row["tool_name"]), (&json!(code), &json!("add")), "{what}");
        assert_eq!(caller_of(row), ["jwt", *state, "u_route", "-"], "{what}");
    }
}

#[tokio::test]
async fn a_token_stands_in_one_header_and_nowhere_else() {
    let mut scene = scene("").await;
    let (token, request) = (scene.issuer.right(), post("localhost", "/a/mcp", &call(1, "add")));
    let in_url = post("localhost", &format!("/a/mcp?access_token={token}"), &call(1, "add"));
    let twice = with(&with(&request, &format!("Authorization: Bearer {token}")), "Authorization: Bearer x");
    for (what, request, code) in [
        ("nothing", request.clone(), "token_missing"),
        ("in the URL", in_url, "token_missing"),
        ("another scheme", with(&request, "Authorization: Basic YTpi"), "token_missing"),
        ("a key's header", with(&request, &format!("X-API-Key: {token}")), "token_missing"),
        ("twice", twice, "token_malformed"),
    ] {
        let answer = ask(&scene.proxy, request).await;
        assert_eq!((answer.status(), answer.text().contains(code)), (401, true), "{what}: {}", answer.text());
    }
    assert_eq!(scene.server.seen().len(), 0);
}

#[tokio::test]
async fn what_is_no_call_is_refused_too_and_leaves_a_row() {
    let mut scene = scene("").await;
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
    let delete = "DELETE /a/mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: s\r\n\r\n";
    let requests = [
        post("localhost", "/a/mcp", initialize),
        get_stream("localhost", "/a/mcp"),
        delete.to_owned(),
        "OPTIONS /a/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        post("localhost", "/a/anything/else", "no json"),
    ];
    for request in &requests {
        assert_eq!(ask(&scene.proxy, request.clone()).await.status(), 401, "{request}");
    }
    assert_eq!(call_with(&scene.proxy, &scene.issuer.right()).await.status(), 200);
    let rows = scene.proxy.stop().await;
    assert_eq!(rows.len(), requests.len() + 1);
    for row in &rows[..requests.len()] {
        assert_eq!(
            (&row["method"], &row["status"], &row["error_code"]),
            (&json!("unknown"), &json!("denied"), &json!("token_missing"))
        );
    }
}

#[tokio::test]
async fn a_client_is_led_from_the_challenge_to_the_issuer() {
    let mut scene = scene("scopes = [\"mcp:tools\"]").await;
    let address = scene.proxy.proxy;
    let answer = ask(&scene.proxy, post(address, "/a/mcp", &call(1, "add"))).await;
    let url = format!("http://{address}{METADATA}/a/mcp");
    assert_eq!(answer.header("www-authenticate"), Some(format!("Bearer resource_metadata=\"{url}\"")));
    let document = ask(&scene.proxy, get_stream(address, &format!("{METADATA}/a/mcp"))).await;
    assert_eq!(document.status(), 200);
    assert_eq!(
        serde_json::from_str::<Value>(&document.text()).expect("JSON"),
        json!({
            "resource": format!("http://{address}/a/mcp"), "authorization_servers": [ISSUER],
            "bearer_methods_supported": ["header"], "scopes_supported": ["mcp:tools"],
        })
    );
    let other = ask(&scene.proxy, get_stream(address, "/.well-known/openid-configuration/a/mcp")).await;
    assert_eq!(other.status(), 404, "we are no issuer");
    let narrow = scene.issuer.token("rsa1", "RS256", &json!({}), &json!({ "scope": "mcp:read" }));
    let answer = call_with(&scene.proxy, &narrow).await;
    assert_eq!(answer.status(), 403);
    let challenge = answer.header("www-authenticate").expect("a challenge");
    assert!(challenge.starts_with("Bearer error=\"insufficient_scope\", scope=\"mcp:tools\""), "{challenge}");
    let wide = scene.issuer.token("rsa1", "RS256", &json!({}), &json!({ "scope": "mcp:read mcp:tools" }));
    assert_eq!(call_with(&scene.proxy, &wide).await.status(), 200);
    assert_eq!(scene.server.seen().len(), 1);
    let rows = scene.proxy.stop().await;
    assert_eq!(caller_of(&rows[1]), ["jwt", "ok", "ann", "acme"], "who it is was checked; it may not");
    assert_eq!((&rows[1]["status"], &rows[1]["error_code"]), (&json!("denied"), &json!("scope_missing")));
}

async fn until_it_passes(proxy: &Mcpmeter, token: &str) {
    let deadline = Instant::now() + PATIENCE;
    while call_with(proxy, token).await.status() != 200 {
        assert!(Instant::now() < deadline, "it is still refused");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_issuer_changes_its_keys() {
    let mut issuer = TokenIssuer::start();
    let (first, second) = (issuer.jwks(&["rsa1"]), issuer.jwks(&["rsa2", "rsa1"]));
    let current = Arc::new(Mutex::new(None));
    let served = Arc::clone(&current);
    let keys = ScriptedHttp::start(move |_| match &*served.lock().expect("whole") {
        Some(set) => Reply::json(set),
        None => Reply::empty(503),
    })
    .await;
    let server = server().await;
    let proxy = Mcpmeter::start(&route(&server, &tokens("jwt", &keys.url("/keys"))));
    // No keys have ever been read: that is not the caller's fault.
    let (old, new) = (issuer.right(), issuer.token("rsa2", "RS256", &json!({}), &json!({})));
    let answer = call_with(&proxy, &old).await;
    assert_eq!(
        (answer.status(), answer.header("retry-after").as_deref()),
        (503, Some("1")),
        "{}",
        answer.text()
    );
    *current.lock().expect("whole") = Some(first);
    until_it_passes(&proxy, &old).await;
    let asked = keys.seen().len();
    assert_eq!(call_with(&proxy, &old).await.status(), 200);
    assert_eq!(keys.seen().len(), asked, "they are remembered");
    *current.lock().expect("whole") = Some(second);
    // Whoever comes with a key that is not known has it looked for, but not as often as it likes.
    until_it_passes(&proxy, &new).await;
    for _ in 0..20 {
        let invented = issuer.token("rsa1", "RS256", &json!({ "kid": "x" }), &json!({}));
        assert_eq!(call_with(&proxy, &invented).await.status(), 401);
    }
    assert!(keys.seen().len() <= asked + 3, "{} and {asked}", keys.seen().len());
    let rows = proxy.stop().await;
    let early = rows.iter().find(|row| row["error_code"] == "keys_unavailable").expect("a row");
    assert_eq!((early["origin"].as_str(), caller_of(early)[1]), (Some("proxy"), "unverified"));
}

#[tokio::test]
async fn a_route_with_a_host_of_its_own_has_its_own_metadata() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jwks.json");
    fs::write(&file, TokenIssuer::start().jwks(&["rsa1"]).to_string()).expect("written");
    let server = server().await;
    let identity = tokens("jwt", &file.display().to_string());
    let by_host = route(&server, &identity).replacen("name =", "host = \"mcp.example\"\nname =", 1);
    let proxy = Mcpmeter::start(&by_host);
    let document = ask(&proxy, get_stream("mcp.example", &format!("{METADATA}/mcp"))).await;
    assert_eq!(document.status(), 200);
    assert!(document.text().contains("\"resource\":\"http://mcp.example/mcp\""), "{}", document.text());
    let other = ask(&proxy, get_stream("mcp.example", "/.well-known/oauth-authorization-server")).await;
    assert_eq!((other.status(), server.seen().len()), (404, 0));
}

#[tokio::test]
async fn a_server_gets_its_own_credentials_instead() {
    let mut scene = scene("upstream_authorization = \"Basic c2VydmVy\"").await;
    let request = post("localhost", "/a/mcp", &call(1, "add"));
    let token = scene.issuer.right();
    let twice = |key: &str| {
        with(
            &request,
            &format!("X-Before: 1\r\nAuthorization: Bearer {token}\r\nX-API-Key: {key}\r\nX-After: 2"),
        )
    };
    let two = ask(&scene.proxy, twice("k")).await;
    assert_eq!((two.status(), scene.server.seen().len()), (401, 0), "which one counts?");
    assert_eq!(ask(&scene.proxy, twice(&token)).await.status(), 200);
    let seen = scene.server.seen().remove(0);
    let names: Vec<_> = seen.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(
        names,
        ["host", "content-type", "accept", "content-length", "x-before", "x-after", "authorization"]
    );
    assert_eq!(seen.header("authorization"), "Basic c2VydmVy");
}

#[tokio::test]
async fn a_token_that_passes_through_is_read_on_the_way_and_judged_by_the_server() {
    let mut issuer = TokenIssuer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jwks.json");
    fs::write(&file, issuer.jwks(&["rsa1"]).to_string()).expect("written");
    let server = server().await;
    let proxy = Mcpmeter::start(&route(&server, &tokens("passthrough", &file.display().to_string())));
    let right = issuer.right();
    let forged = issuer.token("rsa2", "RS256", &json!({ "kid": "rsa1" }), &json!({ "sub": "root" }));
    assert_eq!(call_with(&proxy, &right).await.status(), 200);
    for token in [&right, &forged, &"opaque".to_owned()] {
        assert_eq!(call_with(&proxy, token).await.status(), 200);
    }
    let request = post("localhost", "/a/mcp", &call(1, "add"));
    assert_eq!(ask(&proxy, request).await.status(), 200);
    let seen: Vec<_> = server.seen().iter().map(|seen| seen.header("authorization").to_owned()).collect();
    let sent = [&right, &right, &forged, "opaque"].map(|token| format!("Bearer {token}"));
    assert_eq!(seen[..4], sent, "byte for byte");
    let rows = proxy.stop().await;
    let read = ["jwt", "ok", "ann", "acme"];
    let unread = ["passthrough", "unverified", "u_route", "-"];
    assert_eq!(
        rows.iter().map(caller_of).collect::<Vec<_>>(),
        [read, read, unread, unread, ["none", "missing", "u_route", "-"],]
    );
}
