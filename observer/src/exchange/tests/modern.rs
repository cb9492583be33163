//! What is special about 2026-07-28: rounds, streams that listen, names in headers, cancelling by leaving.

use super::*;

const VERSION: (&str, &str) = ("mcp-protocol-version", "2026-07-28");

/// One round: the state that the client goes on from, and the one that the server hands out, if any.
fn round(instance: &Arc<Instance>, id: u32, from: Option<&str>, to: Option<&str>) -> CallRecord {
    let state =
        from.map(|state| format!(r#","requestState":"{state}","inputResponses":{{}}"#)).unwrap_or_default();
    let body = format!(r#"{{"id":{id},"method":"tools/call","params":{{"name":"add"{state}}}}}"#);
    let answer = match to {
        Some(state) => {
            format!(r#"{{"id":{id},"result":{{"resultType":"input_required","requestState":"{state}"}}}}"#)
        }
        None => format!(r#"{{"id":{id},"result":{{"resultType":"complete","content":[]}}}}"#),
    };
    let mut exchange = post(instance, &[VERSION], &body);
    respond(&mut exchange, 200, JSON, 11);
    exchange.handle_response_data(answer.as_bytes(), Tick(12 * MS));
    exchange.handle_response_end(Tick(12 * MS));
    only(take(&mut exchange))
}

#[test]
fn the_rounds_of_one_request_are_one_group_though_the_state_changes() {
    let instance = instance();
    let rounds = [
        round(&instance, 1, None, Some("state-one")),
        round(&instance, 2, Some("state-one"), Some("state-two")),
        round(&instance, 3, Some("state-two"), Some("state-two")),
        round(&instance, 4, Some("state-two"), None),
    ];
    let statuses: Vec<_> = rounds.iter().map(|round| round.status).collect();
    assert_eq!(statuses, [Status::InputRequired, Status::InputRequired, Status::InputRequired, Status::Ok]);
    assert!(rounds[0].mrtr_group.is_some());
    for round in &rounds {
        assert_eq!(round.mrtr_group, rounds[0].mrtr_group);
        assert!(!format!("{round:?}").contains("state-"), "{round:?}");
    }
    let other = round(&instance, 1, None, Some("another"));
    assert_ne!(other.mrtr_group, rounds[0].mrtr_group);
    assert_eq!(round(&instance, 1, None, None).mrtr_group, None);
}

#[test]
fn states_that_only_begin_alike_are_no_group() {
    let instance = instance();
    let long = "x".repeat(5000);
    assert_eq!(round(&instance, 1, None, Some(&long)).mrtr_group, None);
    assert_eq!(round(&instance, 2, Some(&long), None).mrtr_group, None);
}

#[test]
fn a_stream_that_listens_is_no_call_however_long_it_lasts() {
    let instance = instance();
    let mut listen = post(&instance, &[VERSION], r#"{"id":1,"method":"subscriptions/listen","params":{}}"#);
    respond(&mut listen, 200, SSE, 11);
    for minute in 0..10 {
        listen.handle_response_data(b": still here\n\n", Tick(minute * 60_000 * MS));
        listen.handle_response_data(
            b"data: {\"method\":\"notifications/tools/list_changed\"}\n\n",
            Tick(minute * 60_000 * MS),
        );
        assert!(take(&mut listen).is_empty() && instance.poll_expired(Tick(minute * 60_000 * MS)).is_empty());
    }
    // Its own end is an answer to no call either.
    listen.handle_response_data(b"data: {\"id\":1,\"result\":{}}\n\n", Tick(600_000 * MS));
    listen.handle_response_end(Tick(600_000 * MS));
    assert!(take(&mut listen).is_empty());
    assert_eq!((instance.conversations(), instance.orphans()), (0, 0));
}

#[test]
fn the_body_names_the_tool_and_a_header_that_differs_is_noted() {
    for (method, name, differs) in [
        ("tools/call", "add", false),
        ("tools/call", "=?base64?YWRk?=", false),
        ("tools/call", "=?base64?c3Vi?=", true),
        ("tools/call", "=?base64?!!?=", false),
        ("tools/call", "sub", true),
        ("tools/list", "add", true),
    ] {
        let mut exchange = post(&instance(), &[VERSION, ("mcp-method", method), ("mcp-name", name)], CALL);
        respond(&mut exchange, 400, JSON, 11);
        exchange
            .handle_response_data(br#"{"id":1,"error":{"code":-32020,"message":"mismatch"}}"#, Tick(12 * MS));
        exchange.handle_response_end(Tick(12 * MS));
        let record = only(take(&mut exchange));
        assert_eq!(
            (record.tool_name.as_deref(), record.header_mismatch),
            (Some("add"), differs),
            "{method} {name}"
        );
        assert_eq!((record.status, record.http_status), (Status::RpcError, Some(400)));
    }
}

#[test]
fn leaving_is_cancelling_and_a_notification_says_nothing() {
    let instance = instance();
    let mut exchange = post(&instance, &[VERSION], CALL);
    respond(&mut exchange, 200, SSE, 11);
    exchange.handle_response_data(b"id: 0\ndata: {\"method\":\"m\"}\n\n", Tick(12 * MS));
    post(
        &instance,
        &[VERSION],
        r#"{"method":"notifications/cancelled","params":{"requestId":1,"reason":"why"}}"#,
    );
    exchange.handle_client_left(Tick(13 * MS));
    let record = only(take(&mut exchange));
    assert_eq!(
        (record.status, record.client_left, record.cancel_requested),
        (Status::Cancelled, true, false)
    );
    assert_eq!(record.status_detail, Some(StatusDetail::ClientLeftMidStream), "event ids or not");
}
