//! Bodies with a `Content-Encoding`: read like plain ones, counted as they were transferred.

use super::*;
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

fn gzip(plain: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

fn respond_encoded(exchange: &mut Exchange, status: u16, content_type: &str, coding: &str) {
    let status = StatusCode::from_u16(status).expect("valid");
    let pairs = [("content-type", content_type), ("content-encoding", coding)];
    exchange.handle_response_head(status, &headers(&pairs), Tick(11 * MS));
}

#[test]
fn an_encoded_answer_is_read_and_both_lengths_are_told() {
    let answer = format!(r#"{{"id":1,"result":{{"content":[{{"text":"{}"}}]}}}}"#, "long ".repeat(5000));
    let encoded = gzip(&answer);
    for chunk in [1, 100, encoded.len()] {
        let mut exchange = post(&instance(), &[], CALL);
        respond_encoded(&mut exchange, 200, JSON, "gzip");
        for piece in encoded.chunks(chunk) {
            exchange.handle_response_data(piece, Tick(12 * MS));
        }
        exchange.handle_response_end(Tick(13 * MS));
        let record = only(take(&mut exchange));
        assert_eq!((record.status, record.status_detail, record.duration_us), (Status::Ok, None, 2_000));
        assert_eq!(record.output_bytes, answer.len() as u64);
        assert_eq!(record.http_response_bytes, Some(encoded.len() as u64));
    }
}

#[test]
fn a_flushed_event_of_an_encoded_stream_is_seen_at_once() {
    let mut exchange = post(&instance(), &[], CALL);
    respond_encoded(&mut exchange, 200, SSE, "gzip");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut flush = |text: &str| {
        encoder.write_all(text.as_bytes()).and_then(|()| encoder.flush()).expect("memory");
        std::mem::take(encoder.get_mut())
    };
    let progress = flush("data: {\"method\":\"notifications/progress\"}\n\n");
    exchange.handle_response_data(&progress, Tick(20 * MS));
    assert!(take(&mut exchange).is_empty());
    exchange.handle_response_data(&flush(&format!("data: {ANSWER}\n\n")), Tick(30 * MS));
    let record = only(take(&mut exchange));
    assert_eq!((record.first_event_us, record.duration_us), (Some(10_000), 20_000));
    assert_eq!((record.framing, record.output_bytes), (Some(Framing::Sse), ANSWER.len() as u64));
}

#[test]
fn an_encoded_request_is_a_call_too() {
    let instance = instance();
    let encoded = gzip(CALL);
    let mut exchange = begin(&instance, http::Method::POST, "/mcp", &[("content-encoding", "gzip")]);
    exchange.handle_request_data(&encoded[..12], Tick(9 * MS));
    exchange.handle_request_data(&encoded[12..], Tick(10 * MS));
    exchange.handle_request_end(Tick(10 * MS));
    respond(&mut exchange, 200, JSON, 11);
    exchange.handle_response_data(ANSWER.as_bytes(), Tick(12 * MS));
    exchange.handle_response_end(Tick(12 * MS));
    let record = only(take(&mut exchange));
    assert_eq!((record.tool_name.as_deref(), record.input_bytes), (Some("add"), CALL.len() as u64));
    assert_eq!(record.http_request_bytes, Some(encoded.len() as u64));
}

#[test]
fn a_body_that_cannot_be_decoded_leaves_the_http_status_alone_to_speak() {
    let mut corrupt = gzip(ANSWER);
    corrupt[20] ^= 0xff;
    for (coding, body) in [("compress", &b"\x1f\x9d\x90"[..]), ("gzip", &corrupt), ("br", b"\xff\xff")] {
        let mut exchange = post(&instance(), &[], CALL);
        respond_encoded(&mut exchange, 200, JSON, coding);
        exchange.handle_response_data(body, Tick(12 * MS));
        exchange.handle_response_end(Tick(13 * MS));
        let record = only(take(&mut exchange));
        assert_eq!(
            (record.status, record.status_detail),
            (Status::Ok, Some(StatusDetail::Unread)),
            "{coding}"
        );
        assert_eq!((record.output_bytes, record.http_response_bytes), (0, Some(body.len() as u64)));
    }
}

#[test]
fn the_words_of_an_encoded_error_are_readable_or_absent() {
    for (coding, body, message) in
        [("gzip", gzip("no such page"), Some("no such page")), ("compress", b"\x1f\x9d\x90no".to_vec(), None)]
    {
        let mut exchange = post(&instance(), &[], CALL);
        respond_encoded(&mut exchange, 502, "text/plain", coding);
        exchange.handle_response_data(&body, Tick(12 * MS));
        exchange.handle_response_end(Tick(13 * MS));
        let record = only(take(&mut exchange));
        assert_eq!((record.status, record.error_message.as_deref()), (Status::HttpError, message));
    }
}

#[test]
fn so_many_encoded_requests_are_read_at_a_time_and_no_more() {
    let instance = instance();
    let gzipped = |instance: &Arc<Instance>| {
        let pairs = [("content-encoding", "gzip")];
        let mut exchange = begin(instance, http::Method::POST, "/mcp", &pairs);
        exchange.handle_request_data(&gzip(CALL), Tick(1));
        exchange
    };
    let open: Vec<_> = (0..16).map(|_| gzipped(&instance)).collect();
    let finished = |mut exchange: Exchange| {
        exchange.handle_request_end(Tick(2));
        respond(&mut exchange, 200, JSON, 3);
        exchange.handle_response_data(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Tick(4 * MS));
        exchange.handle_response_end(Tick(4 * MS));
        take(&mut exchange).len()
    };
    assert_eq!(finished(gzipped(&instance)), 0, "what is in it nobody reads");
    drop(open);
    assert_eq!(finished(gzipped(&instance)), 1);
}
