//! Exchanges driven as the proxy drives them, with instants that the test chooses.

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

#[test]
fn a_json_answer_makes_a_record_with_its_instants_and_bytes() {
    let instance = instance();
    let mut exchange =
        post(&instance, &[("mcp-protocol-version", "2025-06-18"), ("user-agent", "a/1")], CALL);
    respond(&mut exchange, 200, JSON, 15);
    exchange.handle_response_data(&ANSWER.as_bytes()[..9], Tick(20 * MS));
    exchange.handle_response_data(&ANSWER.as_bytes()[9..], Tick(30 * MS));
    assert!(take(&mut exchange).is_empty(), "a body is an answer when it ends");
    exchange.handle_response_end(Tick(31 * MS));
    let record = only(take(&mut exchange));
    assert_eq!((record.status, record.method, record.origin), (Status::Ok, Method::ToolsCall, None));
    assert_eq!(record.tool_name.as_deref(), Some("add"));
    assert_eq!((record.duration_us, record.ttfb_us, record.proxy_us), (20_000, Some(5_000), Some(70_000)));
    assert_eq!(record.completed_at, Timestamp(1_700_000_000_030_000));
    assert_eq!((record.input_bytes, record.output_bytes), (CALL.len() as u64, ANSWER.len() as u64));
    assert_eq!(record.http_response_bytes, Some(ANSWER.len() as u64));
    assert_eq!(record.protocol_version.as_deref(), Some("2025-06-18"));
    assert_eq!((record.user_agent.as_deref(), record.user_id.as_deref()), (Some("a/1"), Some("u_1")));
    assert_eq!((record.framing, record.match_kind), (Some(Framing::Json), MatchKind::Exact));
    assert_eq!(record.rpc_id.as_deref(), Some("1"));
}

#[test]
fn an_sse_answer_ends_with_its_event_not_with_the_stream() {
    let instance = instance();
    let mut exchange = post(&instance, &[], CALL);
    respond(&mut exchange, 200, SSE, 11);
    exchange.handle_response_data(
        b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n",
        Tick(12 * MS),
    );
    exchange.handle_response_data(format!("event: message\r\ndata: {ANSWER}\r\n").as_bytes(), Tick(20 * MS));
    assert!(take(&mut exchange).is_empty());
    exchange.handle_response_data(b"\r\n", Tick(25 * MS));
    let record = only(take(&mut exchange));
    assert_eq!((record.duration_us, record.first_event_us), (15_000, Some(2_000)));
    assert_eq!((record.output_bytes, record.framing), (ANSWER.len() as u64, Some(Framing::Sse)));
    exchange.handle_client_left(Tick(26 * MS));
    assert!(take(&mut exchange).is_empty(), "leaving after the answer changes nothing");
}

/// A response's HTTP status, content type and body; and the status, code, message and origin of its record.
type FailureCase =
    (u16, &'static str, &'static str, Status, Option<&'static str>, Option<&'static str>, Option<Origin>);

#[rustfmt::skip]
const FAILURES: [FailureCase; 7] = [
    (200, JSON, r#"{"id":1,"result":{"isError":true,"content":[{"type":"text","text":"boom"}]}}"#,
        Status::ToolError, None, Some("boom"), Some(Origin::Upstream)),
    (200, JSON, r#"{"id":1,"error":{"code":-32602,"message":"no such tool"}}"#,
        Status::RpcError, Some("-32602"), Some("no such tool"), Some(Origin::Client)),
    (400, JSON, r#"{"id":null,"error":{"code":-32020,"message":"bad header"}}"#,
        Status::RpcError, Some("-32020"), Some("bad header"), Some(Origin::Upstream)),
    (500, "text/plain", "oops", Status::HttpError, Some("http_500"), Some("oops"), Some(Origin::Upstream)),
    (401, "text/plain", "who?", Status::HttpError, Some("http_401"), Some("who?"), Some(Origin::Client)),
    (200, SSE, ": nothing\n\n",
        Status::UpstreamError, None, Some("http status 200 without an answer"), Some(Origin::Upstream)),
    (202, "", "", Status::UpstreamError, None, Some("http status 202 without an answer"), Some(Origin::Upstream)),
];

#[test]
fn failures_are_told_apart() {
    let instance = instance();
    for (http, content_type, body, status, code, message, origin) in FAILURES {
        let mut exchange = post(&instance, &[], CALL);
        respond(&mut exchange, http, content_type, 11);
        exchange.handle_response_data(body.as_bytes(), Tick(12 * MS));
        exchange.handle_response_end(Tick(12 * MS));
        let record = only(take(&mut exchange));
        assert_eq!(
            (record.status, record.http_status, record.origin),
            (status, Some(http), origin),
            "{body}"
        );
        assert_eq!(
            (record.error_code.as_deref(), record.error_message.as_deref()),
            (code, message),
            "{body}"
        );
    }
}

#[test]
fn an_upstream_that_breaks_off_is_recorded_with_what_the_client_saw() {
    let instance = instance();
    let failure = Failure {
        status: Status::UpstreamError,
        detail: StatusDetail::Unreachable,
        code: "connect_refused",
        message: "connection refused".to_owned(),
        http_status: Some(502),
    };
    let mut exchange = post(&instance, &[], CALL);
    exchange.handle_failure(&failure, Tick(12 * MS));
    let record = only(take(&mut exchange));
    assert_eq!((record.status, record.http_status), (Status::UpstreamError, Some(502)));
    assert_eq!((record.error_code.as_deref(), record.duration_us), (Some("connect_refused"), 2_000));
    assert_eq!((record.output_bytes, record.match_kind), (0, MatchKind::None));
}

#[test]
fn leaving_before_the_answer_is_cancelled_in_any_revision_without_resume() {
    let instance = instance();
    for (head, detail) in
        [(false, StatusDetail::ClientLeftBeforeHead), (true, StatusDetail::ClientLeftMidStream)]
    {
        let mut exchange = post(&instance, &[], CALL);
        if head {
            respond(&mut exchange, 200, SSE, 11);
        }
        exchange.handle_client_left(Tick(12 * MS));
        let record = only(take(&mut exchange));
        assert_eq!((record.status, record.status_detail), (Status::Cancelled, Some(detail)));
        assert!(record.client_left);
    }
}

#[test]
fn a_batch_gives_a_record_per_call_with_its_own_bytes() {
    let instance = instance();
    let list = r#"{"id":2,"method":"tools/list"}"#;
    let string = r#"{"id":"1","method":"tools/call","params":{"name":"b"}}"#;
    let batch = format!(r#"[{CALL},{string},{list},{{"id":3,"method":"ping"}},{{"method":"n"}}]"#);
    let mut exchange = post(&instance, &[], &batch);
    respond(&mut exchange, 200, SSE, 11);
    let array = r#"[{"id":2,"result":{"tools":[{},{}]}},{"id":"1","result":{}}]"#;
    exchange.handle_response_data(
        format!("data: {array}\n\ndata: {{\"id\":3,\"result\":{{}}}}\n\n").as_bytes(),
        Tick(12 * MS),
    );
    exchange.handle_response_data(format!("data: {ANSWER}\n\n").as_bytes(), Tick(13 * MS));
    exchange.handle_response_end(Tick(14 * MS));
    let records = take(&mut exchange);
    let seen: Vec<_> = records
        .iter()
        .map(|record| {
            (
                record.rpc_id.as_deref().expect("id"),
                record.batch_index,
                record.batch_size,
                record.input_bytes,
                record.framing,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("2", Some(2), Some(5), list.len() as u64, Some(Framing::BatchSse)),
            ("\"1\"", Some(1), Some(5), string.len() as u64, Some(Framing::BatchSse)),
            ("1", Some(0), Some(5), CALL.len() as u64, Some(Framing::BatchSse)),
        ]
    );
    assert_eq!(records[0].tool_count, Some(2));
}

#[test]
fn the_other_direction_never_answers_a_call() {
    let instance = instance();
    let mut exchange = post(&instance, &[("mcp-session-id", "s")], CALL);
    respond(&mut exchange, 200, SSE, 11);
    exchange
        .handle_response_data(b"data: {\"id\":1,\"method\":\"sampling/createMessage\"}\n\n", Tick(12 * MS));
    let mut reply = post(&instance, &[("mcp-session-id", "s")], r#"{"id":1,"result":{"role":"assistant"}}"#);
    respond(&mut reply, 202, "", 13);
    reply.handle_response_end(Tick(13 * MS));
    assert!(take(&mut reply).is_empty());
    exchange.handle_response_data(
        b"data: {\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":1}}\n\n",
        Tick(14 * MS),
    );
    exchange.handle_response_data(format!("data: {ANSWER}\n\n").as_bytes(), Tick(15 * MS));
    let record = only(take(&mut exchange));
    assert_eq!((record.status, record.duration_us, record.cancel_requested), (Status::Ok, 5_000, false));
}

#[test]
fn loosely_equal_ids_are_matched_by_their_place() {
    for answer in [r#"{"id":"1","result":{}}"#, r#"{"id":null,"result":{}}"#, r#"{"result":{}}"#] {
        let mut exchange = post(&instance(), &[], CALL);
        respond(&mut exchange, 200, JSON, 11);
        exchange.handle_response_data(answer.as_bytes(), Tick(12 * MS));
        exchange.handle_response_end(Tick(12 * MS));
        assert_eq!(only(take(&mut exchange)).match_kind, MatchKind::Positional, "{answer}");
    }
}

#[test]
fn the_session_tells_version_and_client_of_later_calls() {
    let instance = instance();
    let initialize = r#"{"id":0,"method":"initialize","params":{"protocolVersion":"2026-07-28","clientInfo":{"name":"c","version":"9"}}}"#;
    let mut opening = post(&instance, &[], initialize);
    opening.handle_response_head(
        StatusCode::OK,
        &headers(&[("content-type", JSON), ("mcp-session-id", "secret")]),
        Tick(11 * MS),
    );
    opening.handle_response_data(br#"{"id":0,"result":{"protocolVersion":"2025-11-25"}}"#, Tick(12 * MS));
    opening.handle_response_end(Tick(12 * MS));
    assert!(take(&mut opening).is_empty());
    let mut exchange = post(&instance, &[("mcp-session-id", "secret")], CALL);
    respond(&mut exchange, 200, JSON, 11);
    exchange.handle_response_data(ANSWER.as_bytes(), Tick(12 * MS));
    exchange.handle_response_end(Tick(12 * MS));
    let record = only(take(&mut exchange));
    assert_eq!(record.protocol_version.as_deref(), Some("2025-11-25"));
    assert_eq!((record.client_name.as_deref(), record.client_version.as_deref()), (Some("c"), Some("9")));
    assert!(record.session_hash.as_ref().is_some_and(|hash| hash.len() == 32 && !hash.contains("secret")));
}

#[test]
fn a_cancelled_call_without_an_answer_is_cancelled_and_type_matters() {
    let instance = instance();
    let cancel = |id: &str| {
        let body =
            format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id},"reason":"r"}}}}"#);
        post(&instance, &[("mcp-session-id", "s")], &body);
    };
    let mut exchange = post(&instance, &[("mcp-session-id", "s")], CALL);
    respond(&mut exchange, 200, SSE, 11);
    cancel("\"1\"");
    cancel("1");
    exchange.handle_response_end(Tick(20 * MS));
    let record = only(take(&mut exchange));
    assert_eq!(
        (record.status, record.status_detail),
        (Status::Cancelled, Some(StatusDetail::CancelNotified))
    );
    let mut other = post(&instance, &[("mcp-session-id", "s")], &CALL.replace("\"id\":1", "\"id\":5"));
    cancel("\"5\"");
    respond(&mut other, 200, JSON, 11);
    other.handle_response_data(br#"{"id":5,"result":{}}"#, Tick(12 * MS));
    other.handle_response_end(Tick(12 * MS));
    assert!(!only(take(&mut other)).cancel_requested);
}

#[test]
fn an_answer_on_a_resumed_stream_belongs_to_the_post() {
    let instance = instance();
    let session = ("mcp-session-id", "s");
    let mut exchange = post(&instance, &[session, ("mcp-protocol-version", "2025-11-25")], CALL);
    respond(&mut exchange, 200, SSE, 11);
    exchange.handle_response_data(b"id: 0\ndata: \n\n", Tick(12 * MS));
    exchange.handle_response_end(Tick(13 * MS));
    assert!(take(&mut exchange).is_empty(), "the answer may still come");
    let mut resumed = begin(&instance, http::Method::GET, "/mcp", &[session, ("last-event-id", "0")]);
    respond(&mut resumed, 200, SSE, 50);
    resumed.handle_response_data(format!("id: 1\ndata: {ANSWER}\n\n").as_bytes(), Tick(60 * MS));
    let record = only(take(&mut resumed));
    assert_eq!((record.status, record.duration_us), (Status::Ok, 50_000));
}

#[test]
fn a_detached_call_ends_with_its_session_or_its_time() {
    let instance = instance();
    let detach = || {
        let mut exchange = post(&instance, &[("mcp-session-id", "s")], CALL);
        respond(&mut exchange, 200, SSE, 11);
        exchange.handle_response_data(b"id: 0\ndata: \n\n", Tick(12 * MS));
        exchange.handle_client_left(Tick(13 * MS));
        assert!(take(&mut exchange).is_empty());
    };
    detach();
    let mut end = begin(&instance, http::Method::DELETE, "/mcp", &[("mcp-session-id", "s")]);
    respond(&mut end, 200, "", 20);
    assert_eq!(only(take(&mut end)).status_detail, Some(StatusDetail::SessionEnded));
    detach();
    assert!(instance.poll_expired(Tick(14 * 60_000 * MS)).is_empty());
    let expired = instance.poll_expired(Tick(16 * 60_000 * MS));
    assert_eq!(expired[0].status_detail, Some(StatusDetail::DetachedExpired));
}

#[test]
fn a_call_ends_once_whichever_of_stream_and_session_the_client_closes_first() {
    let instance = instance();
    let session = [("mcp-session-id", "s")];
    let begin_call = || {
        let mut exchange = post(&instance, &session, CALL);
        respond(&mut exchange, 200, SSE, 11);
        exchange.handle_response_data(b"id: 0\ndata: {\"method\":\"m\"}\n\n", Tick(12 * MS));
        exchange
    };
    let delete = || {
        let mut end = begin(&instance, http::Method::DELETE, "/mcp", &session);
        respond(&mut end, 202, "", 20);
        end
    };
    let mut stream_first = begin_call();
    stream_first.handle_client_left(Tick(13 * MS));
    assert!(take(&mut stream_first).is_empty(), "it could be resumed");
    let one = only(take(&mut delete()));

    let mut session_first = begin_call();
    assert!(take(&mut delete()).is_empty());
    session_first.handle_client_left(Tick(20 * MS));
    let other = only(take(&mut session_first));

    assert_eq!(one, other);
    assert_eq!((one.status, one.status_detail), (Status::Cancelled, Some(StatusDetail::SessionEnded)));
    // Of the exchange that the call was asked on; not of the one that ended its session.
    assert_eq!((one.http_status, one.ttfb_us, one.first_event_us), (Some(200), Some(1000), Some(2000)));
    assert_eq!((one.http_request_bytes, one.http_response_bytes), (Some(CALL.len() as u64), Some(28)));
}

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

#[test]
fn a_legacy_answer_is_matched_even_before_its_202() {
    let instance = instance();
    let mut stream = legacy_stream(&instance);
    let initialize = r#"{"id":0,"method":"initialize","params":{"clientInfo":{"name":"old","version":"1"}}}"#;
    legacy_post(&instance, initialize);
    stream.handle_response_data(
        b"data: {\"id\":0,\"result\":{\"protocolVersion\":\"2024-11-05\"}}\n\n",
        Tick(11 * MS),
    );
    let mut exchange = legacy_post(&instance, CALL);
    stream.handle_response_data(format!("event: message\ndata: {ANSWER}\n\n").as_bytes(), Tick(20 * MS));
    let record = only(take(&mut stream));
    respond(&mut exchange, 202, "text/plain", 30);
    exchange.handle_response_end(Tick(30 * MS));
    assert!(take(&mut exchange).is_empty());
    assert_eq!((record.status, record.duration_us, record.ttfb_us), (Status::Ok, 10_000, None));
    assert_eq!((record.transport_type, record.client_transport), (Transport::Sse, Transport::Sse));
    assert_eq!(
        (record.client_name.as_deref(), record.protocol_version.as_deref()),
        (Some("old"), Some("2024-11-05"))
    );
    assert_eq!((record.http_status, record.http_request_bytes), (Some(200), None));
    assert_eq!(instance.orphans(), 0);
}

#[test]
fn legacy_calls_end_with_their_post_or_their_stream() {
    let instance = instance();
    let mut stream = legacy_stream(&instance);
    let mut refused = legacy_post(&instance, CALL);
    respond(&mut refused, 404, "text/plain", 11);
    refused.handle_response_data(b"session not found", Tick(11 * MS));
    refused.handle_response_end(Tick(11 * MS));
    assert_eq!(only(take(&mut refused)).status, Status::HttpError);
    let mut accepted = legacy_post(&instance, CALL);
    respond(&mut accepted, 202, "text/plain", 11);
    accepted.handle_response_end(Tick(11 * MS));
    stream.handle_response_end(Tick(20 * MS));
    let record = only(take(&mut stream));
    assert_eq!(
        (record.status, record.status_detail),
        (Status::UpstreamError, Some(StatusDetail::SessionEnded))
    );
    assert_eq!(instance.conversations(), 0);
}

#[test]
fn a_legacy_call_whose_stream_closes_while_it_is_sent_is_a_record_all_the_same() {
    let instance = instance();
    let mut stream = legacy_stream(&instance);
    let mut exchange = begin(&instance, http::Method::POST, "/messages?s=1", &[]);
    stream.handle_client_left(Tick(5 * MS));
    exchange.handle_request_data(CALL.as_bytes(), Tick(10 * MS));
    exchange.handle_request_end(Tick(10 * MS));
    let record = only(take(&mut exchange));
    assert_eq!((record.status, record.status_detail), (Status::Cancelled, Some(StatusDetail::SessionEnded)));
    respond(&mut exchange, 202, "text/plain", 11);
    exchange.handle_response_data(b"Accepted", Tick(11 * MS));
    exchange.handle_response_end(Tick(11 * MS));
    assert!(take(&mut exchange).is_empty());
}

#[test]
fn a_cancelled_legacy_call_waits_a_while_for_its_answer() {
    let instance = instance();
    let _stream = legacy_stream(&instance);
    legacy_post(&instance, CALL);
    legacy_post(&instance, r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#);
    assert!(instance.poll_expired(Tick(4_000 * MS)).is_empty());
    let expired = instance.poll_expired(Tick(6_000 * MS));
    assert_eq!(expired.len(), 1);
    assert_eq!(
        (expired[0].status, expired[0].status_detail, expired[0].cancel_requested),
        (Status::Cancelled, Some(StatusDetail::CancelNotified), true)
    );
}

#[test]
fn an_early_refusal_of_a_long_upload_is_a_record_from_the_head_on() {
    let instance = instance();
    let mut exchange = begin(&instance, http::Method::POST, "/mcp", &[]);
    exchange.handle_request_data(
        br#"{"id":1,"method":"tools/call","params":{"name":"add","arguments":{"x":""#,
        Tick(10 * MS),
    );
    respond(&mut exchange, 413, "text/plain", 15);
    exchange.handle_response_data(b"too big", Tick(16 * MS));
    exchange.handle_response_end(Tick(16 * MS));
    let record = only(take(&mut exchange));
    assert_eq!((record.status, record.tool_name.as_deref()), (Status::HttpError, Some("add")));
    assert_eq!(record.duration_us, 16_000);
}

#[test]
fn headers_speak_for_a_body_that_cannot_be_read() {
    let instance = instance();
    let pairs = [
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?w6RkZA==?="),
        ("mcp-protocol-version", "2026-07-28"),
    ];
    let mut exchange = post(&instance, &pairs, "\u{1f}\u{8b}");
    exchange.handle_client_left(Tick(12 * MS));
    let record = only(take(&mut exchange));
    assert_eq!(record.tool_name.as_deref(), Some("ädd"));
    let mut exchange = post(&instance, &pairs, CALL);
    exchange.handle_client_left(Tick(12 * MS));
    let record = only(take(&mut exchange));
    assert_eq!((record.tool_name.as_deref(), record.header_mismatch), (Some("add"), true));
}

#[test]
fn what_is_no_call_makes_no_record() {
    let instance = instance();
    for body in [
        r#"{"id":1,"method":"ping"}"#,
        r#"{"method":"notifications/initialized"}"#,
        "",
        "{",
        "[]",
        "[1,2]",
        "\u{0}\u{1}",
    ] {
        let mut exchange = post(&instance, &[], body);
        respond(&mut exchange, 200, JSON, 11);
        exchange.handle_response_data(br#"{"id":1,"result":{}}"#, Tick(12 * MS));
        exchange.handle_response_end(Tick(12 * MS));
        assert!(take(&mut exchange).is_empty(), "{body}");
    }
}

#[test]
fn a_batch_of_too_many_calls_is_counted_beyond_the_limit() {
    let instance = instance();
    let calls = vec![r#"{"id":1,"method":"tools/list"}"#; 1500].join(",");
    let mut exchange = post(&instance, &[], &format!("[{calls}]"));
    assert_eq!((exchange.poll_unrecorded(), exchange.poll_unrecorded()), (500, 0));
    exchange.handle_client_left(Tick(12 * MS));
    let records = take(&mut exchange);
    assert_eq!((records.len(), records[0].batch_size), (1000, Some(1500)));
}

#[test]
fn calls_that_a_legacy_server_never_answers_end_when_they_are_too_many() {
    let instance = instance();
    let _stream = legacy_stream(&instance);
    let mut ended = Vec::new();
    for _ in 0..4100 {
        ended.extend(take(&mut legacy_post(&instance, CALL)));
    }
    assert_eq!((ended.len(), instance.open_calls()), (4, 4096));
    assert_eq!(ended[0].status_detail, Some(StatusDetail::SessionEnded));
}
