//! Callers with keys of ours: who gets in, what the server sees of it, and how soon a change counts.

use crate::{
    message::{Message, SSE_HEAD, call, chunk, get_stream, post, result},
    raw::{Upstream, Wire},
    scripted_http::{Reply, ScriptedHttp},
    spawned::run,
    support::{Mcpmeter, PATIENCE},
};
use serde_json::Value;
use std::time::{Duration, Instant};

const IDENTITY: &str = "[identity]\nmode = \"api_key\"\n";

async fn server() -> ScriptedHttp {
    let answer = result(1);
    ScriptedHttp::start(move |_| Reply::json(&serde_json::from_str(&answer).expect("JSON"))).await
}

fn start(server: &ScriptedHttp, further: &str) -> Mcpmeter {
    let url = server.url("");
    Mcpmeter::start(&format!(
        "{IDENTITY}{further}[[route]]\nname = \"a\"\nupstream = \"{url}\"\nuser_id = \"u_route\"\n"
    ))
}

async fn ask(proxy: &Mcpmeter, line: &str) -> Message {
    let mut client = Wire::connect(proxy.proxy).await;
    let request = post("localhost", "/a/mcp", &call(1, "add"));
    client.send(request.replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1)).await;
    client.read_response().await
}

/// The status, once it is that one; waits for it.
async fn until(proxy: &Mcpmeter, secret: &str, status: u16) -> Message {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(proxy, &format!("Authorization: Bearer {secret}")).await;
        if answer.status() == status {
            return answer;
        }
        assert!(Instant::now() < deadline, "{} instead of {status}: {}", answer.status(), answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `mcpmeter keys …` on the store of the running proxy.
fn keys(proxy: &Mcpmeter, arguments: &[&str]) -> Value {
    let (code, stdout, stderr) = run(proxy.folder(), &[&["keys"], arguments, &["--json"]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).expect("JSON")
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

#[tokio::test]
async fn a_key_gets_in_until_it_expires() {
    let server = server().await;
    let proxy = start(&server, "");
    let secret = text(&keys(&proxy, &["create", "--user", "ann", "--expires", "4s"]), "secret");
    until(&proxy, &secret, 200).await;
    let refused = until(&proxy, &secret, 401).await;
    assert!(refused.text().contains("(key_expired)"), "{}", refused.text());
    let rows = proxy.stop().await;
    let last = rows.last().expect("a row");
    assert_eq!(
        (text(last, "auth_state"), text(last, "error_code")),
        ("expired".into(), "key_expired".into())
    );
}

#[tokio::test]
async fn a_key_gets_in_and_goes_no_further() {
    let server = server().await;
    let proxy = start(&server, "");
    let made = keys(&proxy, &["create", "--user", "ann", "--org", "acme"]);
    let secret = text(&made, "secret");
    until(&proxy, &secret, 200).await;
    assert_eq!(ask(&proxy, &format!("X-API-Key: {secret}")).await.status(), 200);
    for request in server.seen() {
        assert!(!request.headers.contains_key("authorization") && !request.headers.contains_key("x-api-key"));
    }
    let log = proxy.log().join("\n");
    let rows = proxy.stop().await;
    let last = rows.last().expect("a row");
    let told = ["auth_method", "auth_state", "api_key_id", "user_id", "organization_id"]
        .map(|name| text(last, name));
    assert_eq!(told, ["api_key", "ok", &text(&made, "id"), "ann", "acme"]);
    let everything = format!("{rows:?}{log}");
    assert!(!everything.contains(&secret) && !everything.contains(&secret[14..]), "the secret is nowhere");
}

#[tokio::test]
async fn what_is_no_key_gets_nowhere() {
    let server = server().await;
    let proxy = start(&server, "");
    let secret = text(&keys(&proxy, &["create", "--user", "ann"]), "secret");
    until(&proxy, &secret, 200).await;
    let carried = server.seen().len();
    let (mut typo, mut other) = (secret.clone().into_bytes(), secret.clone());
    typo[20] = if typo[20] == b'a' { b'b' } else { b'a' };
    other.make_ascii_uppercase();
    let typo = String::from_utf8(typo).expect("text");
    for (line, code) in [
        ("X-Nothing: 1".to_owned(), "key_missing"),
        ("Authorization: Basic YTpi".to_owned(), "key_missing"),
        ("Authorization: Bearer sk-abc".to_owned(), "key_malformed"),
        (format!("Authorization: Bearer {typo}"), "key_malformed"),
        (format!("Authorization: Bearer {other}"), "key_malformed"),
        (format!("Authorization: Bearer {secret}x"), "key_malformed"),
        (format!("Authorization: Bearer {}", &secret[..20]), "key_malformed"),
        (format!("Authorization: Bearer {secret}\r\nAuthorization: Bearer {secret}"), "key_malformed"),
        (format!("X-API-Key: {secret}\r\nX-API-Key: {typo}"), "key_malformed"),
    ] {
        let answer = ask(&proxy, &line).await;
        assert_eq!((answer.status(), answer.text().contains(code)), (401, true), "{line}: {}", answer.text());
        assert!(answer.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
    }
    assert_eq!(server.seen().len(), carried);
    // A key of another store, right in its form.
    let elsewhere = start(&server, "");
    let foreign = text(&keys(&elsewhere, &["create", "--user", "ann"]), "secret");
    let answer = ask(&proxy, &format!("X-API-Key: {foreign}")).await;
    assert_eq!((answer.status(), answer.text().contains("key_unknown")), (401, true));
    let rows = proxy.stop().await;
    let denied: Vec<_> = rows.iter().filter(|row| row["status"] == "denied").collect();
    assert!(
        denied.len() >= 10
            && denied.iter().all(|row| row["user_id"] == "u_route" && row["api_key_id"].is_null())
    );
}

#[tokio::test]
async fn revoking_expiring_and_rotating_count_within_seconds() {
    let server = server().await;
    let proxy = start(&server, "");
    let made = keys(&proxy, &["create", "--user", "ann"]);
    let (id, secret) = (text(&made, "id"), text(&made, "secret"));
    until(&proxy, &secret, 200).await;
    let rotated = keys(&proxy, &["rotate", &id]);
    let next = text(&rotated, "secret");
    until(&proxy, &next, 200).await;
    assert_eq!(ask(&proxy, &format!("X-API-Key: {secret}")).await.status(), 200, "for a time of grace");
    let last = text(&keys(&proxy, &["rotate", &id, "--now"]), "secret");
    until(&proxy, &last, 200).await;
    for former in [&secret, &next] {
        assert_eq!(ask(&proxy, &format!("X-API-Key: {former}")).await.status(), 401);
    }
    let begun = Instant::now();
    keys(&proxy, &["revoke", &id]);
    let answer = until(&proxy, &last, 401).await;
    assert!(answer.text().contains("key_revoked") && begun.elapsed() < Duration::from_secs(10));
}

/// A stream that is open through the proxy, once the key is known: the client's end and the server's.
async fn open_stream(proxy: &Mcpmeter, upstream: &Upstream, secret: &str) -> (Wire, Wire) {
    let request = get_stream("localhost", "/a/mcp");
    let request = request.replacen("\r\n\r\n", &format!("\r\nX-API-Key: {secret}\r\n\r\n"), 1);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(&*request).await;
        tokio::select! {
            refused = client.read_head() => assert!(refused.status() == 401 && Instant::now() < deadline),
            mut server = upstream.accept() => {
                server.read_head().await;
                server.send(SSE_HEAD).await;
                assert_eq!(client.read_head().await.status(), 200);
                return (client, server);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_key_and_with_no_other() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&format!("{IDENTITY}{}", upstream.route("a")));
    let made = ["1", "2", "3"].map(|user| keys(&proxy, &["create", "--user", user]));
    let mut streams = Vec::new();
    for key in &made {
        streams.push(open_stream(&proxy, &upstream, &text(key, "secret")).await);
    }
    keys(&proxy, &["revoke", &text(&made[0], "id")]);
    keys(&proxy, &["rotate", &text(&made[1], "id"), "--now"]);
    for (client, server) in &mut streams[..2] {
        client.gone().await;
        server.gone().await;
    }
    let (client, server) = &mut streams[2];
    server.send(chunk("data: 1\n\n")).await;
    assert_eq!(client.read_chunk().await.as_deref(), Some(&b"data: 1\n\n"[..]));
}
