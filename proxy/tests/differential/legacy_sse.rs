//! Legacy SSE (2024-11-05): calls are posted to the endpoint that a stream announces, and answered on the stream.

use crate::{
    bench::{Case, Outcome},
    script::{Line, client, exchange, has_recorded, upstream},
    wire::{LAST_CHUNK, SSE_HEAD, answer, call, get_stream, post, request, result},
};
use serde_json::{Value, json};

/// What servers say to a POST; the answer comes on the stream.
fn accepted() -> Vec<u8> {
    answer("202 Accepted", "", "Accepted")
}

/// Opens a stream that announces an endpoint in `event`; the client sees its end as `seen`.
fn open(name: &'static str, event: &str, seen: &str) -> Vec<Line> {
    vec![
        client(name).sends(get_stream("/sse", "Accept-Encoding: gzip\r\n")),
        upstream(name).takes("GET"),
        upstream(name).sends(SSE_HEAD),
        upstream(name).sends_chunk(event),
        client(name).gets(seen),
    ]
}

/// The same with an endpoint at the root of the server.
fn open_usual(name: &'static str) -> Vec<Line> {
    open(name, "event: endpoint\ndata: /messages?s=1\n\n", "/messages?s=1\n\n")
}

fn post_call(name: &'static str, id: &str, tool: &str) -> Vec<Line> {
    exchange(name, post("/messages?s=1", call(id, tool)), accepted())
}

/// The server sends an answer on a stream, and the client has it.
fn pass(name: &'static str, data: &str) -> [Line; 2] {
    [upstream(name).sends_event(data), client(name).gets(format!("{data}\n\n"))]
}

fn end(name: &'static str) -> [Line; 2] {
    [upstream(name).sends(LAST_CHUNK), client(name).gets_answer()]
}

/// What every row of this transport says.
fn assert_is_legacy(outcome: &Outcome) {
    for row in &outcome.rows {
        assert_eq!(
            (row["client_transport"].as_str(), row["transport_type"].as_str()),
            (Some("SSE"), Some("SSE"))
        );
        assert!(
            row["ttfb_ms"].is_null() && row["http_response_bytes"].is_null(),
            "a shared channel: {row:#}"
        );
    }
}

#[tokio::test]
async fn answer_before_202() {
    // The answer is on the other socket before the POST has one, as fast as the server can. The 202 need not wait
    // half a second to be later: it is sent when the client has its answer.
    const ROUNDS: usize = 300;
    let mut play = open_usual("stream");
    let told = |round: usize| result(&round.to_string());
    for round in 0..ROUNDS {
        let posted = upstream(format!("{round}"));
        play.extend([
            client("posts").sends(post("/messages?s=1", call(&round.to_string(), "add"))),
            posted.clone().takes("tools/call"),
            upstream("stream").sends_event(told(round)),
            client("stream").gets(format!("{}\n\n", told(round))),
            posted.sends(accepted()),
            client("posts").gets_answer(),
        ]);
    }
    play.extend(end("stream"));
    let outcome = Case::new(play).run().await;
    let row = |round: usize| {
        json!({ "rpc_id": round.to_string(), "status": "ok", "match": "exact",
                "output_bytes": told(round).len() })
    };
    outcome.assert_rows(&(0..ROUNDS).map(row).collect());
    assert!(outcome.rows.iter().all(|row| row["duration_ms"].as_f64() >= Some(0.0)));
    assert_is_legacy(&outcome);
}

#[tokio::test]
async fn answer_to_an_initialize_and_a_list() {
    let mut play = open_usual("stream");
    let asked = request("0", "initialize", r#"{"clientInfo":{"name":"old","version":"1"}}"#);
    play.extend(exchange("initialize", post("/messages?s=1", asked), accepted()));
    play.extend(pass("stream", r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2024-11-05"}}"#));
    let listed = post("/messages?s=1", request("1", "tools/list", "{}"));
    play.extend(exchange("list", listed, accepted()));
    // The server's own request has the id of the one that is open.
    play.extend(pass("stream", &request("1", "ping", "{}")));
    play.extend(exchange("pong", post("/messages?s=1", r#"{"id":1,"result":{}}"#), accepted()));
    play.extend(pass("stream", r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"add"}]}}"#));
    play.extend(end("stream"));
    let outcome = Case::new(play).run().await;
    outcome.assert_rows(&json!([{
        "method": "tools/list", "tool_count": 1, "status": "ok", "match": "exact", "client_name": "old",
        "protocol_version": "2024-11-05",
    }]));
    assert_is_legacy(&outcome);
}

/// An announcement, its end as the client waits for it, and where the client posts to then.
struct Form {
    event: &'static str,
    seen: &'static str,
    target: &'static str,
}

/// Of these [`ABSOLUTE`] names the server's own origin.
const FORMS: [Form; 6] = [
    Form {
        event: "event: endpoint\ndata: /messages/?session_id=x\n\n",
        seen: "/messages/?session_id=x\n\n",
        target: "/messages/?session_id=x",
    },
    Form {
        event: "event: endpoint\ndata: message?sessionId=x\n\n",
        seen: "data: message?sessionId=x\n\n",
        target: "/message?sessionId=x",
    },
    Form {
        event: "event: endpoint\ndata: ?sessionid=x\n\n",
        seen: "data: ?sessionid=x\n\n",
        target: "/sse?sessionid=x",
    },
    Form {
        event: "event: endpoint\ndata: http://{upstream}/messages?s=1\n\n",
        seen: "/messages?s=1\n\n",
        target: "/messages?s=1",
    },
    Form {
        event: "event: endpoint\r\ndata: /messages?s=1\r\n\r\n",
        seen: "/messages?s=1\r\n\r\n",
        target: "/messages?s=1",
    },
    Form {
        event: ": hello\n\nevent: endpoint\ndata: /messages?s=1\n\n",
        seen: "/messages?s=1\n\n",
        target: "/messages?s=1",
    },
];

const ABSOLUTE: usize = 3;

/// A stream with this announcement, a call that follows it, its answer, and later bytes that look like the first.
fn follow(form: &Form) -> Vec<Line> {
    let mut play = open("stream", form.event, form.seen);
    play.extend(exchange("post", post(form.target, call("1", "add")), accepted()));
    play.extend(pass("stream", &result("1")));
    for later in ["event: endpoint\ndata: /later\n\n", "data: /messages\n\n", ": /messages\r\n\r\n"] {
        play.extend([upstream("stream").sends_chunk(later), client("stream").gets(later)]);
    }
    play.extend(end("stream"));
    play
}

#[tokio::test]
async fn endpoint_forms() {
    for form in &FORMS {
        let outcome = Case::new(follow(form)).run().await;
        outcome.assert_rows(&json!([{ "status": "ok", "match": "exact", "framing": "sse" }]));
        assert_is_legacy(&outcome);
    }
}

#[tokio::test]
async fn endpoint_forms_at_the_root() {
    for (_, form) in FORMS.iter().enumerate().filter(|(number, _)| *number != ABSOLUTE) {
        let outcome = Case::new(follow(form)).by_host().run().await;
        outcome.assert_rows(&json!([{ "status": "ok", "match": "exact", "framing": "sse" }]));
    }
}

#[tokio::test]
async fn endpoint_forms_at_the_root_with_the_servers_own_name() {
    Case::new(follow(&FORMS[ABSOLUTE])).by_host().run().await;
}

#[tokio::test]
async fn endpoint_forms_in_pieces() {
    let mut play = open("stream", "event: end", "");
    for piece in ["point\nda", "ta: /mess", "ages?s=1\n"] {
        play.push(upstream("stream").sends_chunk(piece));
    }
    play.extend([upstream("stream").sends_chunk("\n"), client("stream").gets("/messages?s=1\n\n")]);
    play.extend(post_call("post", "1", "add"));
    play.extend(pass("stream", &result("1")));
    play.extend(end("stream"));
    Case::new(play).run().await.assert_rows(&json!([{ "status": "ok", "match": "exact" }]));
}

#[tokio::test]
async fn endpoint_forms_of_another_origin() {
    // Its client would post past the proxy; the answers on the stream belong to nobody.
    let mut play =
        open("stream", "event: endpoint\ndata: https://other.example/m\n\n", "https://other.example/m\n\n");
    play.extend(pass("stream", &result("1")));
    play.extend(end("stream"));
    Case::new(play).run().await.assert_rows(&json!([]));
}

#[tokio::test]
async fn endpoint_forms_without_rewriting() {
    let play = follow(&FORMS[2]);
    let outcome = Case::new(play).with_route("rewrite_endpoint = false").run().await;
    outcome.assert_rows(&json!([{ "status": "ok", "match": "exact" }]));
}

#[tokio::test]
async fn legacy_two_streams_same_endpoint() {
    let mut play = open_usual("one");
    play.extend(open_usual("two"));
    play.extend(post_call("of one", "1", "of one"));
    play.extend(post_call("of two", "1", "of two"));
    for stream in ["two", "one"] {
        play.extend(pass(stream, &result("1")));
    }
    play.extend(end("one"));
    play.extend(end("two"));
    let outcome = Case::new(play).run().await;
    outcome.assert_rows(&json!([{ "status": "ok" }, { "status": "ok" }]));
    let told = |row: &Value| matches!(row["match"].as_str(), Some("ambiguous" | "fifo"));
    assert!(outcome.rows.iter().all(told), "{:#?}", outcome.rows);
}

#[tokio::test]
async fn legacy_get_drops() {
    let drops = |name: &'static str| {
        let mut play = open_usual("stream");
        play.extend(post_call("one", "1", "add"));
        play.extend(post_call("two", "2", "add"));
        match name {
            "ends" => play.extend(end("stream")),
            "dies" => play.extend([upstream("stream").resets(), client("stream").gets_cut_off()]),
            _ => play.extend([client("stream").closes(), upstream("stream").sees_end()]),
        }
        play.push(has_recorded(2));
        Case::new(play)
    };
    for (name, status, origin) in [
        ("ends", "upstream_error", "upstream"),
        ("dies", "upstream_error", "upstream"),
        ("is left", "cancelled", "client"),
    ] {
        let row = json!({ "status": status, "status_detail": "session_ended", "origin": origin });
        drops(name).run().await.assert_rows(&json!([row, row]));
    }
}

#[tokio::test]
async fn legacy_post_rejected() {
    let refusal = answer("404 Not Found", "Content-Type: text/plain\r\n", "session not found");
    let mut play = open_usual("stream");
    play.extend(exchange("post", post("/messages?s=1", call("1", "add")), refusal));
    // At once, with the stream still there.
    play.push(has_recorded(1));
    play.extend(end("stream"));
    Case::new(play).run().await.assert_rows(&json!([{
        "status": "http_error", "http_status": 404, "error_code": "http_404",
        "error_message": "session not found", "match": "none",
    }]));
}
