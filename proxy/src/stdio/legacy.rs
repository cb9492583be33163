//! The endpoints of HTTP+SSE (2024-11-05) in front of a program: the stream at `/sse`, which is the session, and `/message`.

use super::{
    Body, Server, body,
    child::Unasked,
    conversation::Purpose,
    endpoint::{PARSE_ERROR, id_of, refuse, session_not_found},
    framing,
    message::{Message, is_batch},
    reply,
    session::{Owner, SessionGuard},
};
use crate::tap::Tap;
use bytes::Bytes;
use http::{Response, StatusCode};
use mcpmeter_observer::Failure;
use std::sync::Arc;

impl Server {
    /// The stream of a client of 2024-11-05, which is its session.
    pub(super) async fn open_sse(&self, owner: Owner, tap: &Tap) -> Result<Response<Body>, Failure> {
        let (child, is_private) = self.program_of_session().await?;
        let client = if is_private { super::conversation::SOLE_CLIENT } else { child.new_session() };
        let listened = child.listen(client, Purpose::Everything);
        let Ok(Some(answers)) = listened else {
            child.end_client(client);
            return Err(listened.err().unwrap_or_else(super::failure::stopping));
        };
        tap.meter(Arc::clone(&child.processes));
        let opened = self.sessions.open(child, client, is_private, Some(answers.stream), owner);
        let session = opened.ok_or_else(super::failure::too_many_sessions)?;
        let guard = SessionGuard::new(&self.sessions, &session);
        let endpoint = format!("/message?sessionId={id}", id = session.id);
        let first = body::event("endpoint", endpoint.as_bytes());
        Ok(reply::events(Body::session(answers, first, guard)))
    }

    pub(super) fn post_message(
        &self,
        owner: &Owner,
        query: &str,
        body: Bytes,
        tap: &Tap,
    ) -> Result<Response<Body>, Failure> {
        let id = query.split('&').find_map(|pair| pair.strip_prefix("sessionId="));
        let session = id.and_then(|id| self.sessions.get(id, owner));
        let Some((session, stream)) =
            session.and_then(|session| session.stream.map(|stream| (session, stream)))
        else {
            return Ok(session_not_found());
        };
        let Some(line) = framing::to_line(body).filter(|line| !is_batch(line)) else {
            return Ok(reply::error(StatusCode::BAD_REQUEST, PARSE_ERROR, "Parse error", None));
        };
        tap.meter(Arc::clone(&session.child.processes));
        match session.child.ask_on(session.client, stream, &line) {
            Ok(()) => {
                let mut response = reply::empty(StatusCode::ACCEPTED);
                *response.body_mut() = Body::whole(Bytes::from_static(b"Accepted"));
                Ok(response)
            }
            Err(Unasked::Failed(failure)) => Err(failure),
            Err(Unasked::Refused(refused)) => Ok(refuse(refused, id_of(&Message::all_of(&line)))),
        }
    }
}
