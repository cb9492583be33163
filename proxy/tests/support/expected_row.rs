//! What a row has to say, every column of it: [`ExpectedRow`] are the columns that a test knows beforehand, and
//! [`assert_rows`] holds what was measured to what it must be in relation to the rest.
//!
//! A column that is in neither of the two fails `every_column_is_expected_or_measured`.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// The columns whose values no test can know; [`assert_rows`] checks what they mean.
pub(crate) const MEASURED: [&str; 18] = [
    "id",
    "created_at",
    "completed_at",
    "duration_ms",
    "latency_bucket",
    "ttfb_ms",
    "first_event_ms",
    "proxy_us",
    "input_bytes",
    "output_bytes",
    "http_request_bytes",
    "http_response_bytes",
    "cpu_ms",
    "cpu_shared",
    "cpu_percent",
    "memory_bytes",
    "session_hash",
    "span_id",
];

type Text = Option<String>;

/// One row, in the order of the columns. `None` is SQL's null.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExpectedRow {
    pub(crate) user_id: Text,
    pub(crate) organization_id: Text,
    pub(crate) mcp_server_instance_id: &'static str,
    pub(crate) tool_name: Text,
    pub(crate) method: &'static str,
    pub(crate) transport_type: &'static str,
    pub(crate) client_transport: &'static str,
    pub(crate) protocol_version: Text,
    pub(crate) status: String,
    pub(crate) status_detail: Text,
    pub(crate) origin: Text,
    pub(crate) error_code: Text,
    pub(crate) error_message: Text,
    pub(crate) error_detail: Value,
    pub(crate) http_status: Option<u16>,
    pub(crate) auth_method: &'static str,
    pub(crate) auth_state: &'static str,
    pub(crate) api_key_id: Text,
    pub(crate) rate_limit_state: Value,
    pub(crate) client_ip: Text,
    pub(crate) user_agent: Text,
    pub(crate) client_name: Text,
    pub(crate) client_version: Text,
    pub(crate) trace_id: Text,
    pub(crate) parent_span_id: Text,
    pub(crate) rpc_id: Text,
    pub(crate) framing: Option<&'static str>,
    #[serde(rename = "match")]
    pub(crate) match_kind: &'static str,
    pub(crate) batch_size: Option<u32>,
    pub(crate) batch_index: Option<u32>,
    pub(crate) tool_count: Option<usize>,
    pub(crate) redelivered: u32,
    pub(crate) client_left: bool,
    pub(crate) cancel_requested: bool,
    pub(crate) header_mismatch: bool,
    pub(crate) task_hash: Text,
    pub(crate) mrtr_group: Text,
    /// Not a column: rows with the same label share a `session_hash`, others never do; `None` is null.
    #[serde(skip)]
    pub(crate) session: Option<&'static str>,
}

impl ExpectedRow {
    /// An answered `tools/list` over Streamable HTTP on a route without keys of its own, by a client on loopback
    /// that told nothing about itself.
    pub(crate) fn of_instance(instance: &'static str) -> Self {
        Self {
            user_id: None,
            organization_id: None,
            mcp_server_instance_id: instance,
            tool_name: None,
            method: "tools/list",
            transport_type: "STREAMABLE_HTTPS",
            client_transport: "STREAMABLE_HTTPS",
            protocol_version: None,
            status: "ok".into(),
            status_detail: None,
            origin: None,
            error_code: None,
            error_message: None,
            error_detail: Value::Null,
            http_status: Some(200),
            auth_method: "none",
            auth_state: "missing",
            api_key_id: None,
            rate_limit_state: Value::Null,
            client_ip: Some("127.0.0.0/24".into()),
            user_agent: None,
            client_name: None,
            client_version: None,
            trace_id: None,
            parent_span_id: None,
            rpc_id: None,
            framing: Some("sse"),
            match_kind: "exact",
            batch_size: None,
            batch_index: None,
            tool_count: None,
            redelivered: 0,
            client_left: false,
            cancel_requested: false,
            header_mismatch: false,
            task_hash: None,
            mrtr_group: None,
            session: None,
        }
    }

    /// The same as a `tools/call`.
    pub(crate) fn call(&self, tool: &str) -> Self {
        Self { method: "tools/call", tool_name: Some(tool.into()), tool_count: None, ..self.clone() }
    }

    /// The same, ended in a failure.
    pub(crate) fn failed(self, status: &str, origin: &str, code: Option<&str>, message: &str) -> Self {
        Self {
            status: status.into(),
            origin: Some(origin.into()),
            error_code: code.map(str::to_owned),
            error_message: Some(message.into()),
            ..self
        }
    }

    /// The same without an answer from the server.
    pub(crate) fn unanswered(self) -> Self {
        Self { framing: None, match_kind: "none", ..self }
    }

    /// The columns and their values.
    pub(crate) fn columns(&self) -> Map<String, Value> {
        match json!(self) {
            Value::Object(columns) => columns,
            other => panic!("{other} is no row"),
        }
    }
}

/// The rows are these, in this order, with every column as it has to be.
pub(crate) fn assert_rows(rows: &[Value], expected: &[ExpectedRow]) {
    let brief = |row: &Value| format!("{} {} {}", row["method"], row["tool_name"], row["status"]);
    let all: Vec<_> = rows.iter().map(brief).collect();
    assert_eq!(rows.len(), expected.len(), "rows: {all:#?}");
    for (at, (row, expected)) in rows.iter().zip(expected).enumerate() {
        let wrong: Vec<_> = expected
            .columns()
            .into_iter()
            .filter(|(column, value)| row.get(column) != Some(value))
            .map(|(column, value)| format!("{column}: {} instead of {value}", row[&column]))
            .collect();
        assert!(wrong.is_empty(), "row {at}, {}: {wrong:#?}", brief(row));
        assert_measured(row);
    }
    assert_ids_and_order(rows);
    assert_sessions(rows, expected);
}

/// What was measured agrees with itself, and with what is known of the call.
pub(crate) fn assert_measured(row: &Value) {
    assert_instants(row);
    assert_bytes(row);
    assert_use(row);
    if row["trace_id"].is_null() {
        assert!(row["span_id"].is_null(), "{row:#}");
    } else {
        let span = format!("{:016x}", uuid_of(row).as_u64_pair().1);
        assert_eq!(row["span_id"], Value::from(span), "the span is the id's random half");
    }
}

fn assert_instants(row: &Value) {
    let (created, completed) = (micros(row, "created_at"), micros(row, "completed_at"));
    let duration_us = number(row, "duration_ms").map(|ms| (ms * 1000.0).round() as i64).expect("not null");
    assert!(duration_us > 0, "{row:#}");
    // The head of a request is read before its end is; both instants are cut to whole microseconds.
    assert!(completed - created >= duration_us, "{row:#}");
    assert_eq!(row["latency_bucket"], Value::from(bucket_of(duration_us as u64)), "{row:#}");
    assert_eq!(uuid_of(row).get_version_num(), 7, "{row:#}");
    assert_eq!(id_millis(row), created / 1000, "an id begins with the instant of its call: {row:#}");

    let answered = row["match"] != "none";
    assert_eq!(number(row, "proxy_us").is_some(), answered, "{row:#}");
    assert!(number(row, "proxy_us").is_none_or(|us| us >= 0.0), "{row:#}");
    let (ttfb, first_event) = (number(row, "ttfb_ms"), number(row, "first_event_ms"));
    let duration = number(row, "duration_ms").expect("not null");
    assert!(ttfb.is_none_or(|ttfb| ttfb > 0.0 && ttfb <= duration), "{row:#}");
    let is_after_head = |first| row["client_transport"] == "STDIO" || Some(first) >= ttfb;
    assert!(first_event.is_none_or(|first| first <= duration && is_after_head(first)), "{row:#}");
    // On a legacy stream, neither the POST's head nor the stream's says anything about the answer.
    let own_exchange = row["client_transport"] != "SSE";
    if row["client_transport"] == "STDIO" {
        // A program has no head to send; an HTTP server behind the pipe has one for every call.
        assert_eq!(ttfb.is_some(), !row["http_status"].is_null() && answered, "{row:#}");
    } else if answered {
        assert_eq!(ttfb.is_some(), own_exchange, "{row:#}");
        let event = row["framing"].as_str().is_some_and(|framing| framing.ends_with("sse"));
        assert_eq!(first_event.is_some(), own_exchange && event, "{row:#}");
    }
}

/// Servers are found a moment after they have first been spoken to; from then on their calls are metered.
fn assert_use(row: &Value) {
    let metered = ["cpu_ms", "cpu_shared", "cpu_percent", "memory_bytes"];
    if metered.iter().all(|column| row[column].is_null()) {
        return;
    }
    let (cpu, percent) =
        (number(row, "cpu_ms").expect("metered"), number(row, "cpu_percent").expect("metered"));
    let duration = number(row, "duration_ms").expect("not null");
    assert!(cpu >= 0.0 && (percent - cpu / duration * 100.0).abs() <= 0.01 * percent + 0.01, "{row:#}");
    assert!(row["cpu_shared"].is_boolean() && row["memory_bytes"].as_u64() > Some(0), "{row:#}");
}

fn assert_bytes(row: &Value) {
    let bytes = |column: &str| row[column].as_u64();
    let (input, output) = (bytes("input_bytes").expect("not null"), bytes("output_bytes").expect("not null"));
    // Braces, `jsonrpc`, an id and the method are the least that a request has.
    let least = r#"{"jsonrpc":"2.0","id":1,"method":""}"#.len() + row["method"].as_str().map_or(0, str::len);
    assert!(input >= least as u64, "{row:#}");
    assert_eq!(output > 0, row["match"] != "none", "{row:#}");
    let (request, response) = (bytes("http_request_bytes"), bytes("http_response_bytes"));
    if row["client_transport"] == "STDIO" {
        assert_eq!((request, response), (None, None), "a pipe is shared: {row:#}");
        return;
    }
    if row["client_transport"] == "SSE" && (response.is_none() || row["framing"] == "sse") {
        assert_eq!((request, response), (None, None), "a legacy stream is shared: {row:#}");
        return;
    }
    let response = response.expect("an exchange of its own");
    if row["batch_size"].is_null() {
        assert_eq!(request, Some(input), "{row:#}");
    }
    match row["framing"].as_str() {
        Some("json") => assert_eq!(response, output, "{row:#}"),
        // At least `data:` and two ends of line.
        Some("sse") => assert!(response >= output + "data:\n\n".len() as u64, "{row:#}"),
        _ => assert!(response >= output, "{row:#}"),
    }
}

fn assert_ids_and_order(rows: &[Value]) {
    let ids: HashSet<_> = rows.iter().map(uuid_of).collect();
    assert_eq!(ids.len(), rows.len(), "ids are unique");
    let sorts = |rows: &[Value], key: fn(&Value) -> i64| rows.is_sorted_by_key(key);
    assert!(sorts(rows, |row| micros(row, "created_at")) && sorts(rows, id_millis), "oldest first");
}

/// Rows of one session share a hash, rows of different sessions do not, rows of none have none.
fn assert_sessions(rows: &[Value], expected: &[ExpectedRow]) {
    let mut hashes: HashMap<&str, &str> = HashMap::new();
    for (row, expected) in rows.iter().zip(expected) {
        let hash = row["session_hash"].as_str();
        assert_eq!(hash.is_some(), expected.session.is_some(), "{row:#}");
        let (Some(hash), Some(label)) = (hash, expected.session) else { continue };
        assert!(hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{row:#}");
        assert_eq!(*hashes.entry(label).or_insert(hash), hash, "one hash per session");
    }
    let distinct: HashSet<_> = hashes.values().collect();
    assert_eq!(distinct.len(), hashes.len(), "one session per hash: {hashes:?}");
}

/// 16 sub-buckets per power of two, exact below 32 µs. Written down a second time, because a stored bucket must
/// mean the same for ever.
const fn bucket_of(duration_us: u64) -> u64 {
    let mut shift = 0;
    while duration_us >> shift >= 32 {
        shift += 1;
    }
    shift * 16 + (duration_us >> shift)
}

fn uuid_of(row: &Value) -> Uuid {
    row["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no id: {row:#}"))
}

fn id_millis(row: &Value) -> i64 {
    let timestamp = uuid_of(row).get_timestamp().expect("version 7 carries its time");
    let (seconds, nanos) = timestamp.to_unix();
    seconds as i64 * 1000 + i64::from(nanos) / 1_000_000
}

fn micros(row: &Value, column: &str) -> i64 {
    let text = row[column].as_str().unwrap_or_else(|| panic!("no {column}: {row:#}"));
    text.parse::<Timestamp>().unwrap_or_else(|_| panic!("{column}: {text}")).as_microsecond()
}

fn number(row: &Value, column: &str) -> Option<f64> {
    row[column].as_f64()
}
