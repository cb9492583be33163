//! The proxy as the HTTP server of a program: what the transport of each revision asks of it.

use crate::{
    message::{call, get_stream},
    program::{Session, ask, odd, text_of},
    raw::Wire,
    support::{Mcpmeter, eventually},
};
use serde_json::{Value, json};

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;

/// A call in 2026-07-28 with the headers it needs.
async fn modern(mcpmeter: &Mcpmeter, id: &str, tool: &str) -> crate::message::Message {
    let headers = modern_headers("tools/call", Some(tool));
    ask(mcpmeter.proxy, "/odd/mcp", &headers, &modern_call(id, tool)).await
}

fn modern_headers(method: &str, name: Option<&str>) -> String {
    let name = name.map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
    format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{name}")
}

fn modern_call(id: &str, tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}",{META}}}}}"#)
}

async fn request(mcpmeter: &Mcpmeter, text: &str) -> crate::message::Message {
    let mut client = Wire::connect(mcpmeter.proxy).await;
    client.send(text).await;
    client.read_response().await
}

#[tokio::test]
async fn a_session_from_initialize_to_delete() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    let initialized = session.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    assert_eq!((initialized.status(), initialized.body.len()), (202, 0));
    let answer = session.call(1, "echo a").await;
    assert_eq!(
        (text_of(&answer).as_str(), answer.header("content-type").as_deref()),
        ("a", Some("application/json"))
    );
    assert_eq!(session.delete().await, 200);
    assert_eq!((session.delete().await, session.call(2, "echo b").await.status()), (404, 404));
    let rows = mcpmeter.stop().await;
    assert_eq!((&rows[0]["tool_name"], &rows[0]["status"]), (&json!("echo a"), &json!("ok")));
}

#[tokio::test]
async fn what_a_client_leaves_open_when_it_ends_its_session_is_its_own_doing() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    let mut client = session.begin(&call(1, "never")).await;
    while text_of(&session.call(2, "echo b").await) != "b" {}
    assert_eq!(session.delete().await, 200);
    assert_eq!(client.read_response().await.status(), 404);
    // A session that is over, and a message that is none.
    assert_eq!(session.call(3, "echo late").await.status(), 404);
    let rows = mcpmeter.stop().await;
    let row = |tool: &str| rows.iter().find(|row| row["tool_name"] == tool).expect("a row");
    let of = |tool: &str| {
        (row(tool)["status"].clone(), row(tool)["status_detail"].clone(), row(tool)["origin"].clone())
    };
    assert_eq!(of("never"), (json!("cancelled"), json!("session_ended"), json!("client")));
    assert_eq!(of("echo late"), (json!("rpc_error"), json!("session_lost"), json!("client")));
}

#[tokio::test]
async fn a_request_without_a_session_or_with_a_wrong_one() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let without = ask(mcpmeter.proxy, "/odd/mcp", "", &call(1, "echo")).await;
    assert_eq!((without.status(), without.text().contains("-32000")), (400, true));
    let wrong = ask(mcpmeter.proxy, "/odd/mcp", "Mcp-Session-Id: nobody\r\n", &call(1, "echo")).await;
    assert_eq!((wrong.status(), wrong.text().contains("-32001")), (404, true));
    let unknown =
        ask(mcpmeter.proxy, "/odd/mcp", "MCP-Protocol-Version: 2023-01-01\r\n", &call(1, "echo")).await;
    assert_eq!((unknown.status(), unknown.text().contains("Unsupported protocol version")), (400, true));
}

#[tokio::test]
async fn what_is_no_message_never_reaches_the_program() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    for (body, code) in [("", -32700), ("{", -32700), ("1", -32700), ("{\"id\":1}", -32600), ("[]", -32600)] {
        let answer = session.send(body).await;
        let error: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!((answer.status(), &error["error"]["code"]), (400, &json!(code)), "{body}");
    }
    let batch = format!("[{},{}]", call(1, "echo"), call(2, "echo"));
    assert_eq!(session.send(&batch).await.status(), 400, "not in 2025-11-25");
    let encoded =
        ask(mcpmeter.proxy, "/odd/mcp", &format!("{}Content-Encoding: gzip\r\n", session.header()), "x")
            .await;
    assert_eq!(encoded.status(), 415);
    assert_eq!(text_of(&session.call(3, "echo still here").await), "still here");
}

#[tokio::test]
async fn batches_where_they_are_allowed() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"b","version":"1"}}}"#;
    let opened = ask(mcpmeter.proxy, "/odd/mcp", "", initialize).await;
    let header = format!("Mcp-Session-Id: {}\r\n", opened.header("mcp-session-id").expect("a session"));
    let batch = format!("[{},{}]", call(1, "echo x"), call(2, "echo y"));
    let answer = ask(mcpmeter.proxy, "/odd/mcp", &header, &batch).await.text();
    assert!(answer.contains("\"x\"") && answer.contains("\"y\""), "{answer}");
    let rows = mcpmeter.stop().await;
    assert_eq!(rows.iter().filter(|row| row["batch_size"] == 2 && row["status"] == "ok").count(), 2);
}

#[tokio::test]
async fn multiline_body() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    let pretty = "{\r\n  \"jsonrpc\": \"2.0\",\n  \"id\": 1,\n  \"method\": \"tools/call\",\n  \"params\": {\n \"name\": \"echo a\"\n }\n}\n";
    assert_eq!(text_of(&session.send(pretty).await), "a");
    let rows = mcpmeter.stop().await;
    assert_eq!(rows[0]["input_bytes"], pretty.len());
}

#[tokio::test]
async fn progress_makes_the_answer_a_stream() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"progress","_meta":{"progressToken":"p"}}}"#;
    let mut client = session.begin(body).await;
    let seen = client.read_until("\n\n").await;
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(seen.to_ascii_lowercase().contains("content-type: text/event-stream"), "{seen}");
    assert!(seen.contains("event: message\ndata: {") && seen.contains("\"progressToken\":\"p\""), "{seen}");
    session.call(2, "release").await;
    let rest = client.read_until("\n\n").await;
    assert!(String::from_utf8_lossy(&rest).contains("\"released\""));
    let rows = mcpmeter.stop().await;
    let row = rows.iter().find(|row| row["tool_name"] == "progress").expect("a row");
    assert_eq!((&row["status"], &row["framing"]), (&json!("ok"), &json!("sse")));
    assert!(row["first_event_ms"].is_number(), "{row}");
}

#[tokio::test]
async fn a_client_that_reads_no_events_gets_the_answer_alone() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"progress","_meta":{"progressToken":"p"}}}"#;
    let request = format!(
        "POST /odd/mcp HTTP/1.1\r\nHost: localhost\r\n{}Accept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        session.header(),
        body.len()
    );
    let mut client = Wire::connect(mcpmeter.proxy).await;
    client.send(request).await;
    while text_of(&session.call(2, "held").await) != "1" {}
    session.call(3, "release").await;
    assert_eq!(text_of(&client.read_response().await), "released");
}

#[tokio::test]
async fn a_session_has_one_stream_of_its_own() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    let mut first = session.listen().await;
    first.read_until("\r\n\r\n").await;
    assert_eq!(session.listen().await.read_response().await.status(), 409);
    first.close().await;
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let mut again = session.listen().await;
        let head = again.read_until("\r\n\r\n").await;
        if head.starts_with(b"HTTP/1.1 200") {
            break;
        }
        assert!(std::time::Instant::now() < deadline);
    }
}

#[tokio::test]
async fn two_requests_of_one_id_at_once_are_refused() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    let mut waiting = session.begin(&call(7, "hold")).await;
    while text_of(&session.call(8, "held").await) != "1" {}
    let again = session.call(7, "echo").await;
    assert_eq!((again.status(), again.text().contains("in flight")), (400, true));
    session.call(9, "release").await;
    assert_eq!(text_of(&waiting.read_response().await), "released");
}

#[tokio::test]
async fn legacy_sse() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let mut stream = Wire::connect(mcpmeter.proxy).await;
    stream.send(get_stream("localhost", "/odd/sse")).await;
    stream.read_until("data: ").await;
    let endpoint = String::from_utf8(stream.read_until("\n\n").await).expect("text");
    let endpoint = endpoint.trim();
    assert!(endpoint.starts_with("/odd/message?sessionId="), "{endpoint}");
    let posted = ask(mcpmeter.proxy, endpoint, "", &call(5, "echo old")).await;
    assert_eq!((posted.status(), posted.text().as_str()), (202, "Accepted"));
    let answer = stream.read_until("\n\n").await;
    assert!(String::from_utf8_lossy(&answer).contains("\"text\":\"old\""));
    let pid = {
        ask(mcpmeter.proxy, endpoint, "", &call(6, "pid")).await;
        let answer = stream.read_until("\n\n").await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.split("\"text\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a pid").to_owned()
    };
    drop(stream);
    eventually("its program ends with the stream", || crate::program::in_session(&pid) == 0).await;
    assert_eq!(ask(mcpmeter.proxy, endpoint, "", &call(7, "echo")).await.status(), 404);
    let rows = mcpmeter.stop().await;
    let row = rows.iter().find(|row| row["tool_name"] == "echo old").expect("a row");
    assert_eq!((&row["client_transport"], &row["status"]), (&json!("SSE"), &json!("ok")));
    assert!(row["cpu_ms"].is_number() && row["memory_bytes"].is_number(), "{row}");
}

#[tokio::test]
async fn the_revision_without_sessions() {
    let mcpmeter = Mcpmeter::start(&odd(&["modern"], ""));
    assert_eq!(text_of(&modern(&mcpmeter, "1", "echo a").await), "a");
    let answer = modern(&mcpmeter, "\"x\"", "nothing").await;
    assert_eq!((answer.status(), answer.text().contains("\"id\":\"x\"")), (200, true));
    let unknown = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"no/such","params":{{{META}}}}}"#);
    let answer = ask(mcpmeter.proxy, "/odd/mcp", &modern_headers("no/such", None), &unknown).await;
    assert_eq!((answer.status(), answer.text().contains("-32601")), (404, true));
    for method in ["GET", "DELETE"] {
        let text = format!(
            "{method} /odd/mcp HTTP/1.1\r\nHost: localhost\r\nMCP-Protocol-Version: 2026-07-28\r\n\r\n"
        );
        let answer = request(&mcpmeter, &text).await;
        assert_eq!((answer.status(), answer.header("allow").as_deref()), (405, Some("POST, OPTIONS")));
    }
    let pids = [modern(&mcpmeter, "1", "pid").await, modern(&mcpmeter, "1", "pid").await];
    assert_eq!(text_of(&pids[0]), text_of(&pids[1]), "one program for all");
}

#[tokio::test]
async fn headers_that_differ_from_the_body_are_refused() {
    let mcpmeter = Mcpmeter::start(&odd(&["modern"], ""));
    for headers in [
        modern_headers("tools/call", None),
        modern_headers("tools/list", Some("echo")),
        modern_headers("tools/call", Some("other")),
        format!("{}Mcp-Name: echo\r\n", modern_headers("tools/call", Some("echo"))),
        "Mcp-Method: tools/call\r\nMcp-Name: echo\r\n".to_owned(),
    ] {
        let answer = ask(mcpmeter.proxy, "/odd/mcp", &headers, &modern_call("3", "echo")).await;
        let error: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(
            (answer.status(), &error["error"]["code"], &error["id"]),
            (400, &json!(-32020), &json!(3)),
            "{headers}"
        );
    }
}

#[tokio::test]
async fn a_client_of_the_revision_without_sessions_learns_that_the_program_is_older() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    for _ in 0..2 {
        let answer = modern(&mcpmeter, "1", "echo").await;
        assert_eq!(
            (answer.status(), answer.header("content-type").as_deref()),
            (400, Some("text/plain; charset=utf-8"))
        );
    }
    assert_eq!(text_of(&Session::open(&mcpmeter).await.call(1, "echo a").await), "a");
}

#[tokio::test]
async fn a_program_that_says_nothing_to_a_question_it_does_not_know_is_taken_for_an_older_one() {
    let mcpmeter = Mcpmeter::start(&odd(&["--silent"], ""));
    let answer = modern(&mcpmeter, "1", "echo a").await;
    assert_eq!(
        (answer.status(), answer.header("content-type").as_deref()),
        (400, Some("text/plain; charset=utf-8")),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn leaving_is_cancelling_in_the_revision_without_sessions() {
    let mcpmeter = Mcpmeter::start(&odd(&["modern"], ""));
    let mut client = Wire::connect(mcpmeter.proxy).await;
    let head = modern_headers("tools/call", Some("hold"));
    let text = crate::message::post("localhost", "/odd/mcp", &modern_call("1", "hold"));
    client.send(text.replacen("\r\n", &format!("\r\n{head}"), 1)).await;
    while text_of(&modern(&mcpmeter, "2", "held").await) != "1" {}
    client.close().await;
    let cancelled = loop {
        let cancelled = text_of(&modern(&mcpmeter, "3", "cancelled").await);
        if cancelled != "[]" {
            break cancelled;
        }
    };
    let held = text_of(&modern(&mcpmeter, "4", "held ids").await);
    assert_eq!(cancelled, held, "exactly the request that was left, as the program knows it");
    assert_eq!(text_of(&modern(&mcpmeter, "5", "release").await), "done", "the late answer goes nowhere");
    let rows = mcpmeter.stop().await;
    let row = rows.iter().find(|row| row["tool_name"] == "hold").expect("a row");
    assert_eq!((&row["status"], &row["client_left"]), (&json!("cancelled"), &json!(true)), "{row}");
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_and_those_of_ours_are_told_what_they_may() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let foreign = ask(mcpmeter.proxy, "/odd/mcp", "Origin: https://evil.example\r\n", &call(1, "echo")).await;
    assert_eq!(foreign.status(), 403);
    let null = ask(mcpmeter.proxy, "/odd/mcp", "Origin: null\r\n", &call(1, "echo")).await;
    assert_eq!(null.status(), 403);
    // An image or a frame of another site has no origin.
    let image = "GET /odd/sse HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n";
    assert_eq!(request(&mcpmeter, image).await.status(), 403);
    let preflight = "OPTIONS /odd/mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:5173\r\n\
                     Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: mcp-session-id,x-y\r\n\r\n";
    let answer = request(&mcpmeter, preflight).await;
    assert_eq!(answer.status(), 204);
    let header = |name: &str| answer.header(name).unwrap_or_default();
    assert_eq!(header("access-control-allow-origin"), "http://localhost:5173");
    assert_eq!(header("access-control-allow-headers"), "mcp-session-id,x-y");
    assert_eq!(header("access-control-expose-headers"), "Mcp-Session-Id, WWW-Authenticate");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_clearly() {
    let mcpmeter = Mcpmeter::start(&odd(&[], ""));
    for (text, status) in [
        ("GET /odd/ HTTP/1.1", 404),
        ("GET /odd/other HTTP/1.1", 404),
        ("PUT /odd/mcp HTTP/1.1", 405),
        ("DELETE /odd/sse HTTP/1.1", 405),
        ("GET /odd/message HTTP/1.1", 405),
    ] {
        let answer = request(&mcpmeter, &format!("{text}\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(answer.status(), status, "{text}");
    }
}

#[tokio::test]
async fn isolation_says_who_shares_a_program() {
    let shared = Mcpmeter::start(&odd(&[], "isolation = \"shared\""));
    let (one, two) = (Session::open(&shared).await, Session::open(&shared).await);
    assert_ne!(one.id, two.id);
    assert_eq!(text_of(&one.call(1, "pid").await), text_of(&two.call(1, "pid").await));
    assert_eq!((one.delete().await, two.call(2, "echo").await.status()), (200, 200), "the other's goes on");
    let own = Mcpmeter::start(&odd(&["modern"], "isolation = \"per_session\""));
    assert_eq!(modern(&own, "1", "echo").await.status(), 400);
}

#[tokio::test]
async fn a_reload_that_changes_a_command_ends_its_programs() {
    let mut mcpmeter = Mcpmeter::start(&odd(&[], ""));
    let session = Session::open(&mcpmeter).await;
    let pid = text_of(&session.call(1, "pid").await);
    let file = mcpmeter.config_file();
    let config = std::fs::read_to_string(&file).expect("readable");
    std::fs::write(&file, config.replace("name = \"odd\"", "name = \"odd\"\nenv = { NEW = \"1\" }"))
        .expect("written");
    mcpmeter.signal("HUP");
    mcpmeter.wait_for_log("configuration reloaded");
    eventually("the old program ends", || crate::program::in_session(&pid) == 0).await;
    assert_eq!(session.call(2, "echo").await.status(), 404);
    let again = Session::open(&mcpmeter).await;
    let env: Value = serde_json::from_str(&text_of(&again.call(1, "env").await)).expect("JSON");
    assert_eq!(env["NEW"], "1");
}
