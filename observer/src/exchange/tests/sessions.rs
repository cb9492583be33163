//! What several exchanges of a session have to do with each other.

use super::*;

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
    assert_eq!(record.error_message.as_deref(), Some("r"));
    let mut other = post(&instance, &[("mcp-session-id", "s")], &CALL.replace("\"id\":1", "\"id\":5"));
    cancel("\"5\"");
    respond(&mut other, 200, JSON, 11);
    other.handle_response_data(br#"{"id":5,"result":{}}"#, Tick(12 * MS));
    other.handle_response_end(Tick(12 * MS));
    assert!(!only(take(&mut other)).cancel_requested);
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

#[test]
fn sessions_that_no_server_accepted_are_not_remembered() {
    let instance = instance();
    let mut known = post(&instance, &[("mcp-session-id", "known")], CALL);
    respond(&mut known, 200, SSE, 11);
    for n in 0..50_u32 {
        let id = format!("invented-{n}");
        let mut exchange = post(&instance, &[("mcp-session-id", &id)], CALL);
        assert_eq!(instance.conversations(), 1, "before the answer");
        respond(&mut exchange, if n % 2 == 0 { 404 } else { 401 }, JSON, 11);
        exchange.handle_response_end(Tick(12 * MS));
        assert!(only(take(&mut exchange)).session_hash.is_some());
    }
    assert_eq!(instance.conversations(), 1);
}

#[test]
fn a_cancel_counts_though_the_session_became_known_after_it() {
    let instance = instance();
    let session = [("mcp-session-id", "s")];
    let mut exchange = post(&instance, &session, CALL);
    let body =
        r#"{"method":"notifications/cancelled","params":{"requestId":1,"reason":"no more Bearer abcdef1"}}"#;
    let mut cancel = post(&instance, &session, body);
    assert_eq!(instance.conversations(), 0);
    respond(&mut cancel, 202, "", 12);
    cancel.handle_response_end(Tick(12 * MS));
    exchange.handle_client_left(Tick(13 * MS));
    let record = only(take(&mut exchange));
    assert_eq!(
        (record.status_detail, record.error_message.as_deref()),
        (Some(StatusDetail::CancelNotified), Some("no more Bearer [redacted]"))
    );
}

#[test]
fn a_cancelled_call_is_cancelled_though_its_session_is_lost() {
    let instance = instance();
    let session = [("mcp-session-id", "s")];
    let mut exchange = post(&instance, &session, CALL);
    respond(&mut exchange, 200, SSE, 11);
    exchange.handle_response_data(b"id: 0\ndata:\n\n", Tick(12 * MS));
    exchange.handle_response_end(Tick(13 * MS));
    post(&instance, &session, r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#);
    let mut lost = post(&instance, &session, r#"{"id":9,"method":"ping"}"#);
    respond(&mut lost, 404, JSON, 20);
    let record = only(take(&mut lost));
    assert_eq!((record.status_detail, record.cancel_requested), (Some(StatusDetail::CancelNotified), true));
    assert_eq!(record.origin, Some(Origin::Client));
}
