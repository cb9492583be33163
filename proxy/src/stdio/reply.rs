//! The answers that the proxy gives as the HTTP server of a program: refusals in the form that the SDKs' servers give
//! them, and the headers that a web page needs (CORS).

use super::body::Body;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{self, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS},
};

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// No buffering in front of an event stream (nginx).
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const EXPOSED: HeaderValue = HeaderValue::from_static("Mcp-Session-Id, WWW-Authenticate");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Accept, Mcp-Session-Id, MCP-Protocol-Version, Last-Event-ID, Mcp-Method, Mcp-Name",
);

/// An answer to a request that says nothing more.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    with_body(status, None, Bytes::new())
}

/// A message of JSON-RPC.
pub(super) fn json(status: StatusCode, message: Bytes) -> Response<Body> {
    with_body(status, Some("application/json"), message)
}

/// A line for a person.
pub(super) fn text(status: StatusCode, text: &str) -> Response<Body> {
    with_body(status, Some("text/plain; charset=utf-8"), format!("{text}\n").into())
}

/// A refusal that a client of MCP understands. `id` is the request's, as it was written.
pub(super) fn error(status: StatusCode, code: i64, message: &str, id: Option<&[u8]>) -> Response<Body> {
    let id = id.and_then(|id| str::from_utf8(id).ok()).unwrap_or("null");
    let message = serde_json::Value::from(message);
    let text = format!(r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":{message}}},"id":{id}}}"#);
    json(status, text.into())
}

/// What is not served under this path, or not by this method.
pub(super) fn not_allowed(methods: &'static str) -> Response<Body> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, -32000, "Method not allowed.", None);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// An event stream.
pub(super) fn events(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// What a web page of this origin may do here, and see of the answer.
pub(super) fn allow_origin(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// The answer to a preflight request (Fetch standard, 3.2.2). What is asked for is allowed by echo: tools may have
/// headers of their own (`Mcp-Param-*`).
pub(super) fn preflight(wanted: Option<&HeaderValue>) -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.cloned().unwrap_or(HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

fn with_body(status: StatusCode, content_type: Option<&'static str>, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}
