//! Answers and whose they are.

use super::*;

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
    let mut stream = begin(&instance, http::Method::GET, "/mcp", &[("mcp-session-id", "s")]);
    respond(&mut stream, 200, SSE, 13);
    stream.handle_response_data(b"data: {\"id\":1,\"method\":\"ping\"}\n\n", Tick(13 * MS));
    assert!(take(&mut stream).is_empty());
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
    // Node rounds what is beyond 2^53.
    let mut exchange = post(&instance(), &[], &CALL.replace("\"id\":1", "\"id\":9007199254740993"));
    respond(&mut exchange, 200, JSON, 11);
    exchange.handle_response_data(br#"{"id":9007199254740992,"result":{}}"#, Tick(12 * MS));
    exchange.handle_response_end(Tick(12 * MS));
    let record = only(take(&mut exchange));
    assert_eq!(
        (record.match_kind, record.rpc_id.as_deref()),
        (MatchKind::Positional, Some("9007199254740993"))
    );
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
