//! Batches (2025-03-26): several calls in one body, answered in any order and form.

use super::*;

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

/// Two calls whose ids differ by their type, and a list.
fn batch(instance: &Arc<Instance>) -> Exchange {
    let body = r#"[{"id":1,"method":"tools/call","params":{"name":"a"}},{"method":"n"},{"id":"1","method":"tools/call","params":{"name":"b"}},{"id":2,"method":"tools/list"}]"#;
    post(instance, &[], body)
}

fn seen(records: &[CallRecord]) -> Vec<(&str, Status, MatchKind, u64)> {
    let see = |record: &CallRecord| (record.status, record.match_kind, record.output_bytes);
    let ids = records.iter().map(|record| record.rpc_id.as_deref().expect("an id"));
    ids.zip(records.iter().map(see)).map(|(id, (status, kind, bytes))| (id, status, kind, bytes)).collect()
}

#[test]
fn an_array_may_answer_in_any_order() {
    let mut exchange = batch(&instance());
    respond(&mut exchange, 200, JSON, 11);
    let answers = [
        r#"{"id":2,"result":{"tools":[]}}"#,
        r#"{"id":"1","result":{"isError":true}}"#,
        r#"{"result":{},"id":1}"#,
    ];
    exchange.handle_response_data(format!("[ {} ]", answers.join(" , ")).as_bytes(), Tick(12 * MS));
    exchange.handle_response_end(Tick(12 * MS));
    let records = take(&mut exchange);
    let bytes = answers.map(|answer| answer.len() as u64);
    assert_eq!(
        seen(&records),
        [
            ("2", Status::Ok, MatchKind::Exact, bytes[0]),
            ("\"1\"", Status::ToolError, MatchKind::Exact, bytes[1]),
            ("1", Status::Ok, MatchKind::Exact, bytes[2]),
        ]
    );
    assert!(records.iter().all(|record| record.framing == Some(Framing::BatchJson)));
    assert!(records.iter().all(|record| record.batch_size == Some(4)), "requests and notifications");
}

#[test]
fn a_missing_answer_ends_with_the_exchange() {
    let mut exchange = batch(&instance());
    respond(&mut exchange, 200, JSON, 11);
    exchange.handle_response_data(br#"[{"id":2,"result":{}},{"id":1,"result":{}}]"#, Tick(12 * MS));
    assert_eq!(take(&mut exchange).len(), 2);
    exchange.handle_response_end(Tick(13 * MS));
    let missing = only(take(&mut exchange));
    assert_eq!((missing.rpc_id.as_deref(), missing.match_kind), (Some("\"1\""), MatchKind::None));
    assert_eq!(
        (missing.status, missing.status_detail),
        (Status::UpstreamError, Some(StatusDetail::NoResponse))
    );
}

#[test]
fn one_bare_error_answers_all() {
    for error in
        [r#"{"id":null,"error":{"code":-32600,"message":"no batches"}}"#, r#"{"error":{"code":-32600}}"#]
    {
        let mut exchange = batch(&instance());
        respond(&mut exchange, 400, JSON, 11);
        exchange.handle_response_data(error.as_bytes(), Tick(12 * MS));
        exchange.handle_response_end(Tick(12 * MS));
        let records = take(&mut exchange);
        assert_eq!(records.len(), 3);
        for record in records {
            assert_eq!((record.status, record.match_kind), (Status::RpcError, MatchKind::Positional));
            assert_eq!((record.error_code.as_deref(), record.http_status), (Some("-32600"), Some(400)));
        }
    }
}

#[test]
fn two_calls_with_one_id_are_first_in_first_out() {
    let body = r#"[{"id":1,"method":"tools/call","params":{"name":"a"}},{"id":1,"method":"tools/call","params":{"name":"b"}}]"#;
    let mut exchange = post(&instance(), &[], body);
    respond(&mut exchange, 200, JSON, 11);
    exchange
        .handle_response_data(br#"[{"id":1,"result":{}},{"id":1,"result":{"isError":true}}]"#, Tick(12 * MS));
    let records = take(&mut exchange);
    let told: Vec<_> = records
        .iter()
        .map(|record| (record.tool_name.as_deref(), record.status, record.match_kind))
        .collect();
    assert_eq!(
        told,
        [(Some("a"), Status::Ok, MatchKind::Fifo), (Some("b"), Status::ToolError, MatchKind::Exact)]
    );
}
