//! What callers may do, and how much of it: rules, keys with lists, rates, quotas. The client's view and the row, over the
//! real program.

use crate::{
    message::{Message, call, get_stream, post, result},
    raw::{Upstream, Wire},
    scripted_http::{Reply, ScriptedHttp},
    spawned::run,
    support::{Mcpmeter, PATIENCE, postgres::Cluster},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn server() -> ScriptedHttp {
    ScriptedHttp::start(|seen| {
        let id = seen.body["id"].as_u64().unwrap_or_default();
        Reply::json(&serde_json::from_str(&result(id)).expect("JSON"))
    })
    .await
}

fn start(server: &ScriptedHttp, config: &str) -> Mcpmeter {
    let url = server.url("");
    Mcpmeter::start(&format!("{config}\n[[route]]\nname = \"a\"\nupstream = \"{url}\"\nuser_id = \"ann\"\n"))
}

async fn send(proxy: &Mcpmeter, request: String) -> Message {
    let mut client = Wire::connect(proxy.proxy).await;
    // Who is refused early may find that nobody reads any more.
    let _ = client.try_send(request).await;
    client.read_response().await
}

async fn ask(proxy: &Mcpmeter, body: &str, lines: &str) -> Message {
    let request = post("localhost", "/a/mcp", body);
    send(proxy, request.replacen("\r\n\r\n", &format!("\r\n{lines}\r\n"), 1)).await
}

fn error_of(answer: &Message) -> Value {
    serde_json::from_str::<Value>(&answer.text()).expect("JSON")["error"].clone()
}

const RULES: &str = "[[rule]]\neffect = \"deny\"\ntool = [\"rm*\"]\n";

#[tokio::test]
async fn a_denied_tool_is_an_error_of_the_call_and_nothing_reaches_the_server() {
    let server = server().await;
    let proxy = start(&server, RULES);
    let denied = ask(&proxy, &call(7, "rmdir"), "").await;
    assert_eq!(
        (denied.status(), error_of(&denied)["code"].as_i64()),
        (200, Some(-32602)),
        "{}",
        denied.text()
    );
    assert!(denied.text().contains("\"id\":7"));
    assert_eq!(server.seen().len(), 0);
    assert_eq!(ask(&proxy, &call(8, "ls"), "").await.status(), 200);
    let batch = format!("[{},{}]", call(9, "ls"), call(10, "rm"));
    assert_eq!(ask(&proxy, &batch, "").await.status(), 200);
    assert_eq!(
        ask(&proxy, r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#, "").await.status(),
        200
    );
    assert_eq!(send(&proxy, get_stream("localhost", "/a/mcp")).await.status(), 200);
    assert_eq!(server.seen().len(), 3, "a call, an initialize, a stream; nothing of the batch");
    let rows = proxy.stop().await;
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            [&row["tool_name"], &row["status"], &row["error_code"]].map(|value| value.as_str().unwrap_or("-"))
        })
        .collect();
    assert_eq!(
        told,
        [
            ["rmdir", "denied", "denied_by_rule"],
            ["ls", "ok", "-"],
            ["ls", "denied", "denied_by_rule"],
            ["rm", "denied", "denied_by_rule"],
        ]
    );
    assert_eq!((&rows[0]["origin"], &rows[0]["status_detail"]), (&json!("client"), &json!("policy")));
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_where_the_tool_decides() {
    let server = server().await;
    let proxy = start(&server, RULES);
    for (body, lines, status) in [
        (r#"{"id":1,"method":"tools/call","params":{"name":"ls","name":"rm"}}"#, "", 400),
        (r#"{"id":1,"method":"tools/call","params":{"name":"ls","na\u006de":"rm"}}"#, "", 400),
        (r#"{"id":1,"method":"ping","method":"tools/call","params":{"name":"rm"}}"#, "", 400),
        (r#"{"id":1,"method":"tools/call","params":{"Name":"rm"}}"#, "", 400),
        (r#"{"id":1,"method":"tools/call","params":{"name":"ls"}} {"x":1}"#, "", 400),
        ("\u{feff}{}", "", 400),
        (&call(1, "ls"), "Mcp-Method: tools/call\r\nMcp-Name: rm\r\n", 400),
        (&call(1, "ls"), "Mcp-Method: tools/list\r\n", 400),
        (&call(1, "ls"), "Content-Encoding: gzip\r\n", 415),
        (&call(1, "ls"), "Content-Type: text/plain\r\n", 415),
    ] {
        let answer = ask(&proxy, body, lines).await;
        assert_eq!(answer.status(), status, "{body} {lines}: {}", answer.text());
    }
    let put = post("localhost", "/a/mcp", &call(1, "rm")).replacen("POST", "PUT", 1);
    assert_eq!(error_of(&send(&proxy, put).await)["code"], json!(-32602), "whatever the method");
    assert_eq!(server.seen().len(), 0);
    let escaped = ask(&proxy, r#"{"id":1,"method":"tools\/call","params":{"name":"\u0072m"}}"#, "").await;
    assert_eq!(error_of(&escaped)["code"], json!(-32602), "escapes hide nothing");
    assert_eq!(server.seen().len(), 0);
    let rows = proxy.stop().await;
    assert_eq!(rows.len(), 12);
    assert!(rows.iter().all(|row| row["status"] == "denied"));
}

/// A call that names a tool and breaks off behind it, with enough in between that a proxy that reads on would have sent it.
fn broken_off(tool: &str) -> String {
    let body = call(1, tool) + &" ".repeat(300_000);
    let request = post("localhost", "/a/mcp", &body);
    request.replacen(&body.len().to_string(), &(body.len() + 1).to_string(), 1)
}

#[tokio::test]
async fn a_request_that_breaks_off_reaches_no_server_where_it_is_judged_or_counted() {
    for config in [RULES, "[[limit]]\nper = \"user\"\nrate = \"100/min\"\n"] {
        let upstream = Upstream::bind();
        let proxy = Mcpmeter::start(&format!("{config}{}", upstream.route("a")));
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(broken_off("rm")).await;
        client.finish().await;
        let answer = client.read_response().await;
        assert_eq!(answer.status(), 400, "{config} {}", answer.text());
        assert!(upstream.is_untouched(), "{config}");
        let rows = proxy.stop().await;
        assert_eq!((rows.len(), &rows[0]["status"]), (1, &json!("cancelled")), "{config}");
    }
}

#[tokio::test]
async fn what_holds_nobody_knows_how_many_calls_is_refused_where_calls_are_counted() {
    let server = server().await;
    let proxy = start(&server, "[[limit]]\nper = \"user\"\nrate = \"5/h\"\n");
    let calls: Vec<_> = (0..50).map(|id| call(id, "ls")).collect();
    let odd = r#"{"id":99,"method":"ping","Method":"tools/call"}"#;
    let batch = format!("[{},{odd}]", calls.join(","));
    for (body, lines, status) in [
        (&*batch, "", 400),
        (&*format!("[{}]", " ".repeat(5 << 20)), "", 413),
        ("\u{1f}\u{8b}\u{8}", "Content-Encoding: gzip\r\n", 400),
    ] {
        let answer = ask(&proxy, body, lines).await;
        assert_eq!(answer.status(), status, "{lines} {}", answer.text());
    }
    assert_eq!(server.seen().len(), 0);
    assert_eq!(ask(&proxy, odd, "").await.status(), 200, "one is one at most");
}

#[tokio::test]
async fn what_nobody_has_checked_is_no_key() {
    let server = server().await;
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("hash.key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").expect("written");
    let privacy = format!("[privacy]\nhash_key = {{ file = \"{}\" }}\n", key.display());
    let rules = "[policy]\ndefault = \"deny\"\n[[rule]]\neffect = \"allow\"\nkey = [\"*\"]\n";
    let proxy = start(&server, &format!("{privacy}{rules}"));
    for lines in ["", "Authorization: Bearer junk\r\n", "X-API-Key: junk\r\n"] {
        assert_eq!(ask(&proxy, &call(1, "ls"), lines).await.status(), 403, "{lines}");
    }
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn long_bodies_are_refused_only_where_the_tool_decides_and_carried_whole_elsewhere() {
    let server = server().await;
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"ls","arguments":{{"x":"{}"}}}}}}"#,
        "y".repeat(5 << 20)
    );
    let strict = start(&server, RULES);
    assert_eq!(ask(&strict, &long, "").await.status(), 413);
    let counted = start(&server, "[[limit]]\nper = \"user\"\nrate = \"100/min\"\n");
    assert_eq!(ask(&counted, &long, "").await.status(), 200);
    assert_eq!(server.seen().len(), 1);
    assert_eq!(server.seen()[0].body["params"]["arguments"]["x"].as_str().map(str::len), Some(5 << 20));
}

#[tokio::test]
async fn a_route_that_is_denied_is_denied_from_the_head_on() {
    let server = server().await;
    let proxy = start(
        &server,
        "[policy]\ndefault = \"deny\"\n[[rule]]\neffect = \"allow\"\nnetwork = [\"10.0.0.0/8\"]\n",
    );
    assert_eq!(ask(&proxy, &call(1, "ls"), "").await.status(), 403);
    assert_eq!(send(&proxy, get_stream("localhost", "/a/mcp")).await.status(), 403);
    assert_eq!(server.seen().len(), 0);
    let rows = proxy.stop().await;
    assert_eq!(
        rows.iter().map(|row| row["method"].as_str().expect("text")).collect::<Vec<_>>(),
        ["tools/call", "unknown"]
    );
    assert!(rows.iter().all(|row| row["error_code"] == "denied_by_default"));
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_again() {
    let server = server().await;
    let proxy = start(&server, "[[limit]]\nname = \"calm\"\nper = \"user\"\nrate = \"2/h\"\n");
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
    for _ in 0..5 {
        assert_eq!(ask(&proxy, initialize, "").await.status(), 200, "what is no call is not counted");
    }
    assert_eq!(ask(&proxy, &call(1, "ls"), "").await.status(), 200);
    assert_eq!(ask(&proxy, &call(2, "ls"), "").await.status(), 200);
    let limited = ask(&proxy, &call(3, "ls"), "").await;
    assert_eq!(limited.status(), 429, "{}", limited.text());
    let retry: u64 = limited.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=1800).contains(&retry));
    assert_eq!(limited.header("ratelimit-policy").as_deref(), Some("\"calm\";q=2;w=3600"));
    assert!(limited.header("ratelimit").is_some_and(|state| state.starts_with("\"calm\";r=0;t=")));
    assert_eq!(server.seen().len(), 7);
    let rows = proxy.stop().await;
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row["status"].as_str().expect("text"), row["rate_limit_state"]["remaining"].as_u64()))
        .collect();
    assert_eq!(told, [("ok", Some(1)), ("ok", Some(0)), ("limited", Some(0))]);
    assert_eq!(
        (&rows[2]["error_code"], &rows[2]["origin"], &rows[2]["http_status"]),
        (&json!("rate_limited"), &json!("proxy"), &json!(429))
    );
}

#[tokio::test]
async fn a_key_may_do_what_it_says_and_as_often() {
    let server = server().await;
    let proxy = start(&server, "[identity]\nmode = \"api_key\"\n");
    let make = |arguments: &[&str]| {
        let (code, stdout, stderr) =
            run(proxy.folder(), &[&["keys", "create", "--user", "ann", "--json"], arguments].concat());
        assert_eq!(code, Some(0), "{stderr}");
        let made: Value = serde_json::from_str(&stdout).expect("JSON");
        format!("X-API-Key: {}\r\n", made["secret"].as_str().expect("a secret"))
    };
    let (elsewhere, tools, slow) =
        (make(&["--route", "b"]), make(&["--tool", "l*"]), make(&["--per-minute", "1"]));
    let deadline = Instant::now() + PATIENCE;
    while ask(&proxy, &call(1, "ls"), &slow).await.status() != 200 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let again = ask(&proxy, &call(2, "ls"), &slow).await;
    assert_eq!(
        (again.status(), again.header("ratelimit-policy").as_deref()),
        (429, Some("\"key\";q=1;w=60"))
    );
    assert_eq!(ask(&proxy, &call(3, "ls"), &elsewhere).await.status(), 403);
    assert_eq!(ask(&proxy, &call(4, "ls"), &tools).await.status(), 200);
    assert_eq!(error_of(&ask(&proxy, &call(5, "rm"), &tools).await)["code"], json!(-32602));
    assert_eq!(server.seen().len(), 2);
    let rows = proxy.stop().await;
    let codes: Vec<_> = rows
        .iter()
        .filter_map(|row| row["error_code"].as_str())
        .filter(|code| *code != "keys_unavailable" && *code != "key_unknown")
        .collect();
    assert_eq!(codes, ["rate_limited", "key_route", "key_tool"]);
}

#[tokio::test]
async fn a_flood_of_a_known_caller_is_counted_under_its_name() {
    let server = server().await;
    let proxy = start(&server, &format!("[identity]\nmode = \"api_key\"\n{RULES}"));
    let (_, stdout, _) = run(proxy.folder(), &["keys", "create", "--user", "ann", "--json"]);
    let made: Value = serde_json::from_str(&stdout).expect("JSON");
    let line = format!("X-API-Key: {}\r\n", made["secret"].as_str().expect("a secret"));
    let deadline = Instant::now() + PATIENCE;
    while ask(&proxy, &call(1, "ls"), &line).await.status() != 200 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for id in 0..150 {
        assert_eq!(ask(&proxy, &call(id, "rm"), &line).await.status(), 200);
    }
    let rows = proxy.stop().await;
    let denied: Vec<_> = rows.iter().filter(|row| row["error_code"] == "denied_by_rule").collect();
    let counted = denied.iter().find(|row| row["tool_name"].is_null()).expect("a row for the rest");
    assert!(denied.len() < 150 && counted["error_detail"]["refusals"] == 50, "{counted}");
    for row in denied {
        assert_eq!((&row["auth_method"], &row["auth_state"]), (&json!("api_key"), &json!("ok")), "{row}");
    }
}

#[tokio::test]
async fn a_quota_outlives_the_process() {
    let server = server().await;
    let config = "[[quota]]\nper = \"user\"\ncalls = 3\nperiod = \"month\"\n";
    let proxy = start(&server, config);
    for id in 0..3 {
        assert_eq!(ask(&proxy, &call(id, "ls"), "").await.status(), 200);
    }
    let over = ask(&proxy, &call(3, "ls"), "").await;
    assert_eq!(over.status(), 429, "{}", over.text());
    proxy.signal("TERM");
    let (status, folder) = proxy.wait();
    assert!(status.success());
    let url = server.url("");
    let toml = format!("{config}[[route]]\nname = \"a\"\nupstream = \"{url}\"\nuser_id = \"ann\"\n");
    let next = Mcpmeter::start_in(folder, &toml, &[]);
    let deadline = Instant::now() + PATIENCE;
    // Until it has looked once it does not know.
    while ask(&next, &call(4, "ls"), "").await.status() != 429 {
        assert!(Instant::now() < deadline, "the quota has begun anew");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_quota_in_postgresql_is_that_of_all_proxies() {
    let (cluster, server) = (Cluster::shared(), server().await);
    let url = cluster.database();
    let config =
        format!("[store]\nurl = \"{url}\"\n[[quota]]\nper = \"user\"\ncalls = 200\nperiod = \"month\"\n");
    let (one, other) = (start(&server, &config), start(&server, &config));
    for id in 0..200 {
        assert_eq!(ask(&one, &call(id, "ls"), "").await.status(), 200);
    }
    assert_eq!(ask(&one, &call(200, "ls"), "").await.status(), 429);
    // The other one is told by the store, long before it has let as many through.
    for own in 0.. {
        if ask(&other, &call(own, "ls"), "").await.status() == 429 {
            break;
        }
        assert!(own < 150, "the other one counts alone");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
