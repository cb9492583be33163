//! Calls that are answered with a task, and the row of the task's end.

use super::*;

const MODERN: (&str, &str) = ("mcp-protocol-version", "2026-07-28");
const OLD: (&str, &str) = ("mcp-protocol-version", "2025-11-25");
const CREATED: &str = r#"{"id":1,"result":{"resultType":"task","taskId":"secret-7","status":"working"}}"#;
const CREATED_2025: &str = r#"{"id":1,"result":{"task":{"taskId":"secret-7","status":"working"}}}"#;

/// A request that is asked at 10 ms and answered as JSON at that instant.
fn ask(
    instance: &Arc<Instance>,
    version: (&'static str, &str),
    body: &str,
    answer: &str,
    at_ms: u64,
) -> Vec<CallRecord> {
    let mut exchange = post(instance, &[version], body);
    respond(&mut exchange, 200, JSON, at_ms);
    exchange.handle_response_data(answer.as_bytes(), Tick(at_ms * MS));
    exchange.handle_response_end(Tick(at_ms * MS));
    take(&mut exchange)
}

fn create(instance: &Arc<Instance>, version: (&'static str, &str)) -> CallRecord {
    let created = only(ask(instance, version, CALL, if version == OLD { CREATED_2025 } else { CREATED }, 20));
    assert_eq!((created.status, created.origin, created.duration_us), (Status::TaskCreated, None, 10_000));
    created
}

fn about(method: &str) -> String {
    format!(r#"{{"id":2,"method":"tasks/{method}","params":{{"taskId":"secret-7"}}}}"#)
}

fn detailed(rest: &str) -> String {
    format!(r#"{{"id":2,"result":{{"resultType":"complete","taskId":"secret-7",{rest}}}}}"#)
}

#[test]
fn the_end_of_a_task_is_one_row_with_the_hash_of_its_creation() {
    let instance = instance();
    let created = create(&instance, MODERN);
    // Two examples of SEP-2663 answer `tasks/get` as if it had created the task.
    for status in ["\"working\"", "\"input_required\"", "\"working\""] {
        let working = detailed(&format!("\"status\":{status}")).replace("complete", "task");
        assert!(ask(&instance, MODERN, &about("get"), &working, 500).is_empty());
    }
    let inner = r#""status":"completed","result":{"content":[{"text":"boom"},{"text":"b"}],"isError":true}"#;
    let end = only(ask(&instance, MODERN, &about("get"), &detailed(inner), 5_000));
    assert_eq!(
        (end.status, end.status_detail, end.origin),
        (Status::ToolError, Some(StatusDetail::TaskEnd), Some(Origin::Upstream))
    );
    assert_eq!(end.error_message.as_deref(), Some("boom"));
    assert_eq!((end.method, end.tool_name.as_deref()), (Method::ToolsCall, Some("add")));
    assert_eq!((end.duration_us, end.created_at), (4_990_000, created.created_at));
    assert_eq!(
        (end.input_bytes, end.output_bytes),
        (about("get").len() as u64, detailed(inner).len() as u64)
    );
    assert_eq!(
        (end.http_status, end.framing, end.match_kind),
        (Some(200), Some(Framing::Json), MatchKind::Exact)
    );
    assert!(created.task_hash.is_some() && end.task_hash == created.task_hash && end.id != created.id);
    for record in [&created, &end] {
        assert!(!format!("{record:?}").contains("secret"), "{record:?}");
    }
    assert!(ask(&instance, MODERN, &about("get"), &detailed(inner), 6_000).is_empty(), "it has ended once");
    assert_eq!(instance.forgotten_tasks(), 0);
}

#[test]
fn a_task_ends_in_every_way_a_call_does() {
    for (inner, status, code, message) in [
        (r#""status":"completed","result":{"content":[]}"#, Status::Ok, None, None),
        (
            r#""status":"failed","error":{"code":-32603,"message":"broken"}"#,
            Status::RpcError,
            Some("-32603"),
            Some("broken"),
        ),
        (
            r#""status":"cancelled","statusMessage":"enough Bearer abcdef1""#,
            Status::Cancelled,
            None,
            Some("enough Bearer [redacted]"),
        ),
    ] {
        let instance = instance();
        create(&instance, MODERN);
        let end = only(ask(&instance, MODERN, &about("get"), &detailed(inner), 30));
        assert_eq!(
            (end.status, end.error_code.as_deref(), end.error_message.as_deref()),
            (status, code, message)
        );
        assert_eq!(end.status_detail, Some(StatusDetail::TaskEnd));
    }
}

#[test]
fn a_result_that_is_fetched_is_the_end_of_a_task_of_2025_11_25() {
    let instance = instance();
    let created = create(&instance, OLD);
    let mut fetch = post(&instance, &[OLD], &about("result"));
    respond(&mut fetch, 200, SSE, 15);
    fetch.handle_response_data(b"data: {\"method\":\"notifications/progress\"}\n\n", Tick(20 * MS));
    assert!(take(&mut fetch).is_empty(), "it blocks");
    let error = r#"{"id":2,"error":{"code":-32000,"message":"no"}}"#;
    fetch.handle_response_data(format!("data: {error}\n\n").as_bytes(), Tick(60 * MS));
    let end = only(take(&mut fetch));
    assert_eq!((end.status, end.status_detail), (Status::RpcError, Some(StatusDetail::TaskEnd)));
    assert_eq!((end.error_code.as_deref(), end.duration_us), (Some("-32000"), 50_000));
    assert_eq!((end.framing, end.output_bytes), (Some(Framing::Sse), error.len() as u64));
    assert_eq!(end.task_hash, created.task_hash);
}

#[test]
fn a_word_for_the_end_waits_a_while_for_the_result_that_says_more() {
    let instance = instance();
    create(&instance, OLD);
    let word = r#"{"id":2,"result":{"taskId":"secret-7","status":"completed","statusMessage":"done"}}"#;
    assert!(ask(&instance, OLD, &about("get"), word, 30).is_empty());
    let result = r#"{"id":2,"result":{"content":[{"text":"boom"}],"isError":true}}"#;
    let end = only(ask(&instance, OLD, &about("result"), result, 40));
    assert_eq!((end.status, end.error_message.as_deref()), (Status::ToolError, Some("boom")));
    assert_eq!(end.duration_us, 20_000, "it ended when the end was first told");

    create(&instance, OLD);
    let failed = r#"{"id":2,"result":{"taskId":"secret-7","status":"failed","statusMessage":"why"}}"#;
    assert!(ask(&instance, OLD, &about("get"), failed, 50).is_empty());
    assert!(instance.has_open() && instance.poll_expired(Tick(5_000 * MS)).is_empty());
    let expired = instance.poll_expired(Tick(5_100 * MS));
    assert_eq!(expired.len(), 1);
    assert_eq!((expired[0].status, expired[0].error_message.as_deref()), (Status::ToolError, Some("why")));
    assert_eq!((expired[0].duration_us, instance.has_open()), (40_000, false));

    create(&instance, OLD);
    assert!(ask(&instance, OLD, &about("get"), word, 30).is_empty());
    assert_eq!(
        instance.close(Tick(40 * MS))[0].status,
        Status::Ok,
        "a known end is not lost when the proxy stops"
    );
}

#[test]
fn a_result_may_come_on_a_resumed_stream() {
    let instance = instance();
    let session = [OLD, ("mcp-session-id", "s")];
    create(&instance, OLD);
    let mut fetch = post(&instance, &session, &about("result"));
    respond(&mut fetch, 200, SSE, 15);
    fetch.handle_response_data(b"id: 0\ndata:\n\n", Tick(15 * MS));
    fetch.handle_response_end(Tick(20 * MS));
    let mut resumed = begin(&instance, http::Method::GET, "/mcp", &[session[1], ("last-event-id", "0")]);
    respond(&mut resumed, 200, SSE, 30);
    resumed.handle_response_data(b"id: 1\ndata: {\"id\":2,\"result\":{\"content\":[]}}\n\n", Tick(40 * MS));
    assert_eq!((only(take(&mut resumed))).status, Status::Ok);
}

#[test]
fn a_cancelled_task_says_who_wanted_it() {
    let instance = instance();
    create(&instance, OLD);
    let cancelled = r#"{"id":2,"result":{"taskId":"secret-7","status":"cancelled"}}"#;
    let end = only(ask(&instance, OLD, &about("cancel"), cancelled, 30));
    assert_eq!((end.status, end.cancel_requested), (Status::Cancelled, true));

    create(&instance, MODERN);
    assert!(
        ask(&instance, MODERN, &about("cancel"), r#"{"id":2,"result":{"resultType":"complete"}}"#, 30)
            .is_empty()
    );
    let end =
        only(ask(&instance, MODERN, &about("get"), &detailed(r#""status":"completed","result":{}"#), 40));
    assert_eq!((end.status, end.cancel_requested), (Status::Ok, true), "it was faster");
}

#[test]
fn a_listening_client_is_told_of_the_end() {
    let instance = instance();
    let mut listen = post(&instance, &[MODERN], r#"{"id":5,"method":"subscriptions/listen","params":{}}"#);
    respond(&mut listen, 200, SSE, 11);
    listen.handle_response_data(b": nothing yet\n\n", Tick(12 * MS));
    create(&instance, MODERN);
    let notice = |rest: &str| {
        format!(
            r#"data: {{"method":"notifications/tasks","params":{{"taskId":"secret-7",{rest}}}}}{}"#,
            "\n\n"
        )
    };
    listen.handle_response_data(notice(r#""status":"working""#).as_bytes(), Tick(30 * MS));
    assert!(take(&mut listen).is_empty());
    let over = notice(r#""status":"failed","error":{"code":-32603,"message":"broken"}"#);
    listen.handle_response_data(over.as_bytes(), Tick(60 * MS));
    let end = only(take(&mut listen));
    assert_eq!((end.status, end.error_code.as_deref()), (Status::RpcError, Some("-32603")));
    assert_eq!((end.duration_us, end.input_bytes), (50_000, 0));
    listen.handle_client_left(Tick(70 * MS));
    assert!(take(&mut listen).is_empty(), "the stream itself is no call");
}

#[test]
fn the_ends_that_one_stream_tells_are_rows_of_their_own() {
    let instance = instance();
    let mut listen = post(&instance, &[MODERN], r#"{"id":5,"method":"subscriptions/listen","params":{}}"#);
    respond(&mut listen, 200, SSE, 11);
    let ends = ["one", "two"].map(|task| {
        let created = only(ask(&instance, MODERN, CALL, &CREATED.replace("secret-7", task), 20));
        let told = format!(r#"{{"taskId":"{task}","status":"completed","result":{{}}}}"#);
        let notice = format!("data: {{\"method\":\"notifications/tasks\",\"params\":{told}}}\n\n");
        listen.handle_response_data(notice.as_bytes(), Tick(30 * MS));
        let end = only(take(&mut listen));
        assert_eq!(end.task_hash, created.task_hash);
        end
    });
    assert_ne!(ends[0].id, ends[1].id);
}

#[test]
fn there_is_no_end_without_a_beginning() {
    let instance = instance();
    let over = detailed(r#""status":"completed","result":{}"#);
    assert!(ask(&instance, MODERN, &about("get"), &over, 30).is_empty(), "nobody saw it created");
    create(&instance, MODERN);
    let lost = r#"{"id":2,"error":{"code":-32602,"message":"no such task"}}"#;
    assert!(
        ask(&instance, MODERN, &about("get"), lost, 30).is_empty(),
        "not the task has failed, but the question"
    );
    let other = about("get").replace("secret-7", "other");
    assert!(
        ask(&instance, MODERN, &other, &over, 30).is_empty(),
        "what was asked decides, not what is answered"
    );
    // The result of a call that is not a tool's is not a task, whatever it says.
    let list = r#"{"id":1,"method":"tools/list"}"#;
    assert_eq!(only(ask(&instance, MODERN, list, CREATED, 30)).status, Status::Ok);
}

#[test]
fn tasks_nobody_asks_for_are_forgotten_and_counted() {
    let instance = instance();
    for n in 0..4100 {
        let answer = CREATED.replace("secret-7", &n.to_string());
        assert_eq!(ask(&instance, MODERN, CALL, &answer, 20).len(), 1);
    }
    assert_eq!(instance.forgotten_tasks(), 4);
    assert!(instance.poll_expired(Tick(23 * 3_600_000 * MS)).is_empty());
    assert_eq!(instance.forgotten_tasks(), 4);
    assert!(instance.poll_expired(Tick(25 * 3_600_000 * MS)).is_empty());
    assert_eq!((instance.forgotten_tasks(), instance.has_open()), (4100, false));
}

#[test]
fn the_end_is_a_span_behind_the_creation() {
    let instance = instance();
    let traced = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let mut exchange = post(&instance, &[MODERN, traced], CALL);
    respond(&mut exchange, 200, JSON, 20);
    exchange.handle_response_data(CREATED.as_bytes(), Tick(20 * MS));
    exchange.handle_response_end(Tick(20 * MS));
    let created = only(take(&mut exchange));
    let end =
        only(ask(&instance, MODERN, &about("get"), &detailed(r#""status":"completed","result":{}"#), 40));
    assert_eq!((&end.trace_id, &end.parent_span_id), (&created.trace_id, &created.span_id));
    assert!(end.span_id.is_some() && end.span_id != created.span_id);
}
