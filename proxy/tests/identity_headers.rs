//! Callers whom a proxy in front of us names, callers whom nobody looks at, and refusals that come in floods.

use crate::{
    message::{Message, call, post},
    program::{self, INITIALIZE, odd},
    raw::Wire,
    serving::Serving,
    support::Mcpmeter,
};
use serde_json::{Value, json};

async fn ask(proxy: &Mcpmeter, lines: &str) -> Message {
    let mut client = Wire::connect(proxy.proxy).await;
    let request = post("localhost", "/a/mcp", &call(1, "add"));
    client.send(request.replacen("\r\n\r\n", &format!("\r\n{lines}\r\n"), 1)).await;
    client.read_response().await
}

fn caller_of(row: &Value) -> [&str; 4] {
    ["auth_method", "auth_state", "user_id", "organization_id"].map(|name| row[name].as_str().unwrap_or("-"))
}

const HEADERS: &str =
    "[route.identity]\nmode = \"header\"\nuser_header = \"X-User\"\norganization_header = \"X-Org\"\n";

#[tokio::test]
async fn a_proxy_of_a_trusted_network_says_who_calls() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&format!("{}{HEADERS}networks = [\"127.0.0.0/8\"]\n", upstream.route("a")));
    for (lines, status) in [
        ("X-User: ann\r\nX-Org: acme\r\n", 200),
        ("x-user: ボブ\r\n", 403),
        ("X-User: ann\r\nX-User: root\r\n", 403),
        ("X-Org: acme\r\n", 403),
        ("X-User: ann\r\n", 200),
    ] {
        assert_eq!(ask(&proxy, lines).await.status(), status, "{lines}");
    }
    let rows = proxy.stop().await;
    assert_eq!(caller_of(&rows[0]), ["header", "ok", "ann", "acme"]);
    assert_eq!(caller_of(&rows[4]), ["header", "ok", "ann", "-"]);
    let codes: Vec<_> = rows.iter().map(|row| row["error_code"].as_str().unwrap_or("-")).collect();
    assert_eq!(codes, ["-", "user_unreadable", "user_unreadable", "user_missing", "-"]);
}

#[tokio::test]
async fn from_anywhere_else_nobody_is_believed() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&format!("{}{HEADERS}networks = [\"10.0.0.0/8\"]\n", upstream.route("a")));
    for lines in ["X-User: ann\r\n", "X-User: ann\r\nX-Forwarded-For: 10.0.0.1\r\n", ""] {
        assert_eq!(ask(&proxy, lines).await.status(), 403, "{lines}");
    }
    let rows = proxy.stop().await;
    assert!(rows.iter().all(|row| row["error_code"] == "network_untrusted" && row["user_id"].is_null()));
}

#[tokio::test]
async fn where_nobody_looks_nothing_is_claimed() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&format!("[identity]\nmode = \"none\"\n{}", upstream.route("a")));
    assert_eq!(ask(&proxy, "Authorization: Bearer x\r\n").await.status(), 200);
    assert_eq!(ask(&proxy, "").await.status(), 200);
    let rows = proxy.stop().await;
    assert_eq!(rows.iter().map(|row| caller_of(row)[1]).collect::<Vec<_>>(), ["unverified", "missing"]);
    assert!(rows.iter().all(|row| row["auth_method"] == "none"));
}

#[tokio::test]
async fn of_a_flood_of_refusals_the_number_is_kept() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&format!("{}{HEADERS}networks = [\"10.0.0.0/8\"]\n", upstream.route("a")));
    for _ in 0..300 {
        assert_eq!(ask(&proxy, "").await.status(), 403);
    }
    let rows = proxy.stop().await;
    assert!(rows.len() <= 40, "{}", rows.len());
    assert!(rows.iter().all(|row| row["status"] == "denied" && row["client_ip"] == "127.0.0.0/24"));
    let counted = |row: &Value| row["error_detail"]["refusals"].as_u64().unwrap_or(1);
    assert_eq!(rows.iter().map(counted).sum::<u64>(), 300, "none is forgotten");
    assert!(rows.iter().any(|row| row["method"] == json!("unknown") && counted(row) > 1));
}

#[tokio::test]
async fn a_refused_strangers_batch_is_one_row() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&format!("{}{HEADERS}networks = [\"10.0.0.0/8\"]\n", upstream.route("a")));
    let calls: Vec<_> = (0..500).map(|id| call(id, "add")).collect();
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &format!("[{}]", calls.join(",")))).await;
    assert_eq!(client.read_response().await.status(), 403);
    let rows = proxy.stop().await;
    assert_eq!((rows.len(), &rows[0]["error_detail"]["calls"]), (1, &json!(500)));
}

#[tokio::test]
async fn a_session_with_a_program_is_its_callers_alone() {
    let identity =
        "[route.identity]\nmode = \"header\"\nuser_header = \"X-User\"\nnetworks = [\"127.0.0.1\"]";
    let proxy = Mcpmeter::start(&odd(&[], identity));
    let ask = async |user: &str, session: &str, body: &str| {
        let lines = format!("X-User: {user}\r\n{session}");
        program::ask(proxy.proxy, "/odd/mcp", &lines, body).await
    };
    let opened = ask("ann", "", INITIALIZE).await;
    let session = format!("Mcp-Session-Id: {}\r\n", opened.header("mcp-session-id").expect("a session"));
    assert_eq!(ask("ann", &session, &call(1, "echo a")).await.status(), 200);
    let stranger = ask("bob", &session, &call(2, "echo a")).await;
    assert_eq!(stranger.status(), 404, "{}", stranger.text());
    assert!(stranger.text().contains("Session not found"));
    assert_eq!(ask("ann", &session, &call(3, "echo a")).await.status(), 200, "it lives on");
    let rows = proxy.stop().await;
    let users: Vec<_> = rows.iter().map(|row| row["user_id"].as_str().expect("a user")).collect();
    assert_eq!(users, ["ann", "bob", "ann"]);
}

#[tokio::test]
async fn credentials_that_pass_are_told_apart_by_a_hash_where_there_is_a_key_for_it() {
    let upstream = Serving::results();
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("hash.key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").expect("written");
    let privacy = format!("[privacy]\nhash_key = {{ file = \"{}\" }}\n", key.display());
    let proxy = Mcpmeter::start(&format!("{privacy}{}", upstream.route("a")));
    for lines in ["Authorization: Bearer one\r\n", "Authorization: Bearer two\r\n", "X-API-Key: one\r\n", ""]
    {
        assert_eq!(ask(&proxy, lines).await.status(), 200);
    }
    let rows = proxy.stop().await;
    let [one, two, same, none] = rows.iter().map(|row| row["api_key_id"].as_str()).collect::<Vec<_>>()[..]
    else {
        panic!("four rows")
    };
    assert!(one.is_some_and(|hash| hash.len() == 22 && hash != "one") && one != two && one == same);
    assert_eq!((none, caller_of(&rows[0])[1]), (None, "unverified"));
}
