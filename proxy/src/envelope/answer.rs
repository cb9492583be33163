//! What a client is told that may not call a tool, or whose request cannot be judged.
//!
//! A call that is denied is answered like one of a tool that does not exist: with HTTP 200 and a JSON-RPC error of its id.
//! The official Python SDK takes any other status of a call for the end of the session, and others hang; of an error
//! they all tell the model, which goes on with what it may do. The code is that of an unknown tool, -32602 (2025-11-25,
//! server/tools, "Error Handling"): of those around -32000 each revision has given some a meaning of their own.
//!
//! Of a batch nothing is forwarded if one of its calls is denied. To forward the others, the body would have to be
//! written anew, which is never done; and the answers of two sides would have to be joined. So each request of it is
//! answered with an error, and a client that sends the others by themselves gets what it may have.

use super::{Envelope, Message, Unreadable};
use crate::printable::printable;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use std::borrow::Cow;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// As many as the observer keeps of it.
const MAX_NAME_BYTES: usize = 256;
const INVALID_PARAMS: i64 = -32602;
const INVALID_REQUEST: i64 = -32600;
const PARSE_ERROR: i64 = -32700;
/// 2026-07-28, basic/transports: with HTTP 400.
const HEADER_MISMATCH: i64 = -32020;

/// Where the answer to a `POST` is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// In the response, as since 2025-03-26.
    Response,
    /// On a stream that the server has opened (2024-11-05); of the response, only the status counts.
    Elsewhere,
}

impl Envelope<'_> {
    /// The answer if some of the messages are denied.
    pub(crate) fn deny(
        &self,
        channel: Channel,
        is_denied: impl Fn(&Message<'_>) -> bool,
    ) -> Response<Full<Bytes>> {
        let error = |message: &Message<'_>| {
            let text = match message.tool() {
                Some(tool) if is_denied(message) => {
                    Cow::from(format!("the tool \"{}\" is not allowed here", printable(shorten(tool))))
                }
                _ if is_denied(message) => Cow::from("this is not allowed here"),
                _ => Cow::from("not carried out, because another call of the batch is not allowed here"),
            };
            message.id.map(|id| error_object(id, INVALID_PARAMS, &text))
        };
        let requests = self.messages.iter().filter(|message| message.is_request());
        let errors: Vec<String> = requests.filter_map(error).collect();
        match errors.as_slice() {
            // There is nobody to tell but the sender of the HTTP request.
            _ if channel == Channel::Elsewhere => plain(StatusCode::FORBIDDEN, "this is not allowed here"),
            [] => plain(StatusCode::FORBIDDEN, "this is not allowed here"),
            [error] if !self.is_batch => json(StatusCode::OK, error.clone()),
            errors => json(StatusCode::OK, format!("[{}]", errors.join(","))),
        }
    }
}

impl Unreadable {
    /// The answer. It is JSON-RPC where the body might have been.
    pub(crate) fn answer(self) -> Response<Full<Bytes>> {
        let code = match self {
            Self::ContentType | Self::Coding | Self::TooLarge => {
                return plain(self.status(), &self.to_string());
            }
            Self::HeaderMismatch => HEADER_MISMATCH,
            Self::Encoding | Self::Json => PARSE_ERROR,
            Self::Method | Self::Tool => INVALID_PARAMS,
            _ => INVALID_REQUEST,
        };
        json(self.status(), error_object("null", code, &self.to_string()))
    }
}

/// As much of a name as anybody needs to know it again.
fn shorten(tool: &str) -> &str {
    &tool[..tool.floor_char_boundary(MAX_NAME_BYTES)]
}

fn error_object(id: &str, code: i64, text: &str) -> String {
    let message = serde_json::Value::from(format!("mcpmeter: {text}"));
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}}}}}"#)
}

fn json(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "application/json", body)
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", format!("mcpmeter: {text}\n"))
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(PROXY_STATUS, HeaderValue::from_static("mcpmeter; error=http_request_denied"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    fn denied(body: &str, channel: Channel) -> (u16, Value) {
        let envelope = Envelope::read(body.as_bytes()).expect("readable");
        told(envelope.deny(channel, |message| message.tool() == Some("rm")))
    }

    fn told(response: Response<Full<Bytes>>) -> (u16, Value) {
        let status = response.status().as_u16();
        let body = response.into_body().collect();
        let body = futures_ready(body).expect("a whole body").to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// The output of a future that waits for nothing.
    fn futures_ready<F: Future>(future: F) -> F::Output {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(output) => output,
            std::task::Poll::Pending => panic!("it waits"),
        }
    }

    fn error(id: Value, text: &str) -> Value {
        json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32602, "message": format!("mcpmeter: {text}") } })
    }

    #[test]
    fn a_denied_call_is_answered_by_its_own_id() {
        for (id, value) in
            [("1", json!(1)), ("\"a\\u0062\"", json!("ab")), ("null", json!(null)), ("1.50", json!(1.5))]
        {
            let body = format!(r#"{{"method":"tools/call","id":{id},"params":{{"name":"rm"}}}}"#);
            let expected = error(value, "the tool \"rm\" is not allowed here");
            assert_eq!(denied(&body, Channel::Response), (200, expected), "{id}");
            assert_eq!(denied(&body, Channel::Elsewhere).0, 403);
        }
        let notification = r#"{"method":"tools/call","params":{"name":"rm"}}"#;
        assert_eq!(denied(notification, Channel::Response).0, 403);
    }

    #[test]
    fn every_request_of_a_batch_is_answered_and_nothing_else() {
        let body = r#"[{"id":1,"method":"tools/call","params":{"name":"ls"}},
            {"id":"2","method":"tools/call","params":{"name":"rm"}},
            {"method":"notifications/progress"}, {"id":9,"result":{}},
            {"id":3,"method":"ping"}]"#;
        let other = "not carried out, because another call of the batch is not allowed here";
        let errors = [
            error(json!(1), other),
            error(json!("2"), "the tool \"rm\" is not allowed here"),
            error(json!(3), other),
        ];
        assert_eq!(denied(body, Channel::Response), (200, json!(errors)));
        let one = r#"[{"id":1,"method":"tools/call","params":{"name":"rm"}}]"#;
        let expected = json!([error(json!(1), "the tool \"rm\" is not allowed here")]);
        assert_eq!(denied(one, Channel::Response), (200, expected), "a batch is answered with a batch");
    }

    #[test]
    fn a_name_that_needs_escapes_does_not_leave_its_string() {
        let body = r#"{"id":1,"method":"tools/call","params":{"name":"\"},\\"}}"#;
        let envelope = Envelope::read(body.as_bytes()).expect("readable");
        let (status, answer) = told(envelope.deny(Channel::Response, |_| true));
        assert_eq!((status, &answer["id"]), (200, &json!(1)));
    }

    #[test]
    fn what_cannot_be_judged_is_refused_with_its_status() {
        for (unreadable, status, code) in [
            (Unreadable::TooLarge, 413, Value::Null),
            (Unreadable::Coding, 415, Value::Null),
            (Unreadable::ContentType, 415, Value::Null),
            (Unreadable::Json, 400, json!(-32700)),
            (Unreadable::Duplicate, 400, json!(-32600)),
            (Unreadable::Tool, 400, json!(-32602)),
            (Unreadable::HeaderMismatch, 400, json!(-32020)),
        ] {
            let (is, answer) = told(unreadable.answer());
            assert_eq!((is, &answer["error"]["code"]), (status, &code), "{unreadable}");
        }
    }
}
