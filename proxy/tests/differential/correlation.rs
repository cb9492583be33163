//! Correlation on Streamable HTTP: every answer finds its call, and nothing else does.

mod batches;
mod leaving;
mod sessions;

use crate::{
    bench::Case,
    script::{Line, client, exchange, upstream},
    wire::{
        ACCEPTED, LAST_CHUNK, SSE_HEAD, answer, call, get_stream, json_answer, notification, post, post_with,
        request, result, sse_answer,
    },
};
use serde_json::{Value, json};

/// The headers of requests in the session that [`initialize`] opens.
const IN_SESSION: &str = "Mcp-Session-Id: s-1\r\nMCP-Protocol-Version: 2025-11-25\r\n";

/// Opens the session `s-1` at 2025-11-25; no event has an id.
fn initialize() -> Vec<Line> {
    let asked = request("0", "initialize", r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#);
    let told = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let headers = "Content-Type: application/json\r\nMcp-Session-Id: s-1\r\n";
    exchange("initialize", post("/mcp", asked), answer("200 OK", headers, told))
}

/// A call in the session, whose answer is a stream that the server has begun.
fn begin_call(name: &'static str, id: &str, tool: &str) -> Vec<Line> {
    vec![
        client(name).sends(post_with("/mcp", IN_SESSION, call(id, tool))),
        upstream(name).takes(tool),
        upstream(name).sends(SSE_HEAD),
        client(name).gets_head(),
    ]
}

/// The server sends an event, and the client has it.
fn pass(name: &'static str, data: &str) -> [Line; 2] {
    [upstream(name).sends_event(data), client(name).gets(format!("{data}\n\n"))]
}

/// The server ends the stream in order.
fn end(name: &'static str) -> [Line; 2] {
    [upstream(name).sends(LAST_CHUNK), client(name).gets_answer()]
}

/// The client tells the server something that wants no answer.
fn tell(name: &'static str, body: impl AsRef<[u8]>) -> Vec<Line> {
    exchange(name, post_with("/mcp", IN_SESSION, body), ACCEPTED)
}

#[tokio::test]
async fn same_id_both_ways() {
    let mut play = initialize();
    play.extend(begin_call("call", "1", "add"));
    play.extend(pass("call", &request("1", "sampling/createMessage", "{}")));
    play.extend(tell("reply", r#"{"jsonrpc":"2.0","id":1,"result":{"role":"assistant"}}"#));
    play.extend([
        client("stream").sends(get_stream("/mcp", IN_SESSION)),
        upstream("stream").takes("GET"),
        upstream("stream").sends(SSE_HEAD),
    ]);
    play.extend(pass("stream", &request("1", "ping", "{}")));
    play.extend(tell("pong", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
    for name in ["call", "stream"] {
        play.extend(pass(name, &notification("notifications/cancelled", r#"{"requestId":1}"#)));
    }
    play.extend(pass("call", &result("1")));
    play.extend(end("call"));
    play.extend([client("stream").closes(), upstream("stream").sees_end()]);
    let outcome = Case::new(play).run().await;
    outcome.assert_rows(&json!([{
        "tool_name": "add", "status": "ok", "match": "exact", "cancel_requested": false,
        "output_bytes": result("1").len(), "protocol_version": "2025-11-25",
    }]));
    // The call lasted until its answer, not until the first message on its stream.
    let row = &outcome.rows[0];
    assert!(row["duration_ms"].as_f64() > row["first_event_ms"].as_f64(), "{row:#}");
}

#[tokio::test]
async fn typed_ids() {
    let mut play = initialize();
    play.extend(begin_call("number", "1", "of a number"));
    play.extend(begin_call("string", "\"1\"", "of a string"));
    for (name, id) in [("string", "\"1\""), ("number", "1")] {
        play.extend(pass(name, &result(id)));
        play.extend(end(name));
    }
    let row = |tool, id| json!({ "tool_name": tool, "rpc_id": id, "status": "ok", "match": "exact" });
    let outcome = Case::new(play).run().await;
    outcome.assert_rows(&json!([row("of a number", "1"), row("of a string", "\"1\"")]));
}

#[tokio::test]
async fn loose_ids() {
    let big = "9007199254740993";
    let forms = [
        ("1", r#"{"jsonrpc":"2.0","id":"1","result":{}}"#),
        ("2", r#"{"jsonrpc":"2.0","id":null,"result":{}}"#),
        ("3", r#"{"jsonrpc":"2.0","result":{}}"#),
        // What a server in JavaScript makes of an id above 2^53.
        (big, r#"{"jsonrpc":"2.0","id":9007199254740992,"result":{}}"#),
    ];
    let play = forms.iter().flat_map(|(id, told)| {
        let ask = |form, answer| exchange(format!("{id} {form}"), post("/mcp", call(id, "add")), answer);
        [ask("json", json_answer(told)), ask("sse", sse_answer(&[told]))].concat()
    });
    let outcome = Case::new(play).run().await;
    let row = |id: &str| json!({ "rpc_id": id, "status": "ok", "match": "positional" });
    let expected: Vec<Value> = forms.iter().flat_map(|(id, _)| [row(id), row(id)]).collect();
    outcome.assert_rows(&expected.into());
}

#[tokio::test]
async fn sessionless_same_ids() {
    const CLIENTS: usize = 200;
    let tool = |number: usize| format!("tool-{number}.");
    let told = |number: usize| {
        let text = "x".repeat(number);
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
    };
    let mut play: Vec<Line> = Vec::new();
    for number in 0..CLIENTS {
        let name = format!("{number}");
        play.push(client(name.clone()).sends(post("/mcp", call("1", &tool(number)))));
        play.push(upstream(name).takes(tool(number)));
    }
    for at in 0..CLIENTS {
        let number = at * 73 % CLIENTS;
        let name = format!("{number}");
        play.push(upstream(name.clone()).sends(json_answer(told(number))));
        play.push(client(name).gets_answer());
    }
    let outcome = Case::new(play).run().await;
    let row = |number| {
        json!({ "tool_name": tool(number), "status": "ok", "match": "exact", "session_hash": null,
                "output_bytes": told(number).len() })
    };
    outcome.assert_rows(&(0..CLIENTS).map(row).collect());
}

#[tokio::test]
async fn answered_202() {
    let outcome = Case::new(exchange("c", post("/mcp", call("1", "add")), ACCEPTED)).run().await;
    outcome.assert_rows(&json!([{
        "status": "upstream_error", "status_detail": "no_response", "origin": "upstream",
        "http_status": 202, "match": "none", "output_bytes": 0,
    }]));
}

#[tokio::test]
async fn error_bodies() {
    let error = |code: i32| format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"no"}}}}"#);
    let headers = "Content-Type: application/json\r\n";
    let challenge = "WWW-Authenticate: Bearer resource_metadata=\"https://other.example/x\", Basic\r\n";
    let text = "Content-Type: text/plain\r\n";
    let answers = [
        answer("400 Bad Request", headers, error(-32020)),
        answer("400 Bad Request", headers, error(-32022)),
        answer("404 Not Found", headers, error(-32601)),
        answer("200 OK", headers, error(-32602)),
        answer("403 Forbidden", text, "not you"),
        answer("401 Unauthorized", &format!("{text}{challenge}"), "who?"),
        answer("500 Oops", text, "broken"),
    ];
    let ask = |(number, answer)| exchange(format!("{number}"), post("/mcp", call("1", "add")), answer);
    let outcome = Case::new(answers.into_iter().enumerate().flat_map(ask)).run().await;
    let rpc = |http: u16, code: &str, origin: &str| {
        json!({ "status": "rpc_error", "http_status": http, "error_code": code, "error_message": "no",
                "origin": origin, "match": "exact" })
    };
    let http = |http: u16, said: &str, detail: Value, origin: &str| {
        json!({ "status": "http_error", "http_status": http, "error_code": format!("http_{http}"),
                "error_message": said, "status_detail": detail, "origin": origin, "match": "none" })
    };
    outcome.assert_rows(&json!([
        rpc(400, "-32020", "upstream"),
        rpc(400, "-32022", "upstream"),
        rpc(404, "-32601", "client"),
        rpc(200, "-32602", "client"),
        http(403, "not you", "auth_challenge".into(), "client"),
        http(401, "who?", "auth_challenge".into(), "client"),
        http(500, "broken", Value::Null, "upstream"),
    ]));
}

#[tokio::test]
async fn tools_list_pages() {
    let pages = [("{}", 3, r#","nextCursor":"2""#), (r#"{"cursor":"2"}"#, 2, r#","nextCursor":"3""#)];
    let last = (r#"{"cursor":"3"}"#, 0, "");
    let tool = r#"{"name":"add","inputSchema":{"type":"object","properties":{"tools":{}}}}"#;
    let play = pages.iter().chain([&last]).enumerate().flat_map(|(id, (params, tools, next))| {
        let tools = vec![tool; *tools].join(",");
        let told = format!(r#"{{"result":{{"tools":[{tools}]{next}}},"jsonrpc":"2.0","id":{id}}}"#);
        let id = id.to_string();
        let asked = request(&id, "tools/list", params);
        exchange(id, post("/mcp", asked), json_answer(told))
    });
    let outcome = Case::new(play).run().await;
    let row = |tools: u32| json!({ "method": "tools/list", "tool_name": null, "status": "ok", "tool_count": tools });
    outcome.assert_rows(&json!([row(3), row(2), row(0)]));
}
