//! In which form a client gets its answer: as one body of JSON if the answer is the first thing the program says, as a
//! stream of events if something comes before it, or if nothing comes for long.

use super::{
    Body,
    answers::Answers,
    body::{self, SILENCE},
    conversation::Delivery,
    outlet::Arrival,
    reply,
};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use mcpmeter_observer::Failure;

/// What may be answered, and how.
pub(super) struct Form {
    /// The client reads event streams.
    pub(super) allows_events: bool,
    /// The answer is a stream by its nature.
    pub(super) streams: bool,
    /// The HTTP status for an error's code; that of a result, without one.
    pub(super) status_of: fn(Option<i64>) -> StatusCode,
}

impl Form {
    /// That of a session: errors are answers like others.
    pub(super) fn plain(headers: &HeaderMap) -> Self {
        Self { allows_events: accepts_events(headers), streams: false, status_of: |_| StatusCode::OK }
    }
}

/// A client that names no event streams gets its answer without what is said on the way.
pub(super) fn accepts_events(headers: &HeaderMap) -> bool {
    let mut accepts = headers.get_all(header::ACCEPT).iter().peekable();
    accepts.peek().is_none()
        || accepts.any(|value| {
            value.to_str().is_ok_and(|value| {
                let value = value.to_ascii_lowercase();
                ["text/event-stream", "text/*", "*/*"].iter().any(|kind| value.contains(kind))
            })
        })
}

/// An answer, and what it says if that is all.
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    pub(super) whole: Option<Delivery>,
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        Self { response, whole: None }
    }
}

/// Waits until the form is known.
pub(super) async fn answer(mut answers: Answers, form: &Form) -> Result<Answer, Failure> {
    let mut batch = Vec::new();
    if form.streams && form.allows_events {
        return Ok(reply::events(Body::events(answers, None)).into());
    }
    loop {
        let arrival = if form.allows_events {
            match tokio::time::timeout(SILENCE, answers.next()).await {
                Ok(arrival) => arrival,
                Err(_) => return Ok(reply::events(Body::events(answers, None)).into()),
            }
        } else {
            answers.next().await
        };
        match arrival {
            Some(Arrival::Message(delivery)) if delivery.is_last && !batch.is_empty() => {
                batch.push(delivery.message);
                return Ok(reply::json(StatusCode::OK, together(&batch)).into());
            }
            Some(Arrival::Message(delivery)) if delivery.is_last => {
                let status = (form.status_of)(delivery.error_code);
                let response = reply::json(status, delivery.message.clone());
                return Ok(Answer { response, whole: Some(delivery) });
            }
            Some(Arrival::Message(delivery)) if form.allows_events => {
                let first = body::event("message", &delivery.message);
                return Ok(reply::events(Body::events(answers, Some(first))).into());
            }
            // Whoever reads no events is told no more than the answers, all of them at once (2025-03-26).
            Some(Arrival::Message(delivery)) if delivery.is_answer => batch.push(delivery.message),
            Some(Arrival::Message(_)) => {}
            Some(Arrival::Failed(failure)) => return Err(failure),
            None => return Err(super::failure::ended_without_answer()),
        }
    }
}

/// The answers to a batch as one; some of them may be several already.
fn together(answers: &[Bytes]) -> Bytes {
    let inside = |answer: &Bytes| {
        let trimmed = answer.trim_ascii();
        let several = trimmed.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
        several.unwrap_or(trimmed).to_vec()
    };
    [b"[".to_vec(), answers.iter().map(inside).collect::<Vec<_>>().join(&b','), b"]".to_vec()].concat().into()
}
