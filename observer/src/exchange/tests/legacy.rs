//! Legacy HTTP+SSE: the answer comes on another exchange.

use super::*;

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
fn a_legacy_server_may_answer_on_the_post_itself() {
    let instance = instance();
    let mut stream = legacy_stream(&instance);
    let initialize = r#"{"id":0,"method":"initialize","params":{"clientInfo":{"name":"old","version":"1"}}}"#;
    let mut exchange = legacy_post(&instance, initialize);
    respond(&mut exchange, 200, "application/json", 11);
    exchange.handle_response_data(br#"{"id":0,"result":{"protocolVersion":"2024-11-05"}}"#, Tick(12 * MS));
    exchange.handle_response_end(Tick(12 * MS));
    let mut exchange = legacy_post(&instance, CALL);
    respond(&mut exchange, 200, "application/json", 21);
    exchange.handle_response_data(ANSWER.as_bytes(), Tick(22 * MS));
    exchange.handle_response_end(Tick(22 * MS));
    let record = only(take(&mut exchange));
    assert_eq!(
        (record.status, record.match_kind, record.duration_us),
        (Status::Ok, MatchKind::Exact, 12_000)
    );
    assert_eq!((record.client_name.as_deref(), record.http_status), (Some("old"), Some(200)));
    stream.handle_response_end(Tick(30 * MS));
    assert!(take(&mut stream).is_empty());
}

#[test]
fn a_stream_that_opens_while_another_ends_keeps_its_conversation() {
    let instance = instance();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..50_000 {
                    let mut stream = legacy_stream(&instance);
                    assert!(instance.announces("/messages?s=1", Tick(3)));
                    stream.handle_client_left(Tick(5 * MS));
                }
            });
        }
    });
    assert_eq!(instance.conversations(), 0);
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
    legacy_post(&instance, r#"{"method":"notifications/cancelled","params":{"requestId":1,"reason":"why"}}"#);
    assert!(instance.poll_expired(Tick(4_000 * MS)).is_empty());
    let expired = instance.poll_expired(Tick(6_000 * MS));
    assert_eq!(expired.len(), 1);
    assert_eq!(
        (expired[0].status, expired[0].status_detail, expired[0].cancel_requested),
        (Status::Cancelled, Some(StatusDetail::CancelNotified), true)
    );
    assert_eq!(expired[0].error_message.as_deref(), Some("why"));
}

#[test]
fn two_streams_with_one_endpoint_make_a_match_ambiguous() {
    let instance = instance();
    let mut one = legacy_stream(&instance);
    let mut other = legacy_stream(&instance);
    assert_eq!(instance.conversations(), 1);
    legacy_post(&instance, CALL);
    legacy_post(&instance, &CALL.replace("add", "sub"));
    one.handle_response_data(format!("data: {ANSWER}\n\n").as_bytes(), Tick(20 * MS));
    other.handle_response_data(format!("data: {ANSWER}\n\n").as_bytes(), Tick(21 * MS));
    let (first, second) = (only(take(&mut one)), only(take(&mut other)));
    assert_eq!((first.tool_name.as_deref(), first.match_kind), (Some("add"), MatchKind::Fifo));
    assert_eq!((second.tool_name.as_deref(), second.match_kind), (Some("sub"), MatchKind::Ambiguous));
    assert_eq!((first.status, second.status), (Status::Ok, Status::Ok));
    // The call of one client waits as long as anybody could be told the answer.
    legacy_post(&instance, CALL);
    one.handle_client_left(Tick(30 * MS));
    assert!(take(&mut one).is_empty() && instance.open_calls() == 1);
    other.handle_client_left(Tick(31 * MS));
    assert_eq!(only(take(&mut other)).status_detail, Some(StatusDetail::SessionEnded));
}

#[test]
fn an_answer_to_nothing_is_counted_as_an_orphan() {
    let instance = instance();
    let mut stream = legacy_stream(&instance);
    stream.handle_response_data(format!("data: {ANSWER}\n\n").as_bytes(), Tick(20 * MS));
    assert!(take(&mut stream).is_empty());
    assert_eq!(instance.orphans(), 1);
}

#[test]
fn a_cancelled_call_is_cancelled_whoever_closes_the_stream_before_its_answer() {
    for client_closes in [true, false] {
        let instance = instance();
        let mut stream = legacy_stream(&instance);
        legacy_post(&instance, CALL);
        legacy_post(
            &instance,
            r#"{"method":"notifications/cancelled","params":{"requestId":1,"reason":"why"}}"#,
        );
        if client_closes {
            stream.handle_client_left(Tick(20 * MS));
        } else {
            stream.handle_response_end(Tick(20 * MS));
        }
        let record = only(take(&mut stream));
        assert_eq!(
            (record.status, record.status_detail),
            (Status::Cancelled, Some(StatusDetail::CancelNotified))
        );
        assert_eq!((record.error_message.as_deref(), record.cancel_requested), (Some("why"), true));
    }
}
