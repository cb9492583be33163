//! No column is forgotten: every one is either expected or measured by the tests in this folder, and every one
//! that a client, a server or a route can fill is filled by a call here, exactly.

use crate::support::{
    Mcpmeter,
    conversation::{on_route, route},
    expected_row::{ExpectedRow, MEASURED, assert_rows},
    obedient_server::{ObedientServer, PlainClient, answer},
};
use mcpmeter_journal::COLUMNS;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Columns of features that need more than a plain route: issued keys and limits. (Processes have their own tests.)
const OF_OTHER_FEATURES: [&str; 6] =
    ["api_key_id", "rate_limit_state", "cpu_ms", "cpu_shared", "cpu_percent", "memory_bytes"];

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// The first 128 bits of the SHA-256 of `the-session`.
const SESSION_HASH: &str = "39635262d609b07f4f4a345e2268c356";
/// The same of `the-state`.
const STATE_HASH: &str = "9aea885ae488807f42f7b8cd4d53c9a5";
/// The same of `task-9`.
const TASK_HASH: &str = "e34d3152baeb112c9bd77f2381ea0cf9";

#[test]
fn every_column_is_expected_or_measured() {
    let columns: BTreeSet<_> = COLUMNS.iter().map(|column| column.name.to_owned()).collect();
    let expected = on_route().columns();
    let covered: BTreeSet<_> = expected.keys().cloned().chain(MEASURED.map(str::to_owned)).collect();
    assert_eq!(covered, columns);
    assert_eq!(expected.len() + MEASURED.len(), COLUMNS.len(), "in one of the two, not in both");
}

/// One client's requests to the obedient server, one after the other, and the rows that they leave.
async fn rows_of(requests: &[(&[(&'static str, &str)], Value)]) -> Vec<Value> {
    let server = ObedientServer::start().await;
    let proxy = Mcpmeter::start(&route(server.port));
    let mut client = PlainClient::connect(proxy.proxy).await;
    for (headers, body) in requests {
        client.post("/peer/mcp", headers, body.to_string()).await;
    }
    drop(client);
    proxy.stop().await
}

fn call(id: Value, tool: &str, arguments: Value) -> Value {
    json!({
        "jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": { "name": tool, "arguments": arguments },
    })
}

/// The row of an answered call of `tool`, to a client that told no version.
fn called(tool: &str, id: &str) -> ExpectedRow {
    ExpectedRow {
        protocol_version: Some("2025-03-26".into()),
        rpc_id: Some(id.into()),
        framing: Some("json"),
        ..on_route().call(tool)
    }
}

#[tokio::test]
async fn a_batch_gives_rows_with_their_places() {
    let batch = json!([
        call(json!(1), "first", json!({ "size": 10 })),
        { "jsonrpc": "2.0", "method": "notifications/initialized" },
        { "jsonrpc": "2.0", "id": "two", "method": "tools/list" },
        { "jsonrpc": "2.0", "id": 3, "method": "ping" },
    ]);
    let rows = rows_of(&[(&[("user-agent", "batcher/1")], batch.clone())]).await;
    let of_batch = |row: ExpectedRow, index| ExpectedRow {
        user_agent: Some("batcher/1".into()),
        framing: Some("batch_json"),
        batch_size: Some(4),
        batch_index: Some(index),
        ..row
    };
    let list = ExpectedRow {
        protocol_version: Some("2025-03-26".into()),
        rpc_id: Some("\"two\"".into()),
        tool_count: Some(2),
        ..on_route()
    };
    assert_rows(&rows, &[of_batch(called("first", "1"), 0), of_batch(list, 2)]);
    for (row, index) in [(&rows[0], 0), (&rows[1], 2)] {
        let bytes = |value: &Value| Value::from(value.to_string().len());
        assert_eq!(row["input_bytes"], bytes(&batch[index]));
        assert_eq!(row["output_bytes"], bytes(&answer(&batch[index])));
        assert_eq!(row["http_request_bytes"], bytes(&batch));
    }
}

#[tokio::test]
async fn how_a_server_fails_is_in_the_row() {
    let data = json!({ "why": ["a", 1] });
    let error = |code, message, data| json!({ "error": { "code": code, "message": message, "data": data } });
    let plain = json!({ "error": { "code": -32602, "message": "what?" } });
    let tool_error = json!({ "result": { "isError": true, "content": [{ "type": "text", "text": "oh" }] } });
    let rows = rows_of(&[
        (&[], call(json!(1), "broken", json!({ "answer": error(-32000, "no", data.clone()) }))),
        (&[], call(json!(2), "asked wrongly", json!({ "answer": plain }))),
        (&[], call(json!(3), "elsewhere", json!({ "answer": error(-32042, "visit", json!(1)) }))),
        (&[], call(json!(4), "failing", json!({ "answer": tool_error }))),
        (&[], call(json!(5), "unavailable", json!({ "http": 503 }))),
        (&[], call(json!(6), "forbidden", json!({ "http": 403 }))),
    ])
    .await;
    let broken = called("broken", "1").failed("rpc_error", "upstream", Some("-32000"), "no");
    let asked_wrongly = called("asked wrongly", "2").failed("rpc_error", "client", Some("-32602"), "what?");
    let elsewhere = called("elsewhere", "3").failed("rpc_error", "upstream", Some("-32042"), "visit");
    let refused = |row: ExpectedRow, http: u16, origin: &str| ExpectedRow {
        http_status: Some(http),
        ..row.unanswered().failed("http_error", origin, Some(&format!("http_{http}")), "as you wish")
    };
    let expected = [
        ExpectedRow { error_detail: json!({ "data": data }), ..broken },
        asked_wrongly,
        ExpectedRow {
            error_detail: json!({ "data": 1 }),
            status_detail: Some("needs_input".into()),
            ..elsewhere
        },
        called("failing", "4").failed("tool_error", "upstream", None, "oh"),
        refused(called("unavailable", "5"), 503, "upstream"),
        ExpectedRow {
            status_detail: Some("auth_challenge".into()),
            ..refused(called("forbidden", "6"), 403, "client")
        },
    ];
    assert_rows(&rows, &expected);
}

#[tokio::test]
async fn an_answer_that_is_not_the_last_ties_its_row_to_those_that_follow() {
    let asking = json!({ "result": { "resultType": "input_required", "requestState": "the-state" } });
    let tasking = json!({ "result": { "resultType": "task", "taskId": "task-9" } });
    let mut again = call(json!(2), "asking", json!({}));
    again["params"]["requestState"] = "the-state".into();
    let rows = rows_of(&[
        (&[], call(json!(1), "asking", json!({ "answer": asking }))),
        (&[], again),
        (&[], call(json!(3), "tasking", json!({ "answer": tasking }))),
    ])
    .await;
    let of_round = |row| ExpectedRow { mrtr_group: Some(STATE_HASH.into()), ..row };
    let expected = [
        of_round(ExpectedRow { status: "input_required".into(), ..called("asking", "1") }),
        of_round(called("asking", "2")),
        ExpectedRow {
            status: "task_created".into(),
            task_hash: Some(TASK_HASH.into()),
            ..called("tasking", "3")
        },
    ];
    assert_rows(&rows, &expected);
}

#[tokio::test]
async fn what_a_client_can_say_is_in_the_row() {
    let modern = |id, name: &str| {
        let mut call = call(json!(id), name, json!({}));
        call["params"]["requestState"] = "the-state".into();
        call["params"]["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "teller", "version": "0.9" },
            "traceparent": TRACEPARENT,
        });
        call
    };
    let other_trace = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01";
    let rows = rows_of(&[
        (
            &[("mcp-method", "tools/call"), ("mcp-name", "other"), ("traceparent", other_trace)],
            modern(1, "a"),
        ),
        (
            &[("mcp-method", "tools/call"), ("mcp-name", "=?base64?YQ==?="), ("authorization", "Bearer x")],
            modern(2, "a"),
        ),
        (
            &[("mcp-session-id", "the-session"), ("mcp-protocol-version", "2025-06-18")],
            call(json!(3), "a", json!({ "http": 404 })),
        ),
    ])
    .await;
    let told = |id| ExpectedRow {
        protocol_version: Some("2026-07-28".into()),
        client_name: Some("teller".into()),
        client_version: Some("0.9".into()),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        parent_span_id: Some("00f067aa0ba902b7".into()),
        mrtr_group: Some(STATE_HASH.into()),
        ..called("a", id)
    };
    let lost = ExpectedRow {
        protocol_version: Some("2025-06-18".into()),
        status_detail: Some("session_lost".into()),
        http_status: Some(404),
        session: Some("the session"),
        ..called("a", "3").unanswered().failed("http_error", "client", Some("http_404"), "as you wish")
    };
    assert_rows(
        &rows,
        &[
            ExpectedRow { header_mismatch: true, ..told("1") },
            ExpectedRow { auth_method: "passthrough", auth_state: "unverified", ..told("2") },
            lost,
        ],
    );
    assert_eq!(rows[2]["session_hash"], SESSION_HASH);
}

#[tokio::test]
async fn no_column_is_always_null_but_those_of_other_features() {
    let server = ObedientServer::start().await;
    let proxy = Mcpmeter::start(&route(server.port));
    let mut client = PlainClient::connect(proxy.proxy).await;
    let headers = [("user-agent", "a"), ("mcp-session-id", "s"), ("traceparent", TRACEPARENT)];
    let meta = json!({ "io.modelcontextprotocol/clientInfo": { "name": "n", "version": "1" } });
    for answer in [
        json!({ "result": { "resultType": "task", "taskId": "t", "requestState": "s" } }),
        json!({ "error": { "code": -32042, "message": "m", "data": 1 } }),
    ] {
        let mut asked = call(json!(1), "a", json!({ "sse": true, "answer": answer }));
        asked["params"]["_meta"] = meta.clone();
        client.post("/peer/mcp", &headers, asked.to_string()).await;
    }
    let list =
        json!([{ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }, { "jsonrpc": "2.0", "method": "x" }]);
    client.post("/peer/mcp", &headers, list.to_string()).await;
    let rows = proxy.stop().await;
    let names: BTreeSet<_> = COLUMNS.iter().map(|column| column.name).collect();
    for row in &rows {
        let stored: BTreeSet<_> = row.as_object().expect("a row").keys().map(String::as_str).collect();
        assert_eq!(stored, names);
    }
    let null = |name: &&str| rows.iter().all(|row| row[*name].is_null());
    let always_null: BTreeSet<_> = names.into_iter().filter(null).collect();
    assert_eq!(always_null, BTreeSet::from(OF_OTHER_FEATURES));
}
