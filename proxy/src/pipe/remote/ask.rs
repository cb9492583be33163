//! One line on its way to the server: the request, what comes back for it, and what is said where nothing does.

use super::{
    MAX_MESSAGE,
    events::{Events, Mark},
    line::{Asked, Line, answers_in, is_message, on_one_line},
    server::{Answer, Server},
    trouble::Trouble,
};
use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mcpmeter_observer::IdToken;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::{sync::oneshot, time::sleep};

/// Of a refusal's body as much is read.
const MAX_REFUSAL: usize = 64 << 10;
/// Times that a stream is resumed in a row without anything new on it.
const MAX_TRIES: u32 = 5;
/// The code of an error of ours (JSON-RPC 2.0, 5.1: the range for implementations).
const NO_ANSWER: i64 = -32000;

/// The requests of a line that wait for their answers.
pub(super) struct Answers {
    waiting: Vec<Asked>,
    /// The line is `initialize`, whose answer says which version is spoken.
    initializes: bool,
}

impl Answers {
    /// Nobody waits: a stream of the server's own.
    pub(super) const fn of_none() -> Self {
        Self { waiting: Vec::new(), initializes: false }
    }

    fn of(line: &Line) -> Self {
        Self { waiting: line.asked.clone(), initializes: line.is_method("initialize") }
    }

    /// Notes what a message answers; servers in JavaScript may write an id a bit differently.
    fn note(&mut self, ids: &[IdToken]) {
        for id in ids {
            let found = self.waiting.iter().position(|asked| asked.id.loosely_equals(id));
            if let Some(found) = found {
                self.waiting.remove(found);
            }
        }
    }
}

/// Asks, and forwards what is answered; each request is answered in the end.
pub(super) async fn ask(server: &Server, line: &Line, taken: oneshot::Sender<()>) {
    let mut answers = Answers::of(line);
    let trouble = tokio::select! {
        biased;
        asked = converse(server, line, &mut answers, taken) => asked.err(),
        () = server.lost() => Some(Trouble::lost()),
    };
    // Without trouble nobody waits any more.
    if let Some(trouble) = trouble {
        for asked in std::mem::take(&mut answers.waiting) {
            refuse(server, &asked, &trouble).await;
        }
        if matches!(trouble, Trouble::Refused { status: 404, in_session: true, .. }) {
            server.lose();
        }
    }
}

/// Tells something that asks for nothing. A refusal has no addressee.
pub(super) async fn tell(server: &Server, line: &Line) {
    let Ok(answer) = server.post(line, None).await else { return };
    let status = answer.response.status();
    if status == StatusCode::NOT_FOUND && answer.in_session {
        return server.lose();
    }
    // What was no message is answered with an error to nobody in particular; whoever sent it may know better.
    if let (None, Ok(body)) = (&line.method, read_whole(answer).await)
        && is_message(&body)
    {
        server.say(on_one_line(body), true).await;
    }
}

async fn converse(
    server: &Server,
    line: &Line,
    answers: &mut Answers,
    taken: oneshot::Sender<()>,
) -> Result<(), Trouble> {
    let answer = server.post(line, Some(taken)).await?;
    let status = answer.response.status();
    for asked in &line.asked {
        server.recorder.tell(|pipe, now| pipe.handle_call_head(&asked.id, status.as_u16(), now));
    }
    if !status.is_success() {
        return read_refusal(server, answer, answers).await;
    }
    if answers.initializes {
        server.note_session(answer.response.headers());
    }
    if is_stream(&answer.response) {
        return follow_to_the_end(server, line, answer, answers).await;
    }
    let body = read_whole(answer).await?;
    if body.trim_ascii().is_empty() {
        return Err(Trouble::unanswered(status.as_u16()));
    }
    if !is_message(&body) {
        return Err(Trouble::invalid("the answer is neither JSON nor a stream of events".to_owned()));
    }
    forward(server, on_one_line(body), answers).await;
    if answers.waiting.is_empty() { Ok(()) } else { Err(Trouble::unanswered(status.as_u16())) }
}

/// Whether the body is a stream of events.
pub(super) fn is_stream(response: &Response<Incoming>) -> bool {
    let content_type =
        response.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    response.status() == StatusCode::OK && essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// Follows the stream of an answer, and where it breaks off the one that goes on with it.
async fn follow_to_the_end(
    server: &Server,
    line: &Line,
    answer: Answer,
    answers: &mut Answers,
) -> Result<(), Trouble> {
    let (mut mark, began) = (Mark::default(), Instant::now());
    let mut followed = follow(server, answer, &mut mark, answers).await;
    let mut tries = 0;
    while !answers.waiting.is_empty() {
        if mark.id.is_none() || line.is_modern() {
            return Err(followed.err().unwrap_or_else(|| Trouble::unanswered(200)));
        }
        if tries == MAX_TRIES {
            return Err(Trouble::not_resumed(tries, began.elapsed()));
        }
        sleep(mark.retry() + Duration::from_millis(100) * tries).await;
        let before = mark.events;
        followed = match server.resume(&mark).await {
            Ok(answer) if is_stream(&answer.response) => follow(server, answer, &mut mark, answers).await,
            Ok(answer) if answer.response.status().is_client_error() => return Err(refusal(answer).await),
            Ok(_) => Ok(()),
            Err(trouble) => Err(trouble),
        };
        tries = if mark.events > before { 0 } else { tries + 1 };
    }
    Ok(())
}

/// Forwards what comes on a stream, until it ends or breaks off.
pub(super) async fn follow(
    server: &Server,
    answer: Answer,
    mark: &mut Mark,
    answers: &mut Answers,
) -> Result<(), Trouble> {
    let Answer { response, lease, .. } = answer;
    let (mut events, mut body) = (Events::default(), response.into_body());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| crate::upstream::failure_mid_body(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        let messages = events.read(&data, mark).map_err(|_| too_long())?;
        for message in messages {
            forward(server, message, answers).await;
        }
    }
    lease.give_back();
    Ok(())
}

/// Forwards a message to the client, and notes what it answers.
async fn forward(server: &Server, message: Bytes, answers: &mut Answers) {
    if !answers.waiting.is_empty() {
        let (ids, version) = answers_in(&message);
        if let (true, Some(version)) = (answers.initializes, version) {
            server.note_version(&version);
        }
        answers.note(&ids);
    }
    server.say(message, true).await;
}

/// Reads a whole body, which is given back to the pool if it came to its end.
async fn read_whole(answer: Answer) -> Result<Bytes, Trouble> {
    let Answer { response, lease, .. } = answer;
    let (mut whole, mut body) = (BytesMut::new(), response.into_body());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| crate::upstream::failure_mid_body(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > MAX_MESSAGE {
            return Err(too_long());
        }
        whole.extend_from_slice(&data);
    }
    lease.give_back();
    Ok(whole.freeze())
}

fn too_long() -> Trouble {
    Trouble::invalid(format!("a message of more than {MAX_MESSAGE} bytes"))
}

/// An HTTP error: with a JSON-RPC error in it, that is the answer; its id may be missing, because over HTTP the exchange
/// says whose it is.
async fn read_refusal(server: &Server, answer: Answer, answers: &mut Answers) -> Result<(), Trouble> {
    let is_lost = answer.response.status() == StatusCode::NOT_FOUND && answer.in_session;
    let refused = refusal(answer).await;
    let Trouble::Refused { body, .. } = &refused else { return Err(refused) };
    let Some(error) = rpc_error(body) else { return Err(refused) };
    let (ids, _) = answers_in(body);
    let body = Bytes::copy_from_slice(body);
    answers.note(&ids);
    if answers.waiting.is_empty() {
        server.say(on_one_line(body), true).await;
    }
    for asked in std::mem::take(&mut answers.waiting) {
        server.say(asked.error(&error), true).await;
    }
    if is_lost {
        server.lose();
    }
    Ok(())
}

async fn refusal(answer: Answer) -> Trouble {
    let (status, in_session) = (answer.response.status().as_u16(), answer.in_session);
    let Answer { response, lease, .. } = answer;
    let (mut whole, mut body) = (Vec::new(), response.into_body());
    while let Some(Ok(frame)) = body.frame().await {
        whole.extend_from_slice(frame.data_ref().map_or(&b""[..], |data| data));
        if whole.len() > MAX_REFUSAL {
            return Trouble::Refused { status, body: whole, in_session };
        }
    }
    lease.give_back();
    Trouble::Refused { status, body: whole, in_session }
}

/// The error of a JSON-RPC message, as JSON.
fn rpc_error(body: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(body).ok()?;
    let error = message.get("error").filter(|error| error.is_object() && error.get("code").is_some())?;
    Some(error.to_string())
}

/// Answers a request ourselves, because nobody else will. The books learn what happened, not what we say about it.
async fn refuse(server: &Server, asked: &Asked, trouble: &Trouble) {
    server.recorder.tell(|pipe, now| match trouble {
        Trouble::Failed(failure) => pipe.handle_call_failed(&asked.id, failure, now),
        Trouble::Refused { status, body, in_session } => {
            pipe.handle_call_refused(&asked.id, *status, &body[..body.len().min(512)], *in_session, now);
        }
    });
    server.say(asked.refusal(NO_ANSWER, &trouble.words()), false).await;
}
