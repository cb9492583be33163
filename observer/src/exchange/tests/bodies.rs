//! Which bodies travel with a record, and what can be read of them.

use super::*;
use crate::{
    Body, BodyRule, BodySide, KeepBodies, Unkept,
    jsonrpc::IdToken,
    pipe::PipeEnd,
    redact::{Pattern, Redactor},
};

type Read = Vec<(BodySide, Result<Body, Unkept>)>;

fn keeping(keep: KeepBodies, max_bytes: u32) -> Arc<Instance> {
    let instance = instance();
    instance.keep_bodies(BodyRule { keep, max_bytes });
    instance
}

fn read(record: &CallRecord) -> Read {
    record.bodies.as_ref().map(|bodies| bodies.redact().collect()).unwrap_or_default()
}

fn whole(text: &str) -> Result<Body, Unkept> {
    Ok(Body { text: text.to_owned(), bytes: text.len() as u64, is_cut: false })
}

fn both(request: &str, answer: &str) -> Read {
    vec![(BodySide::Request, whole(request)), (BodySide::Answer, whole(answer))]
}

/// A call and its answer.
fn exchanged(
    instance: &Arc<Instance>,
    request: &str,
    content_type: &str,
    answer: &str,
    chunk: usize,
) -> Vec<CallRecord> {
    let mut exchange = begin(instance, http::Method::POST, "/mcp", &[]);
    for piece in request.as_bytes().chunks(chunk) {
        exchange.handle_request_data(piece, Tick(10 * MS));
    }
    exchange.handle_request_end(Tick(10 * MS));
    respond(&mut exchange, 200, content_type, 20);
    for piece in answer.as_bytes().chunks(chunk) {
        exchange.handle_response_data(piece, Tick(30 * MS));
    }
    exchange.handle_response_end(Tick(30 * MS));
    take(&mut exchange)
}

const FAILED: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}"#;

#[test]
fn nothing_is_held_unless_it_is_told_to_be() {
    let record = only(exchanged(&instance(), CALL, JSON, FAILED, 7));
    assert!(record.bodies.is_none());
}

#[test]
fn errors_keeps_the_failed_ones_and_all_keeps_all() {
    for (keep, answer, is_kept) in [
        (KeepBodies::Errors, ANSWER, false),
        (KeepBodies::Errors, FAILED, true),
        (KeepBodies::All, ANSWER, true),
        (KeepBodies::All, FAILED, true),
    ] {
        for chunk in [1, 3, 1000] {
            let record = only(exchanged(&keeping(keep, 1000), CALL, JSON, answer, chunk));
            let expected = if is_kept { both(CALL, answer) } else { Vec::new() };
            assert_eq!(read(&record), expected, "{keep:?} {answer}");
        }
    }
}

#[test]
fn of_a_stream_the_message_that_answered_is_kept_and_of_no_other_anything() {
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
    let lines = FAILED.replace(",\"error\"", ",\n\"error\"");
    let stream = format!(
        "data: {progress}\n\nid: 4\ndata: {}\n\ndata: {progress}\n\n",
        lines.replace('\n', "\ndata: ")
    );
    for content_type in [SSE, "text/event-stream; charset=utf-8"] {
        for chunk in [1, 5, 4096] {
            let instance = keeping(KeepBodies::Errors, 1000);
            let record = only(exchanged(&instance, CALL, content_type, &stream, chunk));
            assert_eq!(read(&record), both(CALL, &lines));
        }
    }
    // What is only known for JSON by its first byte.
    let record = only(exchanged(&keeping(KeepBodies::All, 1000), CALL, "x/y", ANSWER, 5));
    assert_eq!(read(&record), both(CALL, ANSWER));
}

#[test]
fn each_call_of_a_batch_has_its_own() {
    let list = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
    let ping = r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#;
    let listed = r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}"#;
    let ponged = r#"{"jsonrpc":"2.0","id":3,"result":{}}"#;
    let (request, answer) = (format!("[{CALL}, {ping},{list}]"), format!("[{ponged},{listed} ,{ANSWER}]"));
    for chunk in [1, 11, 4096] {
        let records = exchanged(&keeping(KeepBodies::All, 1000), &request, JSON, &answer, chunk);
        let read: Vec<_> = records.iter().map(read).collect();
        assert_eq!(read, [both(list, listed), both(CALL, ANSWER)]);
    }
}

#[test]
fn a_legacy_client_and_a_pipe_have_them_too() {
    let instance = keeping(KeepBodies::All, 1000);
    let mut stream = legacy_stream(&instance);
    let mut asking = legacy_post(&instance, CALL);
    respond(&mut asking, 202, "text/plain", 11);
    asking.handle_response_end(Tick(11 * MS));
    stream.handle_response_data(format!("data: {ANSWER}\n\n").as_bytes(), Tick(20 * MS));
    assert_eq!(read(&only(take(&mut stream))), both(CALL, ANSWER));

    let mut pipe = instance.begin_pipe(3, Tick(0));
    pipe.handle_client_data(format!("{CALL}\n{CALL}\n").as_bytes(), Timestamp(0), Tick(MS));
    pipe.handle_server_data(format!("{ANSWER}\n").as_bytes(), Tick(2 * MS));
    pipe.handle_call_failed(
        &IdToken::Integer(1),
        &Failure {
            status: Status::UpstreamError,
            detail: StatusDetail::Unreachable,
            code: "connect_refused",
            message: String::new(),
            http_status: None,
            context: None,
        },
        Tick(3 * MS),
    );
    pipe.handle_end(&PipeEnd::ClientLeft, Tick(4 * MS));
    let records: Vec<_> = std::iter::from_fn(|| pipe.poll_finished(Tick(5 * MS))).collect();
    let read: Vec<_> = records.iter().map(|record| read(record)).collect();
    // A call that was never answered has what asked.
    assert_eq!(read, [both(CALL, ANSWER), vec![(BodySide::Request, whole(CALL))]]);
}

#[test]
fn a_body_is_masked_first_and_then_cut_at_a_whole_character() {
    let secret = "ghp_0123456789abcdef0123456789abcdef0123";
    for pad in 0..80 {
        let request = CALL.replace("{}", &format!(r#"{{"a":"{} {secret} あああ"}}"#, "é".repeat(pad)));
        for max_bytes in [60, 100, 150, 200] {
            let record = only(exchanged(&keeping(KeepBodies::All, max_bytes), &request, JSON, ANSWER, 1000));
            let (BodySide::Request, Ok(body)) = &read(&record)[0] else { panic!("a body") };
            assert!(body.text.len() <= max_bytes as usize && !body.text.contains("ghp_0"), "{}", body.text);
            assert_eq!(body.bytes, request.len() as u64);
            assert_eq!(body.is_cut, !body.text.ends_with("}}}"), "{}", body.text);
        }
    }
}

#[test]
fn a_long_answer_holds_no_more_than_the_cap_and_a_little() {
    let instance = keeping(KeepBodies::All, 1000);
    let mut exchange = post(&instance, &[], CALL);
    respond(&mut exchange, 200, JSON, 20);
    exchange.handle_response_data(
        br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":""#,
        Tick(21 * MS),
    );
    let word = b"word ".repeat(1 << 10);
    for _ in 0..2_000 {
        exchange.handle_response_data(&word, Tick(22 * MS));
    }
    exchange.handle_response_data(br#""}]}}"#, Tick(23 * MS));
    exchange.handle_response_end(Tick(23 * MS));
    let record = only(take(&mut exchange));
    let (BodySide::Answer, Ok(body)) = &read(&record)[1] else { panic!("a body") };
    assert_eq!((body.text.len(), body.is_cut), (1000, true));
    assert!(body.bytes > 10_000_000);
}

#[test]
fn what_is_not_utf_8_is_not_kept_and_the_rest_is() {
    let instance = keeping(KeepBodies::All, 1000);
    let mut exchange = begin(&instance, http::Method::POST, "/mcp", &[]);
    let request = [&CALL.as_bytes()[..CALL.len() - 3], b"\"a\":\"\xff\xfe\"}}}"].concat();
    exchange.handle_request_data(&request, Tick(10 * MS));
    exchange.handle_request_end(Tick(10 * MS));
    respond(&mut exchange, 200, JSON, 20);
    exchange.handle_response_data(ANSWER.as_bytes(), Tick(30 * MS));
    exchange.handle_response_end(Tick(30 * MS));
    let read = read(&only(take(&mut exchange)));
    assert_eq!(read, [(BodySide::Request, Err(Unkept::NotUtf8)), (BodySide::Answer, whole(ANSWER))]);
}

#[test]
fn refused_calls_have_none_and_a_change_is_in_force_for_open_ones() {
    let instance = keeping(KeepBodies::All, 1000);
    let refusal = Failure {
        status: Status::Limited,
        detail: StatusDetail::Unreachable,
        code: "rate_limited",
        message: String::new(),
        http_status: Some(429),
        context: None,
    };
    let mut refused = post(&instance, &[], CALL);
    refused.handle_failure(&refusal, Tick(20 * MS));
    assert!(only(take(&mut refused)).bodies.is_none());

    let mut open = [post(&instance, &[], CALL), post(&instance, &[], CALL)];
    let answer = |exchange: &mut Exchange| {
        respond(exchange, 200, JSON, 20);
        exchange.handle_response_data(ANSWER.as_bytes(), Tick(30 * MS));
        exchange.handle_response_end(Tick(30 * MS));
        only(take(exchange))
    };
    let patterns = vec![Pattern { name: "tool".into(), regex: regex::Regex::new("add").expect("valid") }];
    instance.redact_with(Redactor::new(&[], patterns));
    let read = read(&answer(&mut open[0]));
    assert_eq!(
        read[0],
        (BodySide::Request, {
            let text = CALL.replace("add", "[redacted tool]");
            Ok(Body { text, bytes: CALL.len() as u64, is_cut: false })
        })
    );
    instance.keep_bodies(BodyRule::default());
    assert!(answer(&mut open[1]).bodies.is_none());
}

#[test]
fn an_instance_holds_so_much_at_a_time_and_says_what_it_could_not() {
    let instance = keeping(KeepBodies::All, BodyRule::LARGEST);
    let request = CALL.replace("{}", &format!(r#"{{"a":"{}"}}"#, "word ".repeat(20 << 10)));
    let mut open: Vec<_> = (0..600).map(|_| post(&instance, &[], &request)).collect();
    let last = open.last_mut().expect("some");
    last.handle_stop(Tick(20 * MS));
    assert_eq!(read(&only(take(last))), [(BodySide::Request, Err(Unkept::NoRoom))]);
    open.iter_mut().for_each(|exchange| exchange.handle_stop(Tick(20 * MS)));
    drop(open);
    // What was held is free again.
    let record = only(exchanged(&instance, &request, JSON, ANSWER, 4096));
    assert!(read(&record).iter().all(|(_, body)| body.is_ok()));
}

#[test]
fn what_the_client_has_shown_in_its_head_is_nowhere_in_what_is_kept() {
    let shown = [("mcp-session-id", "sess-0f1e2d3c"), ("authorization", "Bearer zx81token")];
    let failed = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Session sess-0f1e2d3c not found",
                     "data":{"said":"no such token zx81token"}}}"#;
    let instance = keeping(KeepBodies::All, 1_000);
    let mut exchange = begin(&instance, http::Method::POST, "/mcp", &shown);
    exchange.handle_request_data(CALL.as_bytes(), Tick(10 * MS));
    exchange.handle_request_end(Tick(10 * MS));
    respond(&mut exchange, 200, JSON, 20);
    exchange.handle_response_data(failed.as_bytes(), Tick(30 * MS));
    exchange.handle_response_end(Tick(30 * MS));
    let record = only(take(&mut exchange));
    assert_eq!(record.error_message.as_deref(), Some("Session [redacted] not found"));
    assert_eq!(record.error_detail.as_deref(), Some(r#"{"data":{"said":"no such token [redacted]"}}"#));
    let [(_, Ok(_)), (_, Ok(answer))] = &*read(&record) else { panic!("both are kept") };
    assert!(!answer.text.contains("0f1e2d3c") && !answer.text.contains("zx81token"), "{}", answer.text);
}
