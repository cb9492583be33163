//! Bodies that are held until they have been judged: how much is held, for how long, where, and by which rules.

use crate::{
    message::{Message, call, json_answer, post, result},
    raw::{Upstream, Wire},
    reloading::reload,
    serving::Serving,
    support::{Mcpmeter, PATIENCE},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const RULE: &str = "[[rule]]\neffect = \"deny\"\ntool = [\"rm\"]\nroute = [\"a\"]\n";

fn start(upstream: &Upstream, config: &str, of_route: &str) -> Mcpmeter {
    Mcpmeter::start(&format!("{config}{RULE}{}{of_route}\n{}", upstream.route("a"), upstream.route("b")))
}

/// A client that has sent a call, with so many blanks behind it, but for the last byte.
pub(crate) async fn stalled(proxy: &Mcpmeter, target: &str, padding: usize) -> Wire {
    let body = call(1, "ls") + &" ".repeat(padding);
    let request = post("localhost", target, &body);
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(&request[..request.len() - 1]).await;
    client
}

/// Waits until the proxy's metrics say so.
pub(crate) async fn shows(proxy: &Mcpmeter, line: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !proxy.admin("/metrics").await.1.contains(line) {
        assert!(Instant::now() < deadline, "{line:?} is never shown");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the proxy has begun with a request.
async fn seen(proxy: &Mcpmeter) {
    shows(proxy, "mcpmeter_in_flight 1\n").await;
}

async fn ask(proxy: &Mcpmeter, target: &str, padding: usize) -> Message {
    let mut client = Wire::connect(proxy.proxy).await;
    let _ = client.try_send(post("localhost", target, &(call(2, "ls") + &" ".repeat(padding)))).await;
    client.read_response().await
}

/// Status, error and tool of each row.
fn endings(rows: &[Value]) -> Vec<[&str; 3]> {
    let columns = ["status", "error_code", "tool_name"];
    rows.iter().map(|row| columns.map(|column| row[column].as_str().unwrap_or("-"))).collect()
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_a_while() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "[policy]\nbody_timeout_ms = 300\n", "");
    let mut client = stalled(&proxy, "/a/mcp", 0).await;
    let answer = client.read_response().await;
    assert_eq!((answer.status(), answer.text().contains("(body_timeout)")), (408, true), "{}", answer.text());
    assert!(upstream.is_untouched());
    let rows = proxy.stop().await;
    assert_eq!(endings(&rows), [["cancelled", "body_timeout", "ls"]]);
}

#[tokio::test]
async fn no_more_is_held_than_there_is_room_for() {
    let server = Serving::results();
    let policy = "[policy]\nmax_body_bytes = 1048576\nmax_held_bytes = 1048576\n";
    let proxy = Mcpmeter::start(&format!("{policy}{RULE}{}", server.route("a")));
    let mut large = stalled(&proxy, "/a/mcp", 900_000).await;
    let held = 900_000 + call(1, "ls").len() - 1 - (4 << 10);
    shows(&proxy, &format!("mcpmeter_held_body_bytes {held}\n")).await;
    let refused = ask(&proxy, "/a/mcp", 400_000).await;
    assert_eq!(refused.status(), 503, "{}", refused.text());
    assert!(refused.text().contains("(max_held_bytes)") && refused.header("retry-after").is_some());
    assert_eq!(ask(&proxy, "/a/mcp", 0).await.status(), 200, "small ones need no room");
    large.send(" ").await;
    assert_eq!(large.read_response().await.status(), 200);
    assert_eq!(ask(&proxy, "/a/mcp", 900_000).await.status(), 200, "who has gone on leaves room");
    let rows = proxy.stop().await;
    let refused = rows.iter().find(|row| row["error_code"] == "max_held_bytes").expect("a row");
    assert_eq!((&refused["status"], &refused["tool_name"]), (&json!("limited"), &json!("ls")));
}

#[tokio::test]
async fn a_call_has_its_place_while_its_body_is_read() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "", "max_exchanges = 1\n");
    let mut first = stalled(&proxy, "/a/mcp", 0).await;
    seen(&proxy).await;
    let second = ask(&proxy, "/a/mcp", 0).await;
    assert!(second.text().contains("(max_exchanges)"), "{}", second.text());
    first.send("}").await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    server.send(json_answer(&result(1))).await;
    assert_eq!(first.read_response().await.status(), 200);
}

#[tokio::test]
async fn rules_that_come_while_a_body_is_read_hold_for_it() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "", "");
    let mut client = stalled(&proxy, "/a/mcp", 0).await;
    seen(&proxy).await;
    reload(&proxy, |text| text.replace("tool = [\"rm\"]", "tool = [\"ls\"]")).await;
    client.send("}").await;
    let answer = client.read_response().await;
    assert!(answer.text().contains("not allowed"), "{}", answer.text());
    assert!(upstream.is_untouched());
    let rows = proxy.stop().await;
    assert_eq!(endings(&rows), [["denied", "denied_by_rule", "ls"]]);
}

#[tokio::test]
async fn nothing_is_held_on_a_route_that_no_rule_and_no_limit_is_about() {
    let upstream = Upstream::bind();
    let limit = "[[limit]]\nper = \"user\"\nrate = \"9/s\"\nroute = [\"a\"]\n";
    let proxy = start(&upstream, limit, "");
    let mut client = stalled(&proxy, "/b/mcp", 300_000).await;
    let mut server = upstream.accept().await;
    server.read_until(call(1, "ls")).await;
    client.send(" ").await;
    server.send(json_answer(&result(1))).await;
    assert_eq!(client.read_response().await.status(), 200);
}

#[tokio::test]
async fn what_is_no_message_for_sure_goes_through_judging_and_counting() {
    let limit = "[[limit]]\nper = \"all\"\nrate = \"1/h\"\nroute = [\"a\"]\n";
    let server = Serving::results();
    let proxy = Mcpmeter::start(&format!("{limit}{RULE}{}", server.route("a")));
    let form = "POST /a/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                Content-Length: 8\r\n\r\ncode=a%2";
    let end = "DELETE /a/mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: s\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for request in [form, end, form] {
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(request).await;
        let answer = client.read_response().await;
        assert!(![400, 413, 415, 429].contains(&answer.status()), "{} {}", answer.status(), answer.text());
    }
}

/// A call of a tool that is denied, or that a limit would count, in clothes that hide it.
fn disguised() -> [String; 5] {
    let denied = call(1, "rm");
    let of_type = |content_type: &str, body: &str| {
        post("localhost", "/a/mcp", body).replace("application/json\r\n", &format!("{content_type}\r\n"))
    };
    let form = "jsonrpc=2.0&id=1&method=tools%2Fcall&params%5Bname%5D=rm";
    let listens = "Mcp-Method: subscriptions/listen\r\nMcp-Protocol-Version: 2026-07-28\r\nHost:";
    [
        of_type("application/x-www-form-urlencoded; x=application/json", form),
        of_type("application/x-www-form-urlencoded", form),
        of_type("application/json; charset=utf-7", &denied.replace("method", "+AG0-ethod")),
        post("localhost", "/a/mcp", &denied).replacen("Host:", listens, 1),
        "GET /a/mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Method: tools/call\r\nMcp-Name: rm\r\n\r\n".to_owned(),
    ]
}

#[tokio::test]
async fn a_call_in_disguise_goes_nowhere_where_calls_are_judged() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "", "");
    for request in disguised() {
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(&*request).await;
        let answer = client.read_response().await;
        assert!([400, 415].contains(&answer.status()), "{request}: {}", answer.status());
    }
    assert!(upstream.is_untouched());
    let rows = proxy.stop().await;
    assert!(rows.iter().all(|row| row["status"] == "denied") && rows.len() == 5, "{rows:#?}");
}

#[tokio::test]
async fn a_call_in_disguise_goes_nowhere_where_calls_are_counted() {
    let upstream = Upstream::bind();
    let limit = "[[limit]]\nper = \"all\"\nrate = \"1/h\"\n";
    let proxy = Mcpmeter::start(&format!("{limit}{}", upstream.route("a")));
    for request in &disguised()[..4] {
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(&**request).await;
        let answer = client.read_response().await;
        assert!([400, 415].contains(&answer.status()), "{request}: {}", answer.status());
    }
    assert!(upstream.is_untouched());
}

#[tokio::test]
async fn what_says_to_be_a_stream_has_to_be_one_everywhere() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(&*disguised()[3]).await;
    let answer = client.read_response().await;
    assert_eq!(answer.status(), 400, "{}", answer.text());
    assert!(upstream.is_untouched());
    // What is one goes on unchanged.
    let listen = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}"#;
    let honest = disguised()[3].replace(&call(1, "rm"), listen);
    let length = format!("Content-Length: {}\r\n", call(1, "rm").len());
    let honest = honest.replace(&length, &format!("Content-Length: {}\r\n", listen.len()));
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(&*honest).await;
    let mut server = upstream.accept().await;
    assert!(server.read_request().await.text().ends_with(listen));
    server.send(json_answer(&result(1))).await;
    assert_eq!(client.read_response().await.status(), 200);
}

#[tokio::test]
async fn of_a_flood_without_room_only_the_first_are_rows() {
    let upstream = Upstream::bind();
    let proxy = Mcpmeter::start(&format!("{}max_exchanges = 1\n", upstream.route("a")));
    let _first = stalled(&proxy, "/a/mcp", 0).await;
    seen(&proxy).await;
    let mut client = Wire::connect(proxy.proxy).await;
    for id in 0..150 {
        client.send(post("localhost", "/a/mcp", &call(id, "ls"))).await;
        assert_eq!(client.read_response().await.status(), 503);
    }
    shows(&proxy, "mcpmeter_refused_requests_total{reason=\"max_exchanges\"} 150\n").await;
    drop(_first);
    let rows = proxy.stop().await;
    let limited: Vec<_> = rows.iter().filter(|row| row["status"] == "limited").collect();
    let counted: u64 = limited.iter().map(|row| row["error_detail"]["refusals"].as_u64().unwrap_or(1)).sum();
    assert!(limited.len() < 120 && counted == 150, "{} rows for {counted}", limited.len());
}
