//! Exchanges driven as the proxy drives them, with instants that the test chooses.

mod answers;
mod batches;
mod bodies;
mod encoded;
mod endings;
mod legacy;
mod limits;
mod modern;
mod outside_session;
mod refused;
mod resumed;
mod sessions;
mod tasks;

use crate::{
    call::{CallRecord, Text, Tick, Timestamp},
    endpoint::Mount,
    exchange::{Exchange, Failure},
    instance::{Head, Identity, Instance},
    word::{Framing, MatchKind, Method, Origin, Status, StatusDetail, Transport},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;

const MS: u64 = 1_000_000;

fn instance() -> Arc<Instance> {
    let identity = Identity {
        instance_id: Text::from("inst_1"),
        user_id: Some(Text::from("u_1")),
        organization_id: None,
    };
    let mount = Mount { origin: "http://up:1".to_owned(), base_path: String::new(), prefix: "/x".to_owned() };
    Arc::new(Instance::new(identity, mount))
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("valid"))
    };
    pairs.iter().map(pair).collect()
}

fn begin(
    instance: &Arc<Instance>,
    method: http::Method,
    target: &str,
    pairs: &[(&'static str, &str)],
) -> Exchange {
    instance.begin(&Head {
        method: &method,
        target,
        headers: &headers(pairs),
        created_at: Timestamp(1_700_000_000_000_000),
        at: Tick(0),
        entropy: 7,
        client_ip: None,
        caller: None,
    })
}

/// A POST whose request is complete at 10 ms.
fn post(instance: &Arc<Instance>, pairs: &[(&'static str, &str)], body: &str) -> Exchange {
    let mut exchange = begin(instance, http::Method::POST, "/mcp", pairs);
    exchange.handle_request_data(body.as_bytes(), Tick(10 * MS));
    exchange.handle_request_end(Tick(10 * MS));
    exchange
}

fn respond(exchange: &mut Exchange, status: u16, content_type: &str, at_ms: u64) {
    let status = StatusCode::from_u16(status).expect("valid");
    exchange.handle_response_head(status, &headers(&[("content-type", content_type)]), Tick(at_ms * MS));
}

fn take(exchange: &mut Exchange) -> Vec<CallRecord> {
    std::iter::from_fn(|| exchange.poll_finished(Tick(100 * MS)).map(|record| *record)).collect()
}

fn only(mut records: Vec<CallRecord>) -> CallRecord {
    assert_eq!(records.len(), 1, "{records:#?}");
    records.remove(0)
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{}}}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";

/// A legacy stream that has announced `/messages?s=1`.
fn legacy_stream(instance: &Arc<Instance>) -> Exchange {
    let mut stream = begin(instance, http::Method::GET, "/sse", &[]);
    respond(&mut stream, 200, SSE, 1);
    stream.handle_response_data(b"event: endpoint\ndata: /messages?s=1\n\n", Tick(2 * MS));
    stream
}

fn legacy_post(instance: &Arc<Instance>, body: &str) -> Exchange {
    let mut exchange = begin(instance, http::Method::POST, "/messages?s=1", &[]);
    exchange.handle_request_data(body.as_bytes(), Tick(10 * MS));
    exchange.handle_request_end(Tick(10 * MS));
    exchange
}
