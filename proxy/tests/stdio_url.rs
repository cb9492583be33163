//! `mcpmeter stdio --url`: a client that speaks only stdio talks with an HTTP server, in every revision, and is always
//! answered; every call is a row.

use crate::{
    piped::{Piped, State, stdio},
    scripted_http::{Reply, ScriptedHttp, Seen},
    stdio_command::{calls_of_everything, everything, metered, on_pipe, rows_of, talk},
    support::{
        eventually,
        expected_row::{ExpectedRow, assert_rows},
        peer::PeerServer,
        rmcp_server::{RmcpServer, RmcpServerOptions},
    },
};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// An answered `tools/list` of a server behind HTTP.
fn over_http(client: &str, protocol: &str) -> ExpectedRow {
    ExpectedRow { transport_type: "STREAMABLE_HTTPS", http_status: Some(200), ..on_pipe(client, protocol) }
}

fn four_calls() -> Value {
    json!([
        { "name": "add", "arguments": { "a": 2, "b": 3 } },
        { "name": "echo", "arguments": { "text": "naïve 🦀 \\ \"quoted\"\nline" } },
        { "name": "fail" },
        { "name": "slow", "arguments": { "steps": 3 } },
        { "name": "echo", "arguments": {}, "parallel": 200 },
    ])
}

#[tokio::test]
async fn the_demo_server_over_http_answers_as_over_stdio() {
    let server = PeerServer::start("everything.mjs", &["streamableHttp"]);
    let url = format!("http://127.0.0.1:{}/mcp", server.port);
    let (state, calls) = (State::new(), calls_of_everything());
    for (client, name, first_id) in [("stdio_client.mjs", "ts-stdio", 1), ("stdio_client.py", "py-stdio", 2)]
    {
        let state = State::new();
        let direct = talk(client, &state, &everything(), "initialize", &calls).await;
        let command = metered(&["--name", "peer", "--user", "u_1", "--url", &url], &[]);
        let seen = talk(client, &state, &command, "initialize", &calls).await;
        assert_eq!(seen, direct, "{client}");
        let rows = state.rows("peer").await;
        assert_rows(&rows, &rows_of(&seen, &calls, &over_http(name, "2025-11-25"), first_id));
    }
    drop(state);
}

#[tokio::test]
async fn rmcp_in_both_eras_and_200_calls_at_once() {
    let server = RmcpServer::start(RmcpServerOptions::default()).await;
    let url = format!("http://{}/mcp", server.address());
    for (client, name) in [("stdio_client.mjs", "ts-stdio"), ("stdio_client.py", "py-stdio")] {
        for (era, protocol) in
            [("modern", "2026-07-28"), ("initialize", "2025-11-25"), ("auto", "2026-07-28")]
        {
            let (state, calls) = (State::new(), four_calls());
            let command = metered(&["--name", "peer", "--user", "u_1", "--url", &url], &[]);
            let seen = talk(client, &state, &command, era, &calls).await;
            assert_eq!(seen["protocol"], protocol, "{client} {era}");
            let answers = seen["answers"].as_array().expect("a list");
            let texts: Vec<_> = answers
                .iter()
                .map(|answer| answer["result"]["content"][0]["text"].as_str().expect("a text"))
                .collect();
            assert_eq!(texts[..2], ["5", "naïve 🦀 \\ \"quoted\"\nline"]);
            assert_eq!(texts[3], "done after 3 steps");
            for (at, text) in texts[4..].iter().enumerate() {
                assert_eq!(*text, format!("number {at}"));
            }
            let rows = state.rows("peer").await;
            let first = rows[0]["rpc_id"].as_str().and_then(|id| id.parse().ok()).expect("a number");
            assert_rows(&rows, &rows_of(&seen, &calls, &over_http(name, protocol), first));
        }
    }
}

/// An answer that opens a session.
fn opened(request: &Seen) -> Reply {
    Reply::json(&json!({
        "jsonrpc": "2.0", "id": request.body["id"],
        "result": { "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": { "name": "s", "version": "1" } },
    }))
    .header("mcp-session-id", "the-session")
}

/// A server with a session, that does with calls what the test wants.
async fn with_session(call: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> ScriptedHttp {
    ScriptedHttp::start(move |request| match request.body["method"].as_str() {
        Some("initialize") => opened(request),
        Some("tools/call") => call(request),
        _ if request.method == Method::GET && request.header("last-event-id").is_empty() => Reply::empty(405),
        _ if request.method == Method::GET => call(request),
        _ => Reply::empty(202),
    })
    .await
}

fn start(state: &State, server: &ScriptedHttp) -> Piped {
    Piped::start(state, &["--name", "peer", "--url", &server.url("/mcp?key=1")])
}

fn result(id: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [] } })
}

/// Runs what blocks beside the server of the test.
async fn beside<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(what).await.expect("it does not panic")
}

#[tokio::test]
async fn a_session_is_opened_named_and_ended() {
    let server = with_session(|request| {
        // Of several lines, as a server may well send it.
        Reply::of(200, "application/json; charset=utf-8", format!("{:#}\r\n", result(&request.body["id"])))
    })
    .await;
    let state = State::new();
    let mut piped = Piped::spawn(
        stdio(
            &state,
            &[
                "--name",
                "peer",
                "--url",
                &server.url("/mcp?key=1"),
                "--header",
                "Authorization: Bearer ${TOKEN}",
            ],
        )
        .env("TOKEN", "s3cret"),
    );
    beside(move || {
        piped.initialize();
        assert_eq!(piped.call(1, "t", &json!({})), result(&json!(1)));
        piped.hang_up();
        assert_eq!(piped.wait(), Some(0));
    })
    .await;
    let seen = server.seen();
    assert!(
        seen.iter()
            .all(|request| request.target == "/mcp?key=1"
                && request.header("authorization") == "Bearer s3cret")
    );
    let told = |request: &Seen| {
        (request.header("mcp-session-id").to_owned(), request.header("mcp-protocol-version").to_owned())
    };
    assert_eq!(told(&seen[0]), (String::new(), String::new()), "initialize");
    for request in &seen[1..] {
        assert_eq!(told(request), ("the-session".to_owned(), "2025-11-25".to_owned()), "{request:?}");
    }
    let methods: Vec<_> = seen.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods.iter().filter(|method| **method == "GET").count(), 1, "{methods:?}");
    assert_eq!(methods.last(), Some(&"DELETE"));
    assert!(
        seen[0].header("accept").contains("text/event-stream")
            && seen[0].header("content-type") == "application/json"
    );
    assert!(seen[1].asks("notifications/initialized"), "in the client's order");
}

#[tokio::test]
async fn a_message_of_10_megabytes_goes_both_ways() {
    // In one event, and over lines of its data.
    let server = with_session(|request| {
        let text = &request.body["params"]["arguments"]["text"];
        let answer =
            json!({ "jsonrpc": "2.0", "id": 1, "result": { "content": [{ "type": "text", "text": text }] } });
        Reply::sse(&format!("data: {}\n\n", format!("{answer:#}").replace('\n', "\ndata: ")))
    })
    .await;
    let state = State::new();
    let mut piped = start(&state, &server);
    let text = "x".repeat(10 << 20);
    let answer = beside(move || {
        piped.initialize();
        let answer = piped.call(1, "echo", &json!({ "text": text }));
        piped.hang_up();
        assert_eq!(piped.wait(), Some(0));
        answer
    })
    .await;
    assert_eq!(answer["result"]["content"][0]["text"].as_str().map(str::len), Some(10 << 20));
    let rows = state.rows("peer").await;
    let bytes = |column: &str| rows[0][column].as_u64().expect("a number");
    assert!(bytes("input_bytes") > 10 << 20 && bytes("output_bytes") > 10 << 20, "{:#}", rows[0]);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_resumed_where_it_was() {
    let server = with_session(|request| match request.header("last-event-id") {
        "" => Reply::sse("id: a\nretry: 20\ndata:\n\n"),
        "a" => Reply::sse("id: b\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n"),
        _ => Reply::sse("id: c\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"id\":1,\"result\":{}}\n\n"),
    })
    .await;
    let state = State::new();
    let mut piped = start(&state, &server);
    beside(move || {
        piped.initialize();
        piped.ask(1, "tools/call", &json!({ "name": "t" }));
        assert_eq!(piped.hear().as_deref(), Some(r#"{"jsonrpc":"2.0","method":"notifications/message"}"#));
        assert_eq!(piped.hear().as_deref(), Some(r#"{"jsonrpc":"2.0", "id":1,"result":{}}"#));
        piped.hang_up();
        assert_eq!(piped.wait(), Some(0));
    })
    .await;
    let rows = state.rows("peer").await;
    assert_eq!((rows.len(), &rows[0]["status"], &rows[0]["http_status"]), (1, &json!("ok"), &json!(200)));
}

/// An answer that is none; code and words of the error that the client is given, and what the row says.
type Refusal = (fn(&Seen) -> Reply, i64, &'static str, Value);

fn refusals() -> [Refusal; 6] {
    [
        (
            |_| Reply::of(503, "text/plain", "overloaded".into()),
            -32000,
            "HTTP 503 Service Unavailable: overloaded",
            json!(["http_error", "http_503", "overloaded", 503]),
        ),
        (|_| Reply::empty(401), -32000, "--header", json!(["http_error", "http_401", null, 401])),
        (
            |_| {
                Reply::of(
                    400,
                    "application/json",
                    r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32020,"message":"header"}}"#.into(),
                )
            },
            -32020,
            "header",
            json!(["rpc_error", "-32020", "header", 400]),
        ),
        (
            |_| Reply::empty(202),
            -32000,
            "without an answer",
            json!(["upstream_error", "no_response", "http status 202 without an answer", 202]),
        ),
        (
            |_| Reply::sse("data: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n"),
            -32000,
            "without an answer",
            json!(["upstream_error", "no_response", "http status 200 without an answer", 200]),
        ),
        (
            |_| Reply::of(200, "text/html", "<html>".into()),
            -32000,
            "neither JSON nor",
            json!([
                "upstream_error",
                "invalid_response",
                "the answer is neither JSON nor a stream of events",
                200
            ]),
        ),
    ]
}

#[tokio::test]
async fn every_failure_is_an_answer_and_a_row() {
    for (reply, code, words, row) in refusals() {
        let server = with_session(reply).await;
        let state = State::new();
        let mut piped = start(&state, &server);
        let error = beside(move || {
            piped.initialize();
            let error = piped.call(7, "t", &json!({}))["error"].clone();
            piped.hang_up();
            assert_eq!(piped.wait(), Some(0));
            error
        })
        .await;
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(words)), "{error}");
        let rows = state.rows("peer").await;
        let told = json!([
            rows[0]["status"],
            rows[0]["error_code"],
            rows[0]["error_message"],
            rows[0]["http_status"]
        ]);
        assert_eq!((rows.len(), told), (1, row));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_to_whoever_asks() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("bound"));
    drop(listener);
    let state = State::new();
    let mut piped = Piped::start(&state, &["--name", "peer", "--url", &url]);
    let error = beside(move || {
        // A client may use any id that JSON-RPC allows.
        piped.say(r#"{"jsonrpc":"2.0","id":"a\"b","method":"tools/list"}"#);
        let line = piped.hear().expect("an answer");
        piped.hang_up();
        assert_eq!(piped.wait(), Some(0));
        line
    })
    .await;
    assert!(
        error.starts_with(r#"{"jsonrpc":"2.0","id":"a\"b","error":{"code":-32000,"message":"mcpmeter: "#),
        "{error}"
    );
    let rows = state.rows("peer").await;
    assert_eq!(
        (&rows[0]["error_code"], &rows[0]["status_detail"]),
        (&json!("connect_refused"), &json!("unreachable"))
    );
}

#[tokio::test]
async fn a_lost_session_fails_what_is_open_and_ends_the_program() {
    let server = with_session(|request| match request.body["params"]["name"].as_str() {
        Some("hang") => Reply::sse(": wait\n\n").hanging(),
        _ => Reply::of(404, "text/plain", "no such session".into()),
    })
    .await;
    let state = State::new();
    let mut piped = start(&state, &server);
    let (lost, other, code) = beside(move || {
        piped.initialize();
        piped.ask(1, "tools/call", &json!({ "name": "hang" }));
        piped.ask(2, "tools/call", &json!({ "name": "t" }));
        let (lost, other) = (piped.answer(2), piped.answer(1));
        (lost, other, piped.wait())
    })
    .await;
    assert_eq!(code, Some(1), "so that the client begins anew");
    assert_eq!((&lost["error"]["code"], &other["error"]["code"]), (&json!(-32000), &json!(-32000)));
    let rows = state.rows("peer").await;
    let details: Vec<_> = rows.iter().map(|row| (&row["status"], &row["status_detail"])).collect();
    assert_eq!(
        details,
        [(&json!("upstream_error"), &json!("session_ended")), (&json!("http_error"), &json!("session_lost"))]
    );
    assert!(server.seen().iter().all(|request| request.method != Method::DELETE), "there is none to delete");
}

#[tokio::test]
async fn a_modern_call_is_cancelled_by_closing_it_and_says_in_headers_what_it_is() {
    let server = ScriptedHttp::start(|_| Reply::sse(": wait\n\n").hanging()).await;
    let state = State::new();
    let mut piped = start(&state, &server);
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28" });
    piped.ask(1, "tools/call", &json!({ "name": "größe", "_meta": meta }));
    eventually("it is asked", || !server.seen().is_empty()).await;
    piped.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    eventually("the answer is given up", || server.cut() == 1).await;
    let seen = server.seen();
    assert_eq!(seen.len(), 1, "nothing is posted: {seen:?}");
    let told = ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id"]
        .map(|name| seen[0].header(name).to_owned());
    assert_eq!(told, ["2026-07-28", "tools/call", "=?base64?Z3LDtsOfZQ==?=", ""]);
    piped.hang_up();
    assert_eq!(beside(move || piped.wait()).await, Some(0));
    let rows = state.rows("peer").await;
    assert_eq!(
        (rows.len(), &rows[0]["status"], &rows[0]["cancel_requested"]),
        (1, &json!("cancelled"), &json!(true))
    );
}

#[tokio::test]
async fn a_legacy_cancellation_is_posted_behind_its_request() {
    let server = with_session(|_| Reply::sse(": wait\n\n").hanging()).await;
    let state = State::new();
    let mut piped = start(&state, &server);
    let mut piped = beside(move || {
        piped.initialize();
        piped.ask(1, "tools/call", &json!({ "name": "t" }));
        piped.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
        piped
    })
    .await;
    let methods = || -> Vec<_> {
        server.seen().iter().filter_map(|seen| seen.body["method"].as_str().map(str::to_owned)).collect()
    };
    eventually("it is posted", || methods().len() == 4).await;
    assert_eq!(methods()[2..], ["tools/call", "notifications/cancelled"]);
    assert_eq!(server.cut(), 0, "the stream stays open");
    piped.hang_up();
    assert_eq!(beside(move || piped.wait()).await, Some(0));
}

#[tokio::test]
async fn a_request_comes_behind_the_notification_before_it() {
    const PAUSE: Duration = Duration::from_millis(50);
    let server = ScriptedHttp::start(|request| match request.body["method"].as_str() {
        Some("initialize") => opened(request),
        Some("tools/call") => Reply::json(&result(&request.body["id"])),
        _ if request.method == Method::GET => Reply::empty(405),
        _ => Reply::empty(202).after(PAUSE),
    })
    .await;
    let state = State::new();
    let mut piped = start(&state, &server);
    beside(move || {
        piped.initialize();
        for id in 1..=10 {
            piped.ask(2 * id, "tools/call", &json!({ "name": "t" }));
            let notification =
                json!({ "jsonrpc": "2.0", "method": "notifications/x", "params": { "n": 2 * id + 1 } });
            piped.say(&notification.to_string());
        }
        (1..=10).for_each(|id| assert_eq!(piped.answer(2 * id), result(&json!(2 * id))));
        piped.hang_up();
        assert_eq!(piped.wait(), Some(0));
    })
    .await;
    let number = |seen: &Seen| seen.body["id"].as_u64().or_else(|| seen.body["params"]["n"].as_u64());
    let posted = server.seen().into_iter().skip(2).filter(|seen| seen.method == Method::POST);
    let heard: Vec<_> = posted.filter_map(|seen| Some((number(&seen)?, seen.at))).collect();
    assert!(heard.len() == 20 && heard.is_sorted(), "{heard:?}");
    for pair in heard[1..].chunks_exact(2) {
        assert!(pair[1].1 - pair[0].1 >= PAUSE, "not before it was accepted: {pair:?}");
    }
}

#[tokio::test]
async fn a_redirect_on_the_same_server_is_followed_and_remembered_and_no_other() {
    let server = ScriptedHttp::start(|request| match request.target.as_str() {
        "/mcp/" => Reply::json(&result(&request.body["id"])),
        "/away" => Reply::empty(307).header("location", "http://elsewhere.example/mcp"),
        _ => Reply::empty(307).header("location", "/mcp/"),
    })
    .await;
    let state = State::new();
    let mut piped = Piped::start(&state, &["--url", &server.url("/mcp")]);
    let mut away = Piped::start(&state, &["--url", &server.url("/away")]);
    let refused = beside(move || {
        for id in [1, 2] {
            assert_eq!(piped.call(id, "t", &json!({})), result(&json!(id)));
        }
        away.call(1, "t", &json!({}))
    })
    .await;
    let targets: Vec<_> = server.seen().iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(targets, ["/mcp", "/mcp/", "/mcp/", "/away"]);
    assert!(
        refused["error"]["message"].as_str().is_some_and(|words| words.contains("redirects")),
        "{refused}"
    );
}
