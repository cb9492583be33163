//! Names that are not ours, callers that say they are somebody, and heads without an end.

use super::{Attack, Fate, Refused, Scene};

fn head(what: &'static str, target: &str, lines: &str, fate: Fate) -> Attack {
    (what, format!("GET {target} HTTP/1.1\r\n{lines}\r\n").into_bytes(), fate)
}

#[tokio::test]
async fn names_that_are_not_ours_are_refused() {
    let host = |name: &'static str| head(name, "/open/mcp", &format!("Host: {name}\r\n"), Refused);
    let mut attacks = [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.example@127.0.0.1",
        "localhost, evil.example",
        "localhost evil.example",
        "localhost/evil.example",
        "localhost:evil.example",
        "localhost:80:80",
        "[::1",
        "::1",
        "[::1]evil.example",
        "0.0.0.0",
        "0",
        "0x7f.0.0.1",
        "2130706433",
        "127.1",
        "",
        "*",
    ]
    .map(host)
    .to_vec();
    attacks.extend([
        head("two hosts", "/open/mcp", "Host: localhost\r\nHost: evil.example\r\n", Refused),
        head("twice the same", "/open/mcp", "Host: localhost\r\nHost: localhost\r\n", Refused),
        head("another one in the target", "http://evil.example/open/mcp", "Host: localhost\r\n", Refused),
        head(
            "a user in the target",
            "http://localhost@evil.example/open/mcp",
            "Host: localhost\r\n",
            Refused,
        ),
    ]);
    Scene::start().check(&attacks).await;
}

#[tokio::test]
async fn who_says_that_it_is_somebody_is_not_believed() {
    let says =
        |lines: &'static str| head(lines, "/safe/mcp", &format!("Host: localhost\r\n{lines}\r\n"), Refused);
    let attacks = [
        "X-User: root",
        "X-User: root\r\nX-Forwarded-For: 10.0.0.1",
        "X-User: root\r\nX-Forwarded-For: 10.0.0.1, 127.0.0.1",
        "X-User: root\r\nForwarded: for=10.0.0.1",
        "X-User: root\r\nX-Real-IP: 10.0.0.1",
        "X-User: root\r\nTrue-Client-IP: 10.0.0.1",
        "X-User: root\r\nX-Client-IP: 10.0.0.1",
        "X-User: root\r\nCF-Connecting-IP: 10.0.0.1",
        "X-User: root\r\nConnection: X-User",
        "X_User: root",
        "X-User: root\r\nX-User: ann",
        "X-User: root\r\nX-Forwarded-Host: localhost\r\nX-Original-URL: /open/mcp",
        "X-User: root\r\nX-Rewrite-URL: /open/mcp",
        "X-User: root\r\nX-HTTP-Method-Override: OPTIONS",
        "Authorization: Bearer x",
        "Authorization: Basic cm9vdDpyb290",
        "Cookie: user=root",
        "X-API-Key: x",
    ]
    .map(says);
    Scene::start().check(&attacks).await;
}

#[tokio::test]
async fn heads_beyond_all_limits_are_refused() {
    let many: String = (0..600).map(|number| format!("X-{number}: y\r\n")).collect();
    let same = "X-Same: y\r\n".repeat(600);
    let long = format!("X-Long: {}\r\n", "y".repeat(1 << 20));
    let name = format!("{}: y\r\n", "X".repeat(1 << 20));
    let of = |what, lines: &str| head(what, "/open/mcp", &format!("Host: localhost\r\n{lines}"), Refused);
    let target = format!("/open/{}", "x".repeat(1 << 20));
    let attacks = [
        of("many fields", &many),
        of("many of one name", &same),
        of("a long value", &long),
        of("a long name", &name),
        head("a long target", &target, "Host: localhost\r\n", Refused),
    ];
    Scene::start().check(&attacks).await;
}
