//! Pipes driven as the proxy drives them, with instants that the test chooses.

use super::*;
use crate::{
    Framing, Identity, MatchKind, Method, Mount, Origin, Status, StatusDetail, Transport,
    call::{CallId, Text},
};
use std::collections::HashSet;

const MS: u64 = 1_000_000;
const INITIALIZE: &str = r#"{"id":0,"method":"initialize","params":{"protocolVersion":"2026-07-28","clientInfo":{"name":"c","version":"9"}}}"#;
const INITIALIZED: &str = r#"{"id":0,"result":{"protocolVersion":"2025-11-25"}}"#;
const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","_meta":{"progressToken":"t"}}}"#;
const ANSWER: &str = r#"{"result":{"content":[]},"jsonrpc":"2.0","id":1}"#;

struct Held {
    instance: Arc<Instance>,
    pipe: Pipe,
}

impl Held {
    fn over(make: fn(Identity, Mount) -> Instance) -> Self {
        let identity = Identity { instance_id: "i".into(), user_id: Some("u".into()), organization_id: None };
        let mount = Mount { origin: String::new(), base_path: String::new(), prefix: String::new() };
        let instance = Arc::new(make(identity, mount));
        Self { pipe: instance.begin_pipe(7 << 64, Tick(0)), instance }
    }

    fn stdio() -> Self {
        Self::over(Instance::new_stdio)
    }

    /// The client says lines, at that millisecond.
    fn ask(&mut self, at: u64, lines: &[&str]) {
        let wall = Timestamp(1_700_000_000_000_000 + at as i64 * 1000);
        self.pipe.handle_client_data((lines.join("\n") + "\n").as_bytes(), wall, Tick(at * MS));
    }

    fn answer(&mut self, at: u64, lines: &[&str]) {
        self.pipe.handle_server_data((lines.join("\n") + "\n").as_bytes(), Tick(at * MS));
    }

    fn take(&mut self) -> Vec<CallRecord> {
        assert_eq!(self.pipe.poll_unrecorded(), 0);
        std::iter::from_fn(|| self.pipe.poll_finished(Tick(1000 * MS)).map(|record| *record)).collect()
    }

    fn only(&mut self) -> CallRecord {
        let mut records = self.take();
        assert_eq!(records.len(), 1, "{records:#?}");
        records.remove(0)
    }
}

fn failure(context: Option<&str>) -> Failure {
    Failure {
        status: Status::UpstreamError,
        detail: StatusDetail::Aborted,
        code: "process_ended",
        message: "exited with status 3".to_owned(),
        http_status: None,
        context: context.map(str::to_owned),
    }
}

#[test]
fn a_call_on_a_pipe_is_a_row_with_all_that_the_pipe_told() {
    let mut held = Held::stdio();
    held.ask(1, &[INITIALIZE]);
    held.answer(2, &[INITIALIZED]);
    held.ask(10, &[CALL]);
    held.answer(13, &[r#"{"method":"notifications/progress","params":{"progressToken":"t","progress":1}}"#]);
    held.answer(14, &[r#"{"method":"notifications/progress","params":{"progressToken":"t","progress":2}}"#]);
    held.answer(15, &[ANSWER]);
    let record = held.only();
    assert_eq!(
        (record.status, record.method, record.tool_name.as_deref()),
        (Status::Ok, Method::ToolsCall, Some("add"))
    );
    assert_eq!((record.transport_type, record.client_transport), (Transport::Stdio, Transport::Stdio));
    assert_eq!((record.framing, record.match_kind), (Some(Framing::Line), MatchKind::Exact));
    assert_eq!((record.duration_us, record.first_event_us, record.ttfb_us), (5_000, Some(3_000), None));
    assert_eq!((record.input_bytes, record.output_bytes), (CALL.len() as u64, ANSWER.len() as u64));
    assert_eq!(
        (record.http_status, record.http_request_bytes, record.http_response_bytes),
        (None, None, None)
    );
    assert_eq!(record.protocol_version.as_deref(), Some("2025-11-25"), "what was agreed, not what was asked");
    assert_eq!((record.client_name.as_deref(), record.client_version.as_deref()), (Some("c"), Some("9")));
    assert_eq!(
        (record.created_at, record.completed_at),
        (Timestamp(1_700_000_000_010_000), Timestamp(1_700_000_000_015_000))
    );
    assert!(record.session_hash.is_some() && record.user_id.as_deref() == Some("u"));
    assert_eq!(held.instance.open_calls(), 0);
}

#[test]
fn a_line_is_timed_from_its_newline_and_created_at_its_first_byte() {
    let mut held = Held::stdio();
    let wall = |ms: i64| Timestamp(1_700_000_000_000_000 + ms * 1000);
    held.pipe.handle_client_data(CALL.as_bytes(), wall(1), Tick(MS));
    held.pipe.handle_client_data(b"\r\n", wall(5), Tick(5 * MS));
    held.pipe.handle_server_data(ANSWER.as_bytes(), Tick(8 * MS));
    assert!(!held.pipe.has_finished(), "not before its newline");
    held.pipe.handle_server_data(b"\r\n", Tick(9 * MS));
    let record = held.only();
    assert_eq!((record.created_at, record.duration_us), (wall(1), 4_000));
    assert_eq!((record.input_bytes, record.output_bytes), (CALL.len() as u64, ANSWER.len() as u64));
    assert_eq!((record.protocol_version, record.client_name), (None, None), "nobody said");
}

#[test]
fn any_pieces_give_the_same_rows() {
    let asked =
        [INITIALIZE, CALL, "", "noise", r#"[{"id":"b","method":"tools/list"},{"id":3,"method":"ping"}]"#]
            .join("\r\n")
            + "\n";
    let answered =
        ["Listening on stdio", INITIALIZED, "{\"broken", r#"[{"id":"b","result":{"tools":[{}]}}]"#, ANSWER]
            .join("\n")
            + "\n";
    let rows = |size: usize| {
        let mut held = Held::stdio();
        asked.as_bytes().chunks(size).for_each(|piece| {
            held.pipe.handle_client_data(piece, Timestamp(0), Tick(MS));
        });
        answered.as_bytes().chunks(size).for_each(|piece| held.pipe.handle_server_data(piece, Tick(2 * MS)));
        held.take()
    };
    let whole = rows(usize::MAX);
    assert_eq!(whole.len(), 2);
    assert_eq!((whole[0].batch_size, whole[0].batch_index, whole[0].tool_count), (Some(2), Some(0), Some(1)));
    assert_eq!((whole[0].input_bytes, whole[0].framing), (32, Some(Framing::Line)));
    assert_eq!(whole[1].batch_size, None);
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(rows(size), whole, "in pieces of {size}");
    }
}

#[test]
fn answers_in_any_order_find_their_calls_and_ids_are_unique() {
    let mut held = Held::stdio();
    let calls: Vec<_> = (0..200)
        .map(|id| format!(r#"{{"id":{id},"method":"tools/call","params":{{"name":"t{id}"}}}}"#))
        .collect();
    held.ask(1, &calls.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(held.instance.open_calls(), 200);
    // The server's own requests use the same ids.
    held.answer(2, &[r#"{"id":5,"method":"sampling/createMessage"}"#]);
    held.ask(3, &[r#"{"id":5,"result":{}}"#]);
    for id in (0..200).rev() {
        held.answer(4, &[&format!(r#"{{"id":{id},"result":{{}}}}"#)]);
    }
    let records = held.take();
    assert_eq!(records.len(), 200);
    for record in &records {
        assert_eq!(record.tool_name.as_deref().map(|name| &name[1..]), record.rpc_id.as_deref());
        assert_eq!(record.match_kind, MatchKind::Exact);
    }
    let ids: HashSet<CallId> = records.iter().map(|record| record.id).collect();
    assert_eq!(ids.len(), 200);
    assert_eq!(held.instance.orphans(), 0);
}

#[test]
fn a_cancelled_call_ends_after_a_grace_and_its_id_can_be_used_again() {
    let mut held = Held::stdio();
    let cancel = r#"{"method":"notifications/cancelled","params":{"requestId":1,"reason":"enough"}}"#;
    held.ask(1, &[CALL, cancel]);
    assert!(held.instance.poll_expired(Tick(2000 * MS)).is_empty(), "it may still be answered");
    let record = held.instance.poll_expired(Tick(6000 * MS)).remove(0);
    assert_eq!((record.status, record.error_message.as_deref()), (Status::Cancelled, Some("enough")));
    assert!(record.cancel_requested);
    held.ask(7000, &[CALL]);
    assert!(held.instance.poll_expired(Tick(7001 * MS)).is_empty());
    held.answer(7002, &[ANSWER]);
    let record = held.only();
    assert_eq!((record.status, record.cancel_requested), (Status::Ok, false));
}

#[test]
fn a_cancelled_call_that_is_answered_says_both() {
    let mut held = Held::stdio();
    held.ask(1, &[CALL, r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#]);
    held.answer(2, &[ANSWER]);
    let record = held.only();
    assert_eq!((record.status, record.cancel_requested), (Status::Ok, true));
}

#[test]
fn a_program_that_ends_fails_its_open_calls_with_what_it_last_said() {
    let mut held = Held::stdio();
    held.ask(1, &[CALL]);
    let context = r#"{"exit":3,"stderr":["Authorization: Bearer abcdef123456"]}"#;
    held.pipe.handle_end(&PipeEnd::Failed(failure(Some(context))), Tick(4 * MS));
    let record = held.only();
    assert_eq!(
        (record.status, record.status_detail, record.origin),
        (Status::UpstreamError, Some(StatusDetail::Aborted), Some(Origin::Upstream))
    );
    assert_eq!(
        (record.error_code.as_deref(), record.error_message.as_deref()),
        (Some("process_ended"), Some("exited with status 3"))
    );
    let detail: serde_json::Value =
        serde_json::from_str(record.error_detail.as_deref().expect("kept")).expect("a document");
    assert_eq!(detail["exit"], 3);
    assert_eq!(detail["stderr"][0], "Authorization: Bearer [redacted]");
    assert_eq!((record.duration_us, record.client_left, record.framing), (3_000, false, None));
    assert_eq!(held.instance.conversations(), 0);
}

#[test]
fn a_context_that_is_too_long_is_still_a_document() {
    let mut held = Held::stdio();
    held.ask(1, &[CALL]);
    let context = serde_json::json!({ "stderr": "x ".repeat(10_000) }).to_string();
    held.pipe.handle_end(&PipeEnd::Failed(failure(Some(&context))), Tick(4 * MS));
    let detail = held.only().error_detail.expect("kept");
    assert!(detail.len() < 9000 && serde_json::from_str::<serde_json::Value>(&detail).is_ok());
}

#[test]
fn other_ends_have_their_own_words() {
    for (end, status, detail, client_left) in [
        (PipeEnd::ClientLeft, Status::Cancelled, StatusDetail::SessionEnded, true),
        (PipeEnd::Stopped, Status::UpstreamError, StatusDetail::ProxyShutdown, false),
    ] {
        let mut held = Held::stdio();
        held.ask(1, &[CALL]);
        // Half a line is no call, whoever ends it.
        held.pipe.handle_client_data(br#"[{"id":2,"method":"tools/list"}"#, Timestamp(0), Tick(MS));
        held.pipe.handle_end(&end, Tick(4 * MS));
        let record = held.only();
        assert_eq!(
            (record.status, record.status_detail, record.client_left),
            (status, Some(detail), client_left)
        );
    }
}

#[test]
fn a_batch_that_breaks_off_holds_no_calls_and_a_last_line_needs_no_newline() {
    let mut held = Held::stdio();
    held.ask(1, &[r#"[{"id":1,"method":"tools/list"}"#]);
    assert_eq!(held.instance.open_calls(), 0);
    held.pipe.handle_client_data(CALL.as_bytes(), Timestamp(0), Tick(2 * MS));
    held.pipe.handle_client_end(Tick(3 * MS));
    held.pipe.handle_server_data(ANSWER.as_bytes(), Tick(4 * MS));
    held.pipe.handle_end(&PipeEnd::ClientLeft, Tick(5 * MS));
    let record = held.only();
    assert_eq!(
        (record.status, record.duration_us),
        (Status::Ok, 2_000),
        "an answer without a newline is one"
    );
}

#[test]
fn behind_a_pipe_to_http_each_call_has_its_own_end() {
    let mut held = Held::over(Instance::new);
    let second = CALL.replace("\"id\":1", "\"id\":2");
    let third = CALL.replace("\"id\":1", "\"id\":3");
    held.ask(1, &[CALL, &second, &third]);
    held.pipe.handle_call_head(&IdToken::Integer(1), 200, Tick(3 * MS));
    held.answer(4, &[ANSWER]);
    held.pipe.handle_call_refused(&IdToken::Integer(2), 503, b"busy", true, Tick(5 * MS));
    held.pipe.handle_call_failed(&IdToken::Integer(3), &failure(None), Tick(6 * MS));
    let records = held.take();
    let seen: Vec<_> =
        records.iter().map(|r| (r.status, r.http_status, r.ttfb_us, r.error_code.as_deref())).collect();
    assert_eq!(
        seen,
        [
            (Status::Ok, Some(200), Some(2_000), None),
            (Status::HttpError, Some(503), None, Some("http_503")),
            (Status::UpstreamError, None, None, Some("process_ended")),
        ]
    );
    assert!(records.iter().all(|r| (r.transport_type, r.client_transport) == (Transport::StreamableHttps, Transport::Stdio)));
}

#[test]
fn a_task_ends_by_the_answer_that_tells_so() {
    let mut held = Held::stdio();
    held.ask(1, &[CALL]);
    held.answer(2, &[r#"{"id":1,"result":{"task":{"taskId":"T","status":"working"}}}"#]);
    assert_eq!(held.only().status, Status::TaskCreated);
    held.ask(3, &[r#"{"id":2,"method":"tasks/result","params":{"taskId":"T"}}"#]);
    held.answer(9, &[r#"{"id":2,"result":{"content":[]}}"#]);
    let end = held.only();
    assert_eq!((end.status, end.status_detail), (Status::Ok, Some(StatusDetail::TaskEnd)));
    assert_eq!(
        (end.duration_us, end.transport_type, end.framing),
        (8_000, Transport::Stdio, Some(Framing::Line))
    );
}

#[test]
fn a_modern_request_says_itself_who_asks() {
    let mut held = Held::stdio();
    let meta = r#"{"id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"m","version":"1"}}}}"#;
    held.ask(1, &[meta]);
    held.answer(2, &[r#"{"id":1,"result":{"tools":[],"resultType":"complete"}}"#]);
    let record = held.only();
    assert_eq!(
        (record.protocol_version.as_deref(), record.client_name.as_deref()),
        (Some("2026-07-28"), Some("m"))
    );
    assert_eq!(record.session_hash.as_deref().map(str::len), Some(32));
}

#[test]
fn exchanges_with_a_stdio_instance_say_how_the_client_spoke() {
    let held = Held::stdio();
    let headers = http::HeaderMap::new();
    let mut exchange = held.instance.begin(&crate::Head {
        method: &http::Method::POST,
        target: "/mcp",
        headers: &headers,
        created_at: Timestamp(0),
        at: Tick(0),
        entropy: 1,
        client_ip: None::<Text>,
        caller: None,
    });
    exchange.handle_request_data(CALL.as_bytes(), Tick(1));
    exchange.handle_request_end(Tick(1));
    exchange.handle_stop(Tick(2));
    let record = exchange.poll_finished(Tick(3)).expect("one");
    assert_eq!(
        (record.transport_type, record.client_transport),
        (Transport::Stdio, Transport::StreamableHttps)
    );
}
