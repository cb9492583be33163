//! The proxy's own answers: one line of plain text and `Proxy-Status` (RFC 9209), never a JSON-RPC body that
//! a client could mistake for the server's (WIRE.md 3.4).

use crate::answer::Content;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use mcpmeter_observer::{Failure, Status, StatusDetail};
use serde_json::Value;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// When to ask again, in seconds, where all that is missing is room.
const RETRY_AFTER: u64 = 1;
/// In a failure's context: how long nobody need ask again, in milliseconds.
pub(crate) const RETRY_AFTER_MS: &str = "retry_after_ms";

/// Why the proxy answers in the upstream's place.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The word for it in the metrics.
    pub(crate) reason: &'static str,
    /// What the client is told.
    pub(crate) status: StatusCode,
    /// The error type of RFC 9209, section 2.3.
    pub(crate) error: &'static str,
    /// One line for a person. Names nothing that the client does not know already.
    pub(crate) text: String,
    /// When to ask again, in seconds, if it is not now.
    retry_after: u64,
}

impl Refusal {
    pub(crate) fn unknown_route(known: &str) -> Self {
        Self {
            reason: "unknown_route",
            status: StatusCode::NOT_FOUND,
            error: "destination_not_found",
            text: format!("mcpmeter: no route matches this path{known}"),
            retry_after: RETRY_AFTER,
        }
    }

    pub(crate) fn foreign_host() -> Self {
        Self {
            reason: "foreign_host",
            status: StatusCode::FORBIDDEN,
            error: "http_request_denied",
            text: "mcpmeter: this Host is not served here; name it in proxy.public_hosts to allow it"
                .to_owned(),
            retry_after: RETRY_AFTER,
        }
    }

    pub(crate) fn foreign_origin() -> Self {
        Self {
            reason: "foreign_origin",
            status: StatusCode::FORBIDDEN,
            error: "http_request_denied",
            text: "mcpmeter: pages of this Origin are not served here; name its host in proxy.public_hosts to allow it"
                .to_owned(),
            retry_after: RETRY_AFTER,
        }
    }

    pub(crate) fn bad_target() -> Self {
        Self {
            reason: "bad_target",
            status: StatusCode::BAD_REQUEST,
            error: "http_request_error",
            text: "mcpmeter: the request's target cannot be forwarded".to_owned(),
            retry_after: RETRY_AFTER,
        }
    }

    /// RFC 9112, section 6.1, asks for this status.
    pub(crate) fn unknown_coding() -> Self {
        Self {
            reason: "unknown_coding",
            status: StatusCode::NOT_IMPLEMENTED,
            error: "http_request_error",
            text: "mcpmeter: the request's transfer coding is not supported".to_owned(),
            retry_after: RETRY_AFTER,
        }
    }

    /// For a caller that may not in.
    pub(crate) fn of_denied(failure: &Failure) -> Self {
        let status = failure.http_status.and_then(|status| StatusCode::from_u16(status).ok());
        Self {
            reason: failure.code,
            status: status.unwrap_or(StatusCode::FORBIDDEN),
            error: "http_request_denied",
            text: format!("mcpmeter: {message} ({code})", message = failure.message, code = failure.code),
            retry_after: RETRY_AFTER,
        }
    }

    /// There is no document about authorization here.
    pub(crate) fn no_document() -> Self {
        Self {
            reason: "no_document",
            status: StatusCode::NOT_FOUND,
            error: "destination_not_found",
            text: "mcpmeter: there is no such document about authorization here".to_owned(),
            retry_after: RETRY_AFTER,
        }
    }

    /// The answer in place of an upstream's that failed before its head, or was not asked.
    pub(crate) fn of_failure(failure: &Failure) -> Self {
        let status = match failure.status {
            _ if failure.http_status == Some(503) => StatusCode::SERVICE_UNAVAILABLE,
            _ if failure.http_status == Some(408) => StatusCode::REQUEST_TIMEOUT,
            _ if failure.code == "upload_broken" => StatusCode::BAD_REQUEST,
            Status::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Status::Limited => StatusCode::SERVICE_UNAVAILABLE,
            Status::Cancelled => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_GATEWAY,
        };
        let (error, what) = match (failure.code, failure.detail) {
            ("connect_timeout", _) => {
                ("connection_timeout", "the server did not accept the connection in time")
            }
            ("first_byte_timeout" | "total_timeout" | "stream_timeout", _) => {
                ("http_response_timeout", "the server did not answer in time")
            }
            ("max_exchanges", _) => {
                ("connection_limit_reached", "too many requests to this server at a time")
            }
            ("max_held_bytes", _) => ("connection_limit_reached", "too many large requests at a time"),
            ("body_timeout", _) => ("http_request_error", "the request took too long to come"),
            ("upload_broken", _) => ("http_request_error", "the request broke off before its end"),
            ("spawn_failed", _) => ("destination_unavailable", "the server could not be started"),
            ("session_deleted", _) => ("http_request_error", "the session was ended"),
            ("process_exited", _) => ("connection_terminated", "the server's process has ended"),
            ("start_timeout", _) => ("http_response_timeout", "the server has not begun to answer in time"),
            ("max_processes" | "max_sessions", _) => {
                ("connection_limit_reached", "too many clients of this server at a time")
            }
            ("restarting", _) => {
                ("destination_unavailable", "the server keeps ending and is not started now")
            }
            ("stopping", _) => ("destination_unavailable", "the server is being stopped"),
            ("message_too_long", _) => {
                ("http_response_body_size", "the server sent a message that is too long")
            }
            ("memory_limit", _) => ("connection_terminated", "the server took too much memory"),
            ("not_reading", _) => ("connection_terminated", "the server does not read its requests"),
            ("invalid_response", _) => ("http_protocol_error", "the server's answer cannot be forwarded"),
            ("connect_refused", _) => ("connection_refused", "the server refused the connection"),
            ("dns_error", _) => ("dns_error", "the server's name cannot be resolved"),
            ("tls_error", _) => ("tls_protocol_error", "no TLS connection to the server"),
            (_, StatusDetail::Unreachable) => ("destination_unavailable", "the server cannot be reached"),
            _ => ("connection_terminated", "the server closed the connection without an answer"),
        };
        let text = format!("mcpmeter: {what} ({code})", code = failure.code);
        Self { reason: failure.code, status, error, text, retry_after: retry_after(failure) }
    }

    /// The response as it goes out.
    pub(crate) fn into_response(self) -> Response<Content> {
        self.into_text().map(Content::Own)
    }

    /// The same with a body of known type.
    pub(crate) fn into_text(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(format!("{text}\n", text = self.text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after));
        }
        if let Ok(value) = HeaderValue::from_str(&format!("mcpmeter; error={error}", error = self.error)) {
            headers.insert(PROXY_STATUS, value);
        }
        response
    }
}

/// In whole seconds, and never too early.
fn retry_after(failure: &Failure) -> u64 {
    let context = failure.context.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let pause = context.and_then(|context| context[RETRY_AFTER_MS].as_u64());
    pause.map_or(RETRY_AFTER, |pause| pause.div_ceil(1000))
}
