//! The same rows in either store: what PostgreSQL is given is what the embedded file has, column by column, and
//! nothing of it depends on PostgreSQL being there when a call is made.

use crate::support::{
    Mcpmeter, PATIENCE,
    conversation::{Client, expected_rows, hold, on_route, route},
    expected_row::{ExpectedRow, assert_measured, assert_rows},
    obedient_server::{ObedientServer, PlainClient},
    peer::PeerServer,
    postgres::{Cluster, Stop},
};
use mcpmeter_journal::{CallFilter, Reader, Row, SCHEMA_VERSION};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What two proxies in a row cannot agree on: each makes its own ids (a span is part of one) and reads its own
/// clock.
const OF_THE_PROXY: [&str; 13] = [
    "id",
    "created_at",
    "completed_at",
    "duration_ms",
    "latency_bucket",
    "ttfb_ms",
    "first_event_ms",
    "proxy_us",
    "span_id",
    // Each of the two has a process of its own behind it.
    "cpu_ms",
    "cpu_shared",
    "cpu_percent",
    "memory_bytes",
];

/// A proxy that stores in PostgreSQL.
fn with_postgres(url: &str, route: &str) -> Mcpmeter {
    Mcpmeter::start(&format!("[store]\nurl = \"{url}\"\n{route}"))
}

/// The rows in PostgreSQL once there are as many. Until the proxy has made the table there are none.
async fn wait_for_rows(url: &str, count: usize) -> Vec<Value> {
    let reader = Reader::postgres(&url.parse().expect("a URL")).expect("no TLS to set up");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let read = reader.calls(&CallFilter::default(), None, 1000).await;
        let found = read.as_ref().map_or(0, Vec::len);
        assert!(found <= count && Instant::now() < deadline, "{found} of {count} rows: {:?}", read.err());
        if found == count {
            return rows_as_json(&read.expect("just counted"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Oldest first.
fn rows_as_json(rows: &[Row]) -> Vec<Value> {
    rows.iter().rev().map(|row| json!(row)).collect()
}

fn without(columns: &[&str], row: &Value) -> Value {
    let mut row = row.clone();
    columns.iter().for_each(|column| drop(row.as_object_mut().expect("a row").remove(*column)));
    row
}

/// The conversation goes through a proxy with a SQLite file, then one with PostgreSQL, then to the server; gives
/// what the conversation gave, and the rows of each.
async fn through_both<T>(
    server: u16,
    rows: usize,
    conversation: impl AsyncFnOnce(&Mcpmeter) -> T,
) -> (T, Vec<Value>, Vec<Value>) {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let to_postgres = with_postgres(&url, &route(server));
    let upstream = format!("127.0.0.1:{}/peer", to_postgres.proxy.port());
    let to_sqlite = Mcpmeter::start(&route(0).replace("127.0.0.1:0", &upstream));
    let seen = conversation(&to_sqlite).await;
    let stored = (to_sqlite.stop().await, wait_for_rows(&url, rows).await);
    assert_eq!(
        cluster.query(&url, "select max(version) from mcpmeter.schema_version"),
        SCHEMA_VERSION.to_string()
    );
    to_postgres.signal("TERM");
    assert!(to_postgres.wait().0.success());
    assert_eq!(cluster.query(&url, "select count(*) from mcpmeter.mcp_server_request_log"), rows.to_string());
    (seen, stored.0, stored.1)
}

fn assert_same(sqlite: &[Value], postgres: &[Value]) {
    assert_eq!(sqlite.len(), postgres.len());
    for (sqlite, postgres) in sqlite.iter().zip(postgres) {
        assert_measured(sqlite);
        assert_measured(postgres);
        assert_eq!(without(&OF_THE_PROXY, postgres), without(&OF_THE_PROXY, sqlite));
    }
}

#[tokio::test]
async fn a_conversation_leaves_the_same_rows_in_sqlite_and_in_postgresql() {
    let server = PeerServer::start("everything.mjs", &["streamableHttp"]);
    let client = Client::Script {
        script: "ts_client.mjs",
        mode: "streamable",
        conversation: "everything",
        arguments: &["--header", "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
    };
    let (steps, sqlite, postgres) =
        through_both(server.port, 6, async |proxy| hold(&proxy.url("/peer/mcp"), client).await).await;
    assert_same(&sqlite, &postgres);
    let common = ExpectedRow {
        protocol_version: Some("2025-11-25".into()),
        user_agent: Some("node".into()),
        client_name: Some("ts-peer".into()),
        client_version: Some("1.0.0".into()),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        parent_span_id: Some("00f067aa0ba902b7".into()),
        session: Some("the only"),
        ..on_route()
    };
    let expected = expected_rows(&steps, &common, 1);
    assert_rows(&sqlite, &expected);
    assert_rows(&postgres, &expected);
}

/// Calls whose texts and documents the two databases would spell differently if they were let.
fn awkward_calls() -> Vec<Value> {
    let call = |name: &str, answer: Value| {
        let params = json!({ "name": name, "arguments": { "answer": answer } });
        json!({ "jsonrpc": "2.0", "id": name, "method": "tools/call", "params": params })
    };
    let failing = |data: Value| json!({ "error": { "code": -32603, "message": "tab\t nul \u{0} crab 🦀 \\N \"quoted\"\n", "data": data } });
    vec![
        call("with nul \u{0} and crab 🦀", json!({ "result": {} })),
        call("\\N", json!({ "result": {} })),
        call("", json!({ "result": {} })),
        call(&"long🦀".repeat(100), json!({ "result": {} })),
        call("data", failing(json!({ "z": 1, "a": [1.50, 1e2, -0.0, 1e-7, 12345678901234567890_u64] }))),
        call("nul in data", failing(json!("a\u{0}b"))),
        call("null", failing(Value::Null)),
        call("deep", failing((0..50).fold(json!(1), |inner, _| json!([inner])))),
        call("long data", failing(json!("x".repeat(20_000)))),
        json!([call("in a batch", json!({ "result": { "isError": true } })), { "jsonrpc": "2.0", "method": "x" }]),
    ]
}

#[tokio::test]
async fn awkward_texts_and_documents_are_the_same_in_both_stores() {
    let server = ObedientServer::start().await;
    let calls = awkward_calls();
    let ((), sqlite, postgres) = through_both(server.port, calls.len(), async |proxy| {
        let mut client = PlainClient::connect(proxy.proxy).await;
        for call in &calls {
            client.post("/peer/mcp", &[("mcp-session-id", "s")], call.to_string()).await;
        }
    })
    .await;
    assert_same(&sqlite, &postgres);
    assert_eq!(sqlite[0]["tool_name"], "with nul  and crab 🦀", "no database text holds a NUL");
    let details = sqlite.iter().filter(|row| !row["error_detail"].is_null()).count();
    assert!(details >= 4, "{sqlite:#?}");
}

#[tokio::test]
async fn calls_made_while_postgresql_is_away_are_there_once_it_is_back() {
    let cluster = Cluster::new();
    let url = cluster.database();
    let server = ObedientServer::start().await;
    let proxy = with_postgres(&url, &route(server.port));
    let mut client = PlainClient::connect(proxy.proxy).await;
    let mut names = Vec::new();
    let mut call = async |name: &str| {
        names.push(name.to_owned());
        let params = json!({ "name": name });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let (status, _) = client.post("/peer/mcp", &[], message.to_string()).await;
        assert_eq!(status, 200, "{name}");
        names.len()
    };
    let count = call("before").await;
    wait_for_rows(&url, count).await;
    for how in [Stop::Fast, Stop::Immediate] {
        cluster.stop(how);
        call(&format!("while away after {how:?}")).await;
        cluster.start();
        let count = call(&format!("back after {how:?}")).await;
        wait_for_rows(&url, count).await;
    }
    let stored = wait_for_rows(&url, names.len()).await;
    let stored: Vec<_> = stored.iter().filter_map(|row| row["tool_name"].as_str()).collect();
    assert_eq!(stored, names);
    proxy.signal("TERM");
    assert!(proxy.wait().0.success());
}
