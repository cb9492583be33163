//! Callers that the proxy refuses: a record in any case, and nobody's conversation is touched.

use super::*;
use crate::{
    Caller,
    word::{AuthMethod, AuthState},
};

fn refusal() -> Failure {
    Failure {
        status: Status::Denied,
        detail: StatusDetail::Credentials,
        code: "key_unknown",
        message: "no such key".to_owned(),
        http_status: Some(401),
        context: None,
    }
}

fn refuse(body: &str, pairs: &[(&'static str, &str)]) -> Vec<CallRecord> {
    refuse_in(&Arc::new(instance().apart()), body, pairs)
}

fn refuse_in(instance: &Arc<Instance>, body: &str, pairs: &[(&'static str, &str)]) -> Vec<CallRecord> {
    let mut exchange = post(instance, pairs, body);
    exchange.handle_refusal(&refusal(), Tick(11 * MS));
    take(&mut exchange)
}

#[test]
fn a_refused_call_says_what_it_was() {
    let record = only(refuse(CALL, &[("authorization", "Bearer x")]));
    assert_eq!((record.method, record.tool_name.as_deref()), (Method::ToolsCall, Some("add")));
    assert_eq!((record.status, record.origin), (Status::Denied, Some(Origin::Client)));
    assert_eq!((record.http_status, record.error_code.as_deref()), (Some(401), Some("key_unknown")));
}

#[test]
fn a_refused_request_without_a_call_is_a_record_too() {
    for body in ["", "no json", r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#] {
        let record = only(refuse(body, &[]));
        assert_eq!((record.method, record.tool_name), (Method::Unknown, None), "{body}");
        assert_eq!(record.status_detail, Some(StatusDetail::Credentials));
    }
}

#[test]
fn no_request_can_name_itself_unknown() {
    let instance = instance();
    let mut exchange =
        post(&instance, &[("mcp-method", "unknown")], r#"{"jsonrpc":"2.0","id":1,"method":"unknown"}"#);
    respond(&mut exchange, 200, JSON, 20);
    exchange.handle_response_data(ANSWER.as_bytes(), Tick(20 * MS));
    exchange.handle_response_end(Tick(20 * MS));
    assert_eq!(take(&mut exchange), []);
}

#[test]
fn who_is_refused_cancels_nobodys_call() {
    let instance = instance();
    let pairs = [("mcp-session-id", "s")];
    let mut opening = post(&instance, &pairs, CALL);
    respond(&mut opening, 200, JSON, 20);
    opening.handle_response_data(ANSWER.as_bytes(), Tick(20 * MS));
    opening.handle_response_end(Tick(20 * MS));
    let mut call = post(&instance, &pairs, CALL);
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(refuse_in(&Arc::new(instance.apart()), cancel, &pairs).len(), 1);
    call.handle_client_left(Tick(30 * MS));
    assert!(!only(take(&mut call)).cancel_requested);
    // In the instance itself it would have been.
    let mut other = post(&instance, &pairs, CALL);
    refuse_in(&instance, cancel, &pairs);
    other.handle_client_left(Tick(40 * MS));
    assert!(only(take(&mut other)).cancel_requested);
}

#[test]
fn what_the_check_of_the_credentials_said_is_in_the_record() {
    let caller = Caller {
        auth_method: AuthMethod::ApiKey,
        auth_state: AuthState::Ok,
        api_key_id: Some("key_1".into()),
        user_id: Some("u_2".into()),
        organization_id: None,
    };
    let instance = instance();
    let head = Head {
        method: &http::Method::POST,
        target: "/mcp",
        headers: &headers(&[("authorization", "Bearer x")]),
        created_at: Timestamp(0),
        at: Tick(0),
        entropy: 7,
        client_ip: None,
        caller: Some(Arc::new(caller)),
    };
    let mut exchange = instance.begin(&head);
    exchange.note_rate_limit_state("{}".into());
    exchange.handle_request_data(CALL.as_bytes(), Tick(1));
    exchange.handle_request_end(Tick(1));
    exchange.handle_failure(&refusal(), Tick(2));
    let record = only(take(&mut exchange));
    assert_eq!((record.auth_method, record.auth_state), (AuthMethod::ApiKey, AuthState::Ok));
    assert_eq!((record.api_key_id.as_deref(), record.user_id.as_deref()), (Some("key_1"), Some("u_2")));
    assert_eq!((record.organization_id, record.rate_limit_state.as_deref()), (None, Some("{}")));
}
