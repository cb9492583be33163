//! What an HTTP request asks of a program: the endpoint of Streamable HTTP at `/mcp`; those of HTTP+SSE are in `legacy`. In place of a server's, the refusals are as the SDKs give them.

use super::{
    Body, Server,
    answering::{self, Answer, Form},
    child::{Asked, Unasked},
    conversation::{Purpose, Refused},
    framing,
    message::{Message, is_batch},
    modern,
    reply::{self, SESSION_ID},
    session::{Owner, Session, SessionGuard},
    shared::NoChild,
};
use crate::tap::Tap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use mcpmeter_observer::{Failure, Kind};
use std::sync::Arc;

/// The revision in which a body may be a batch.
const BATCHES: &str = "2025-03-26";
/// Those that a header may name; a later one is that without sessions.
const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// As the SDKs' servers say it.
const SESSION_NOT_FOUND: i64 = -32001;
const REFUSED: i64 = -32000;
const INVALID_REQUEST: i64 = -32600;
pub(super) const PARSE_ERROR: i64 = -32700;

/// Who asks, and how.
struct Asking<'a> {
    headers: &'a HeaderMap,
    owner: Owner,
}

impl<'a> Asking<'a> {
    fn of(parts: &'a Parts) -> Self {
        Self { headers: &parts.headers, owner: Owner::of(parts.extensions.get()) }
    }
}

impl Server {
    /// Answers a request whose body has been read. `target` is path and query behind the route's prefix.
    pub(crate) async fn answer(
        &self,
        parts: &Parts,
        target: &str,
        body: Bytes,
        tap: &Tap,
    ) -> Result<Response<Body>, Failure> {
        let asking = Asking::of(parts);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut response = match (&parts.method, path) {
            (&Method::OPTIONS, _) => {
                reply::preflight(parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS))
            }
            (&Method::POST, "/mcp") => self.post(&asking, body, tap).await?,
            (&Method::GET, "/mcp") => self.listen(&asking)?,
            (&Method::DELETE, "/mcp") => self.delete(&asking),
            (_, "/mcp") => reply::not_allowed("GET, POST, DELETE, OPTIONS"),
            (&Method::GET, "/sse") => self.open_sse(asking.owner, tap).await?,
            (_, "/sse") => reply::not_allowed("GET, OPTIONS"),
            (&Method::POST, "/message") => self.post_message(&asking.owner, query, body, tap)?,
            (_, "/message") => reply::not_allowed("POST, OPTIONS"),
            _ => reply::text(StatusCode::NOT_FOUND, "mcpmeter: served here are /mcp and /sse"),
        };
        if let Some(origin) = parts.headers.get(header::ORIGIN) {
            reply::allow_origin(response.headers_mut(), origin);
        }
        Ok(response)
    }

    async fn post(&self, asking: &Asking<'_>, body: Bytes, tap: &Tap) -> Result<Response<Body>, Failure> {
        let headers = asking.headers;
        let Some(line) = framing::to_line(body) else {
            return Ok(reply::error(StatusCode::BAD_REQUEST, PARSE_ERROR, "Parse error", None));
        };
        let messages = Message::all_of(&line);
        if modern::is_modern(headers, &messages) {
            return self.post_modern(headers, &messages, &line, tap).await;
        }
        if let Some(refusal) = check_version(headers) {
            return Ok(refusal);
        }
        match messages.first() {
            Some(message) if message.is("initialize") && message.kind() == Kind::Request => {
                self.initialize(asking, &line).await
            }
            _ => match self.session_of(asking) {
                Ok(session) => {
                    tap.meter(Arc::clone(&session.child.processes));
                    post_in_session(&session, headers, &line).await
                }
                Err(refusal) => Ok(*refusal),
            },
        }
    }

    async fn post_modern(
        &self,
        headers: &HeaderMap,
        messages: &[Message<'_>],
        line: &Bytes,
        tap: &Tap,
    ) -> Result<Response<Body>, Failure> {
        let id = id_of(messages);
        if is_batch(line) {
            let problem = "Batches are not part of this revision";
            return Ok(reply::error(StatusCode::BAD_REQUEST, INVALID_REQUEST, problem, None));
        }
        for message in messages {
            if let Err((code, problem)) = modern::check(headers, message) {
                return Ok(reply::error(StatusCode::BAD_REQUEST, code, &problem, id));
            }
        }
        let child = match self.program_of_requests().await {
            Ok(child) => child,
            Err(NoChild::Failed(failure)) => return Err(failure),
            // In plain text, so that clients of both kinds try again with a session.
            Err(NoChild::Legacy) => {
                let problem =
                    "mcpmeter: this server needs a session; begin with initialize (2025-11-25 or earlier)";
                return Ok(reply::text(StatusCode::BAD_REQUEST, problem));
            }
        };
        tap.meter(Arc::clone(&child.processes));
        let asked = child.ask(child.new_client(), line, true);
        let form = Form {
            allows_events: answering::accepts_events(headers),
            streams: messages.iter().any(|message| message.is("subscriptions/listen")),
            status_of: modern::status_of,
        };
        Ok(answer_asked(asked, &form, id).await?.response)
    }

    async fn initialize(&self, asking: &Asking<'_>, line: &Bytes) -> Result<Response<Body>, Failure> {
        let (child, is_private) = self.program_of_session().await?;
        let client = if is_private { super::conversation::SOLE_CLIENT } else { child.new_session() };
        let opened = self.sessions.open(Arc::clone(&child), client, is_private, None, asking.owner.clone());
        let Some(session) = opened else {
            child.end_client(client);
            return Err(super::failure::too_many_sessions());
        };
        // Until its client has the id, the session is nobody's.
        let unclaimed = SessionGuard::new(&self.sessions, &session);
        let asked = child.ask(client, line, false);
        let form = Form { status_of: status_of_initialize, ..Form::plain(asking.headers) };
        let mut answer = answer_asked(asked, &form, id_of(&Message::all_of(line))).await?;
        let has_failed = answer.whole.as_ref().is_some_and(|whole| whole.error_code.is_some());
        if answer.response.status() == StatusCode::OK && !has_failed {
            let version = answer.whole.and_then(|whole| {
                Message::all_of(&whole.message).first()?.agreed_version().map(|version| version.into_owned())
            });
            let _ = session.version.set(version.unwrap_or_default());
            let id = HeaderValue::from_str(&session.id).expect("hexadecimal digits");
            answer.response.headers_mut().insert(SESSION_ID, id);
            unclaimed.release();
        }
        Ok(answer.response)
    }

    fn session_of(&self, asking: &Asking<'_>) -> Result<Arc<Session>, Box<Response<Body>>> {
        let Some(id) = asking.headers.get(SESSION_ID) else {
            let problem = "Bad Request: Mcp-Session-Id header is required";
            return Err(Box::new(reply::error(StatusCode::BAD_REQUEST, REFUSED, problem, None)));
        };
        let session = id.to_str().ok().and_then(|id| self.sessions.get(id, &asking.owner));
        session.filter(|session| session.stream.is_none()).ok_or_else(|| Box::new(session_not_found()))
    }

    fn listen(&self, asking: &Asking<'_>) -> Result<Response<Body>, Failure> {
        if modern::is_modern(asking.headers, &[]) {
            return Ok(reply::not_allowed("POST, OPTIONS"));
        }
        let session = match self.session_of(asking) {
            Ok(session) => session,
            Err(refusal) => return Ok(*refusal),
        };
        if !answering::accepts_events(asking.headers) {
            let problem = "Not Acceptable: Client must accept text/event-stream";
            return Ok(reply::error(StatusCode::NOT_ACCEPTABLE, REFUSED, problem, None));
        }
        match session.child.listen(session.client, Purpose::Unasked)? {
            Some(answers) => Ok(reply::events(Body::events(answers, None))),
            None => {
                let problem = "Conflict: Only one SSE stream is allowed per session";
                Ok(reply::error(StatusCode::CONFLICT, REFUSED, problem, None))
            }
        }
    }

    fn delete(&self, asking: &Asking<'_>) -> Response<Body> {
        if modern::is_modern(asking.headers, &[]) {
            return reply::not_allowed("POST, OPTIONS");
        }
        match self.session_of(asking) {
            Ok(session) => {
                self.sessions.close(&session.id);
                reply::empty(StatusCode::OK)
            }
            Err(refusal) => *refusal,
        }
    }
}

async fn post_in_session(
    session: &Session,
    headers: &HeaderMap,
    line: &Bytes,
) -> Result<Response<Body>, Failure> {
    if is_batch(line) && session.version.get().is_none_or(|version| version != BATCHES) {
        let problem = "Batches are not part of this session's revision";
        return Ok(reply::error(StatusCode::BAD_REQUEST, INVALID_REQUEST, problem, None));
    }
    let asked = session.child.ask(session.client, line, false);
    let form = Form::plain(headers);
    Ok(answer_asked(asked, &form, id_of(&Message::all_of(line))).await?.response)
}

async fn answer_asked(
    asked: Result<Asked, Unasked>,
    form: &Form,
    id: Option<&[u8]>,
) -> Result<Answer, Failure> {
    match asked {
        Ok(Asked::Taken) => Ok(reply::empty(StatusCode::ACCEPTED).into()),
        Ok(Asked::Answers(answers)) => answering::answer(answers, form).await,
        Err(Unasked::Refused(refused)) => Ok(refuse(refused, id).into()),
        Err(Unasked::Failed(failure)) => Err(failure),
    }
}

pub(super) fn refuse(refused: Refused, id: Option<&[u8]>) -> Response<Body> {
    let problem = match refused {
        Refused::DuplicateId => "Invalid Request: a request with this id is in flight",
        Refused::NoMessage => "Invalid Request: neither request nor notification nor response",
        Refused::Doubtful => "Invalid Request: a key differs from a known one only in its case",
        Refused::NotAsked => "Invalid Request: a response to nothing that was asked",
    };
    reply::error(StatusCode::BAD_REQUEST, INVALID_REQUEST, problem, id)
}

pub(super) fn session_not_found() -> Response<Body> {
    reply::error(StatusCode::NOT_FOUND, SESSION_NOT_FOUND, "Session not found", None)
}

/// A revision that nobody knows is refused (2025-06-18, basic/transports).
fn check_version(headers: &HeaderMap) -> Option<Response<Body>> {
    let version = headers.get(modern::VERSION)?;
    if REVISIONS.iter().any(|known| version == known) {
        return None;
    }
    let problem = format!("Bad Request: Unsupported protocol version (supported: {})", REVISIONS.join(", "));
    Some(reply::error(StatusCode::BAD_REQUEST, REFUSED, &problem, None))
}

/// A program that knows no `initialize` speaks the revision without sessions; 400 tells clients of both kinds.
const fn status_of_initialize(code: Option<i64>) -> StatusCode {
    match code {
        Some(-32601 | -32022) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

pub(super) fn id_of<'a>(messages: &[Message<'a>]) -> Option<&'a [u8]> {
    let [message] = messages else { return None };
    message.id().map(|id| message.raw(id))
}
