//! What makes no record, and what there is too much of.

use super::*;

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
