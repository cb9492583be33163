//! Exchanges that end without an answer, or with a failure.

use super::*;

/// A response's HTTP status, content type and body; and the status, code, message and origin of its record.
type FailureCase =
    (u16, &'static str, &'static str, Status, Option<&'static str>, Option<&'static str>, Option<Origin>);

#[rustfmt::skip]
const FAILURES: [FailureCase; 9] = [
    (200, JSON, r#"{"id":1,"result":{"isError":true,"content":[{"type":"text","text":"boom"}]}}"#,
        Status::ToolError, None, Some("boom"), Some(Origin::Upstream)),
    (200, JSON, r#"{"id":1,"error":{"code":-32602,"message":"no such tool"}}"#,
        Status::RpcError, Some("-32602"), Some("no such tool"), Some(Origin::Client)),
    (400, JSON, r#"{"id":null,"error":{"code":-32020,"message":"bad header"}}"#,
        Status::RpcError, Some("-32020"), Some("bad header"), Some(Origin::Upstream)),
    (500, "text/plain", "oops", Status::HttpError, Some("http_500"), Some("oops"), Some(Origin::Upstream)),
    (401, "text/plain", "who?", Status::HttpError, Some("http_401"), Some("who?"), Some(Origin::Client)),
    // An error of OAuth (RFC 6749, 5.2), and one of HTTP (RFC 9457), are not JSON-RPC's.
    (401, JSON, r#"{"error":"invalid_token","error_description":"expired"}"#,
        Status::HttpError, Some("http_401"), Some(r#"{"error":"invalid_token","error_description":"expired"}"#), Some(Origin::Client)),
    (403, "application/problem+json", r#"{"title":"no","status":403}"#,
        Status::HttpError, Some("http_403"), Some(r#"{"title":"no","status":403}"#), Some(Origin::Client)),
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
        context: None,
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

/// An exchange that is answered before its request has been read to the end.
fn answered_early(instance: &Arc<Instance>, first: &str, status: u16) -> Exchange {
    let mut exchange = begin(instance, http::Method::POST, "/mcp", &[]);
    exchange.handle_request_data(first.as_bytes(), Tick(1));
    respond(&mut exchange, status, JSON, 2);
    exchange.handle_response_data(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Tick(3 * MS));
    exchange.handle_response_end(Tick(3 * MS));
    exchange
}

#[test]
fn calls_behind_an_early_answer_are_rows_too() {
    let instance = instance();
    let mut exchange = answered_early(&instance, &format!("[{CALL}"), 200);
    let first = take(&mut exchange);
    assert_eq!(first.len(), 1);
    exchange.handle_request_data(format!(",{CALL},{CALL}]").as_bytes(), Tick(4 * MS));
    exchange.handle_request_end(Tick(4 * MS));
    let late = take(&mut exchange);
    assert_eq!(late.len(), 2, "{late:#?}");
    assert!(late.iter().all(|record| record.status == Status::UpstreamError));
}

#[test]
fn a_call_whose_answer_comes_before_any_of_it_is_a_row() {
    for status in [200, 401] {
        let instance = instance();
        let mut exchange = answered_early(&instance, "", status);
        assert!(take(&mut exchange).is_empty(), "nobody knows yet what it is");
        exchange.handle_request_data(CALL.as_bytes(), Tick(4 * MS));
        exchange.handle_request_end(Tick(4 * MS));
        let record = only(take(&mut exchange));
        assert_eq!(record.http_status, Some(status), "{record:#?}");
    }
}
