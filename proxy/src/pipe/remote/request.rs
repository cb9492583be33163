//! A request to the server: with which headers it goes, over which connection, and where to if it is sent elsewhere.

use super::{
    events::Mark,
    line::Line,
    server::{Answer, SESSION_ID, Server},
    trouble::Trouble,
};
use crate::upstream::{self, Sent, Upload};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::oneshot;

/// Redirects that are followed for one request.
const MAX_REDIRECTS: u32 = 5;
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const ACCEPT: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Server {
    /// Posts a line; `taken` is told when it has been sent.
    pub(super) async fn post(
        &self,
        line: &Line,
        taken: Option<oneshot::Sender<()>>,
    ) -> Result<Answer, Trouble> {
        let mut headers = self.headers_for(line);
        headers.entry(header::CONTENT_TYPE).or_insert(JSON);
        self.send(Method::POST, headers, line.bytes.clone(), taken).await
    }

    /// Opens a stream behind the mark, or one of the server's own.
    pub(super) async fn resume(&self, mark: &Mark) -> Result<Answer, Trouble> {
        let mut headers = self.session_headers();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = mark.id.as_ref().and_then(|id| HeaderValue::from_bytes(id).ok()) {
            headers.insert(HeaderName::from_static("last-event-id"), id);
        }
        self.send(Method::GET, headers, Bytes::new(), None).await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
        mut taken: Option<oneshot::Sender<()>>,
    ) -> Result<Answer, Trouble> {
        let in_session = headers.contains_key(SESSION_ID);
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::new(Upload::of_bytes(body.clone(), taken.take()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = self.state().target.clone().into();
            *request.headers_mut() = headers.clone();
            let sent = upstream::send(&self.connector, &self.pool, &self.tasks, request).await;
            let (response, lease) = match sent {
                Sent::Answered(answer) => answer,
                Sent::Unsent(failure, _) | Sent::Broken(failure) => return Err(failure.into()),
            };
            if !matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                return Ok(Answer { response, lease, in_session });
            }
            self.follow_redirect(&response)?;
        }
        Err(Trouble::invalid("the server redirects in circles".to_owned()))
    }

    /// Goes where the server says, if that is the same server: credentials are meant for no other.
    fn follow_redirect(&self, response: &Response<Incoming>) -> Result<(), Trouble> {
        let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        let elsewhere = || Trouble::invalid("the server redirects to another one: give its URL".to_owned());
        let location = location.ok_or_else(elsewhere)?;
        let path = match location.split_once("://") {
            None if location.starts_with('/') && !location.starts_with("//") => location,
            Some((_, rest)) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                if authority.as_bytes() != self.host.as_bytes() {
                    return Err(elsewhere());
                }
                path
            }
            None => return Err(elsewhere()),
        };
        self.state().target = path.parse().map_err(|_| elsewhere())?;
        Ok(())
    }

    fn headers_for(&self, line: &Line) -> HeaderMap {
        let mut headers = if line.is_modern() { self.plain_headers() } else { self.session_headers() };
        if line.is_method("initialize") {
            // It opens a session, and its version is not agreed on yet.
            headers.remove(SESSION_ID);
            headers.remove(PROTOCOL_VERSION);
        }
        if line.is_modern() {
            let text = |text: Option<String>| text.and_then(|text| header_value(&text));
            let pairs = [
                (PROTOCOL_VERSION, text(line.version.clone())),
                (HeaderName::from_static("mcp-method"), text(line.method.clone())),
                (HeaderName::from_static("mcp-name"), text(line.name())),
            ];
            headers.extend(pairs.into_iter().filter_map(|(name, value)| Some((name, value?))));
        }
        headers
    }

    pub(super) fn session_headers(&self) -> HeaderMap {
        let mut headers = self.plain_headers();
        let state = self.state();
        let known = [(SESSION_ID, &state.session), (PROTOCOL_VERSION, &state.version)];
        headers.extend(known.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        headers
    }

    fn plain_headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::ACCEPT, ACCEPT);
        let agent = HeaderValue::from_static(concat!("mcpmeter/", env!("CARGO_PKG_VERSION")));
        headers.entry(header::USER_AGENT).or_insert(agent);
        headers
    }
}

/// A text as a header's value; what a header cannot hold is encoded (2026-07-28, basic/transports).
fn header_value(text: &str) -> Option<HeaderValue> {
    let is_plain = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) && text.trim() == text;
    let is_plain = is_plain && !text.starts_with("=?base64?");
    let encoded = || format!("=?base64?{}?=", BASE64_STANDARD.encode(text));
    HeaderValue::try_from(if is_plain { text.to_owned() } else { encoded() }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_cannot_hold_is_encoded() {
        for (text, value) in [
            ("add", "add"),
            ("größe", "=?base64?Z3LDtsOfZQ==?="),
            (" x", "=?base64?IHg=?="),
            ("=?base64?eA==?=", "=?base64?PT9iYXNlNjQ/ZUE9PT89?="),
        ] {
            assert_eq!(header_value(text).expect("valid"), value);
        }
    }
}
