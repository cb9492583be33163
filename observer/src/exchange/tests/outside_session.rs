//! Cancellations of clients without a session: they count if exactly one call can be meant.

use super::*;

const CANCEL: &str = r#"{"method":"notifications/cancelled","params":{"requestId":1,"reason":"why"}}"#;
const ALICE: (&str, &str) = ("authorization", "Bearer alice-secret");
const BOB: (&str, &str) = ("authorization", "Bearer bob-secret");

fn open(instance: &Arc<Instance>, pairs: &[(&'static str, &str)]) -> Exchange {
    let mut exchange = post(instance, pairs, CALL);
    respond(&mut exchange, 200, SSE, 11);
    exchange
}

fn leave(mut exchange: Exchange) -> CallRecord {
    exchange.handle_client_left(Tick(20 * MS));
    only(take(&mut exchange))
}

#[test]
fn a_cancelled_call_is_cancelled_and_not_just_left() {
    let instance = instance();
    let exchange = open(&instance, &[ALICE]);
    post(&instance, &[ALICE], CANCEL);
    let record = leave(exchange);
    assert_eq!(
        (record.status, record.status_detail),
        (Status::Cancelled, Some(StatusDetail::CancelNotified))
    );
    assert_eq!((record.error_message.as_deref(), record.cancel_requested), (Some("why"), true));
    assert!(!format!("{record:?}").contains("secret"));
}

#[test]
fn a_cancelled_call_without_an_answer_is_no_fault_of_the_server() {
    let instance = instance();
    let mut exchange = open(&instance, &[]);
    post(&instance, &[], CANCEL);
    exchange.handle_response_end(Tick(20 * MS));
    assert_eq!(only(take(&mut exchange)).status, Status::Cancelled);
}

#[test]
fn an_answer_wins_over_a_cancellation() {
    let instance = instance();
    let mut exchange = open(&instance, &[]);
    post(&instance, &[], CANCEL);
    exchange.handle_response_data(format!("data: {ANSWER}\n\n").as_bytes(), Tick(12 * MS));
    let record = only(take(&mut exchange));
    assert_eq!((record.status, record.cancel_requested), (Status::Ok, true));
}

#[test]
fn a_cancellation_that_could_mean_two_calls_means_none() {
    let instance = instance();
    let (one, other) = (open(&instance, &[ALICE]), open(&instance, &[ALICE]));
    post(&instance, &[ALICE], CANCEL);
    for exchange in [one, other] {
        let record = leave(exchange);
        assert_eq!(record.status_detail, Some(StatusDetail::ClientLeftMidStream));
        assert!(!record.cancel_requested);
    }
}

#[test]
fn another_clients_and_another_types_id_are_left_alone() {
    let instance = instance();
    let exchange = open(&instance, &[ALICE]);
    post(&instance, &[BOB], CANCEL);
    post(&instance, &[], CANCEL);
    post(&instance, &[ALICE], &CANCEL.replace("\"requestId\":1", "\"requestId\":\"1\""));
    post(&instance, &[ALICE, ("mcp-session-id", "s")], CANCEL);
    post(&instance, &[ALICE, ("mcp-protocol-version", "2026-07-28")], CANCEL);
    assert!(!leave(exchange).cancel_requested);
}

#[test]
fn a_cancellation_is_over_with_its_call() {
    let instance = instance();
    // It comes too late for one call and long before the next with that id.
    leave(open(&instance, &[]));
    post(&instance, &[], CANCEL);
    assert!(!leave(open(&instance, &[])).cancel_requested);
    let cancelled = open(&instance, &[]);
    post(&instance, &[], CANCEL);
    assert!(leave(cancelled).cancel_requested);
    let mut later = begin(&instance, http::Method::POST, "/mcp", &[]);
    later.handle_request_data(CALL.as_bytes(), Tick(30 * MS));
    later.handle_request_end(Tick(30 * MS));
    later.handle_client_left(Tick(40 * MS));
    assert!(!only(take(&mut later)).cancel_requested);
}
