//! Streams that end before the answer, and are resumed (2025-03-26 to 2025-11-25).

use super::*;

const SESSION: (&str, &str) = ("mcp-session-id", "s");
const VERSION: (&str, &str) = ("mcp-protocol-version", "2025-11-25");
const PRIMING: &[u8] = b"id: 0\nretry: 200\ndata: \n\n";

/// A call with this id whose stream ends behind its priming event.
fn detach(instance: &Arc<Instance>, id: u32) {
    let mut exchange =
        post(instance, &[SESSION, VERSION], &CALL.replace("\"id\":1", &format!("\"id\":{id}")));
    respond(&mut exchange, 200, SSE, 11);
    exchange.handle_response_data(PRIMING, Tick(12 * MS));
    exchange.handle_response_end(Tick(13 * MS));
    assert!(take(&mut exchange).is_empty(), "the answer may still come");
}

fn resume(instance: &Arc<Instance>, behind: &str, at_ms: u64) -> Exchange {
    let mut exchange =
        begin(instance, http::Method::GET, "/mcp", &[SESSION, VERSION, ("last-event-id", behind)]);
    respond(&mut exchange, 200, SSE, at_ms);
    exchange
}

fn answer(id: u32) -> String {
    let answer = ANSWER.replace("\"id\":1", &format!("\"id\":{id}"));
    format!("id: 9\ndata: {answer}\n\n")
}

#[test]
fn an_answer_on_a_resumed_stream_belongs_to_the_post_and_counts_once() {
    let instance = instance();
    detach(&instance, 1);
    let mut resumed = resume(&instance, "0", 50);
    resumed.handle_response_data(answer(1).as_bytes(), Tick(60 * MS));
    let record = only(take(&mut resumed));
    assert_eq!((record.status, record.duration_us, record.framing), (Status::Ok, 50_000, Some(Framing::Sse)));
    assert_eq!((record.http_request_bytes, record.ttfb_us), (Some(CALL.len() as u64), Some(1_000)));
    resumed.handle_client_left(Tick(61 * MS));
    assert_eq!(instance.redelivered(), 0);

    let mut again = resume(&instance, "0", 70);
    again.handle_response_data(answer(1).as_bytes(), Tick(71 * MS));
    again.handle_response_end(Tick(72 * MS));
    assert!(take(&mut again).is_empty());
    assert_eq!((instance.redelivered(), instance.has_open()), (1, false));
}

#[test]
fn an_answer_that_came_on_the_post_and_comes_again_is_counted() {
    let instance = instance();
    let mut exchange = post(&instance, &[SESSION, VERSION], CALL);
    respond(&mut exchange, 200, SSE, 11);
    exchange.handle_response_data(PRIMING, Tick(12 * MS));
    exchange.handle_response_data(answer(1).as_bytes(), Tick(13 * MS));
    exchange.handle_client_left(Tick(14 * MS));
    assert_eq!(only(take(&mut exchange)).redelivered, 0);
    let mut again = resume(&instance, "0", 20);
    again.handle_response_data(b"id: 1\ndata: {\"method\":\"notifications/progress\"}\n\n", Tick(21 * MS));
    again.handle_response_data(b"id: 2\ndata: {\"id\":77,\"result\":{}}\n\n", Tick(21 * MS));
    assert_eq!(instance.redelivered(), 0, "the answer to a ping is none to a call");
    again.handle_response_data(answer(1).as_bytes(), Tick(22 * MS));
    assert!(take(&mut again).is_empty());
    assert_eq!(instance.redelivered(), 1);
}

#[test]
fn polling_a_stream_that_says_nothing_loses_no_call() {
    let instance = instance();
    detach(&instance, 1);
    for _ in 0..3 {
        let mut polled = resume(&instance, "0", 20);
        polled.handle_response_data(b"retry: 200\n\n", Tick(21 * MS));
        polled.handle_response_end(Tick(22 * MS));
        assert!(take(&mut polled).is_empty(), "not an end without an answer");
    }
    let mut resumed = resume(&instance, "0", 50);
    resumed.handle_response_data(answer(1).as_bytes(), Tick(60 * MS));
    assert_eq!(only(take(&mut resumed)).duration_us, 50_000);
}

#[test]
fn event_ids_that_several_streams_use_confuse_no_answers() {
    let instance = instance();
    detach(&instance, 1);
    detach(&instance, 2);
    // Behind 0 were both; the newest of them is not the one that is continued.
    let mut first = resume(&instance, "0", 20);
    let mut second = resume(&instance, "0", 20);
    first.handle_response_data(answer(1).as_bytes(), Tick(30 * MS));
    assert_eq!(only(take(&mut first)).rpc_id.as_deref(), Some("1"));
    // The first answer, once more, is not the second call's.
    second.handle_response_data(answer(1).as_bytes(), Tick(40 * MS));
    assert!(take(&mut second).is_empty());
    second.handle_response_data(answer(2).as_bytes(), Tick(50 * MS));
    let record = only(take(&mut second));
    assert_eq!((record.rpc_id.as_deref(), record.match_kind), (Some("2"), MatchKind::Exact));
    assert_eq!(instance.redelivered(), 1);
}

#[test]
fn an_answer_without_an_id_is_that_of_the_stream_that_was_resumed() {
    let instance = instance();
    detach(&instance, 1);
    let mut resumed = resume(&instance, "0", 20);
    let error = b"data: {\"id\":null,\"error\":{\"code\":-32603,\"message\":\"m\"}}\n\n";
    resumed.handle_response_data(error, Tick(30 * MS));
    let record = only(take(&mut resumed));
    assert_eq!((record.status, record.match_kind), (Status::RpcError, MatchKind::Positional));
}

#[test]
fn a_stream_that_is_resumed_before_its_end_is_noticed_brings_the_answer_too() {
    let instance = instance();
    let mut exchange = post(&instance, &[SESSION, VERSION], CALL);
    respond(&mut exchange, 200, SSE, 11);
    exchange.handle_response_data(PRIMING, Tick(12 * MS));
    let mut resumed = resume(&instance, "0", 20);
    exchange.handle_client_left(Tick(21 * MS));
    assert!(take(&mut exchange).is_empty());
    resumed.handle_response_data(answer(1).as_bytes(), Tick(30 * MS));
    assert_eq!(only(take(&mut resumed)).duration_us, 20_000);
}

#[test]
fn a_stream_of_the_servers_own_is_not_read_beyond_its_beginning() {
    let instance = instance();
    detach(&instance, 1);
    let mut stream = begin(&instance, http::Method::GET, "/mcp", &[SESSION, VERSION]);
    respond(&mut stream, 200, SSE, 20);
    stream.handle_response_data(b"id: 1\ndata: {\"method\":\"m\"}\n\n", Tick(20 * MS));
    stream.handle_response_data(answer(1).as_bytes(), Tick(21 * MS));
    assert!(take(&mut stream).is_empty(), "no server may answer there (2025-03-26, basic/transports)");
    assert!(instance.has_open());
}

#[test]
fn a_cancelled_call_whose_stream_ended_waits_a_while_for_its_answer() {
    let instance = instance();
    detach(&instance, 1);
    post(
        &instance,
        &[SESSION, VERSION],
        r#"{"method":"notifications/cancelled","params":{"requestId":1,"reason":"why"}}"#,
    );
    assert!(instance.poll_expired(Tick(5_000 * MS)).is_empty());
    let expired = instance.poll_expired(Tick(6_000 * MS));
    assert_eq!(
        (expired[0].status, expired[0].status_detail, expired[0].error_message.as_deref()),
        (Status::Cancelled, Some(StatusDetail::CancelNotified), Some("why"))
    );
    assert!(expired[0].cancel_requested && !instance.has_open());
}

#[test]
fn what_is_remembered_of_answers_is_bounded() {
    let instance = instance();
    let mut exchange = None;
    for id in 0..100 {
        let body = CALL.replace("\"id\":1", &format!("\"id\":{id}"));
        let mut one = post(&instance, &[SESSION, VERSION], &body);
        respond(&mut one, 200, SSE, 11);
        one.handle_response_data(answer(id).as_bytes(), Tick(13 * MS));
        only(take(&mut one));
        exchange = Some(one);
    }
    drop(exchange);
    let mut again = resume(&instance, "0", 20);
    for id in 0..100 {
        again.handle_response_data(answer(id).as_bytes(), Tick(22 * MS));
    }
    assert_eq!(instance.redelivered(), 64, "those of the last");
}

#[test]
fn calls_that_wait_are_bounded_over_all_sessions() {
    let instance = instance();
    let mut given_up = 0;
    for number in 0..20_000 {
        let session = format!("session{}", number / 100);
        let mut exchange = post(&instance, &[("mcp-session-id", &session)], CALL);
        respond(&mut exchange, 200, SSE, 11);
        exchange.handle_response_data(b"id: 1\ndata: \n\n", Tick(12 * MS));
        exchange.handle_response_end(Tick(13 * MS));
        given_up += take(&mut exchange).len();
    }
    assert_eq!(given_up, 20_000 - 16_384);
    assert_eq!(instance.close(Tick(14 * MS)).len(), 16_384);
}
