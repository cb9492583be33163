//! One HTTP exchange, observed: what was read goes in by `handle_*`, finished records come out by
//! [`Exchange::poll_finished`].
//!
//! The order of calls is the order of the wire: request data and its end, the response's head, its data, and
//! exactly one ending. Request and response may overlap. After every `handle_*` the finished records are to be
//! polled; a frame is to be handed to its `handle_*` *before* it is forwarded, because a fast upstream would
//! otherwise answer a request that is not known yet.

mod ending;
mod facts;
mod piped;
mod request;
mod response;
mod task;

pub use ending::Failure;

use crate::{
    budget::Permit,
    call::{CallId, CallRecord, Text, Tick},
    conversation::{Cancel, Conversation, SessionInfo},
    correlator::{OpenCall, OpenCalls},
    decoder::Coding,
    instance::{Head, Instance},
    jsonrpc::{IdToken, Scanner},
    reader::Reader,
    redact::Redactor,
    tasks::TaskQuestion,
    word::{AuthMethod, AuthState},
};
use arc_swap::Guard;
use facts::Facts;
use http::Method;
use std::{collections::VecDeque, sync::Arc};

/// What the exchange is for.
#[derive(Debug)]
enum Role {
    /// A POST of Streamable HTTP: its answers come back on itself.
    Post,
    /// A POST of a legacy client: its answers come on the conversation's stream.
    LegacyPost(Arc<Conversation>),
    /// A GET: a stream of the server's own, or a resumed one; perhaps a legacy stream, the first event tells.
    Stream,
    /// A GET that announced an endpoint.
    LegacyStream { conversation: Arc<Conversation>, endpoint: Box<str> },
    /// No exchange at all, but a pipe with its requests and answers both: [`crate::Pipe`].
    Pipe { conversation: Arc<Conversation>, key: Box<[u8]> },
    /// A DELETE, which ends its session.
    Delete,
    /// Nothing that calls could be in.
    Other,
}

/// One exchange, from its request's head to its end.
#[derive(Debug)]
pub struct Exchange {
    instance: Arc<Instance>,
    facts: Facts,
    role: Role,
    session: Option<Arc<Conversation>>,
    asked: Asked,
    /// The request's scanner when it is done, for the response.
    spare: Option<Box<Scanner>>,
    /// Calls whose answers come on this exchange.
    open: OpenCalls,
    answer: Answer,
    finished: VecDeque<Finished>,
    /// Calls that were too many for one exchange and will never be records.
    unrecorded: u64,
    /// Calls that have begun, if anybody meters them.
    opened: Option<Vec<CallId>>,
    ended: bool,
}

/// The request's side.
#[derive(Debug, Default)]
struct Asked {
    scanner: Option<Box<Scanner>>,
    coding: Coding,
    /// For the coding's window.
    _decoding: Option<Permit>,
    /// Body bytes so far.
    bytes: u64,
    /// JSON-RPC requests of any method.
    requests: u32,
    /// Messages of any kind.
    messages: u32,
    /// Calls handed to the conversation of a legacy client.
    posted: Vec<CallId>,
    /// Cancellations in a session that is not known yet.
    cancels: Vec<Cancel>,
    /// An `initialize` that is not answered yet.
    initialize: Option<(IdToken, SessionInfo)>,
    /// Questions about tasks whose end is waited for.
    tasks: Vec<TaskQuestion>,
    /// A `subscriptions/listen`: notifications come back, perhaps of the end of a task.
    listens: bool,
    done: bool,
}

/// The response's side.
#[derive(Debug, Default)]
struct Answer {
    reader: Reader,
    /// The body is not sent as it is (`Content-Encoding`).
    is_encoded: bool,
    status: Option<u16>,
    head_at: Option<Tick>,
    first_event_at: Option<Tick>,
    /// Body bytes so far.
    bytes: u64,
    /// The beginning of an error's body.
    error_body: Vec<u8>,
    /// Hashes of the ids of the stream's events, the latest of them.
    event_ids: Vec<u64>,
    events: u64,
    /// The hash of what the stream was resumed behind, if it is a resumed one.
    resumed: Option<u64>,
    /// Ends of tasks that it told.
    task_ends: u32,
}

#[derive(Debug)]
struct Finished {
    record: Box<CallRecord>,
    /// When the frame that brought the answer was read.
    answered_at: Option<Tick>,
}

impl Exchange {
    pub(crate) fn begin(instance: Arc<Instance>, head: &Head<'_>) -> Self {
        let facts = Facts::of_head(head);
        let legacy = match *head.method {
            // The announced endpoints decide: a legacy server may announce the very path of its stream.
            Method::POST => instance.memory.endpoints.get(head.target.as_bytes(), head.at),
            _ => None,
        };
        let role = match (head.method, legacy) {
            (_, Some(conversation)) => Role::LegacyPost(conversation),
            (&Method::POST, None) => Role::Post,
            (&Method::GET, None) => Role::Stream,
            (&Method::DELETE, None) => Role::Delete,
            _ => Role::Other,
        };
        let scans = matches!(role, Role::Post | Role::LegacyPost(_));
        let asked = if scans { Asked::begin(&instance, &facts, head) } else { Asked::nothing() };
        let mut exchange = Self {
            instance,
            facts,
            role,
            session: None,
            asked,
            spare: None,
            open: OpenCalls::default(),
            answer: Answer::default(),
            finished: VecDeque::new(),
            unrecorded: 0,
            opened: None,
            ended: false,
        };
        exchange.join_session(head.at);
        exchange
    }

    /// Finds the session that the request names. One that is not known is only remembered when the server has
    /// accepted it ([`Self::open_session`]): whoever invents sessions must not make others forgotten.
    fn join_session(&mut self, now: Tick) {
        if let Role::LegacyPost(conversation) = &self.role {
            self.session = Some(Arc::clone(conversation));
        } else {
            self.join_known_session(now);
        }
    }

    /// Finds the session that the request names, which another exchange may have made known meanwhile.
    fn join_known_session(&mut self, now: Tick) {
        if self.session.is_none()
            && let Some(id) = &self.facts.session_id
        {
            self.session = self.instance.memory.sessions.get(id.as_bytes(), now);
        }
    }

    /// Bytes of the request's body, before they are forwarded.
    pub fn handle_request_data(&mut self, bytes: &[u8], now: Tick) {
        self.asked.bytes += bytes.len() as u64;
        self.read_request(bytes, now);
    }

    /// The request's body is complete.
    pub fn handle_request_end(&mut self, now: Tick) {
        self.end_request(now);
    }

    /// Which limits apply to the exchange, and what is left of them: a JSON document for the records of its calls.
    pub fn note_rate_limit_state(&mut self, state: Text) {
        self.facts.rate_limit_state = Some(state);
    }

    /// How the caller proved who it is, and what came of that; as its records have it.
    pub fn auth(&self) -> (AuthMethod, AuthState) {
        self.facts.auth()
    }

    /// The response's head has been read.
    pub fn handle_response_head(&mut self, status: http::StatusCode, headers: &http::HeaderMap, now: Tick) {
        self.read_head(status.as_u16(), headers, now);
        if self.answer.reader.is_of_events() {
            self.facts.let_go_of_head();
        }
    }

    /// Bytes of the response's body, before they are forwarded.
    pub fn handle_response_data(&mut self, bytes: &[u8], now: Tick) {
        self.answer.bytes += bytes.len() as u64;
        self.read_response(bytes, now);
    }

    /// From now on [`Self::poll_opened`] tells which calls begin.
    pub fn watch_opened(&mut self) {
        self.opened.get_or_insert_default();
    }

    /// A call that has begun since this was last asked.
    pub fn poll_opened(&mut self) -> Option<CallId> {
        self.opened.as_mut()?.pop()
    }

    /// Whether [`Self::poll_finished`] has something to give.
    pub fn has_finished(&self) -> bool {
        !self.finished.is_empty() || self.unrecorded > 0
    }

    /// Calls of the exchange that were more than are recorded of one, since this was last asked.
    pub const fn poll_unrecorded(&mut self) -> u64 {
        std::mem::replace(&mut self.unrecorded, 0)
    }

    /// The next finished record; `now` is just before the frame goes on.
    pub fn poll_finished(&mut self, now: Tick) -> Option<Box<CallRecord>> {
        let Finished { mut record, answered_at } = self.finished.pop_front()?;
        self.facts.hide_own_secrets(&mut record);
        record.proxy_us = answered_at.map(|read_at| now.micros_since(read_at));
        Some(record)
    }

    /// What its records must not have in them.
    pub(crate) fn redactor(&self) -> Guard<Arc<Redactor>> {
        self.instance.redactor()
    }

    /// Completes what the exchange knows of a call, and makes it a finished record.
    fn finish(
        &mut self,
        mut call: OpenCall,
        answered_at: Option<Tick>,
        end: impl FnOnce(OpenCall) -> Box<CallRecord>,
    ) {
        self.complete(&mut call);
        if let Some(key) = call.soft_key {
            self.instance.memory.outside_session.end(key, call.asked_at);
        }
        let mut record = end(call);
        self.refine_refusal(&mut record);
        self.finished.push_back(Finished { record, answered_at });
    }

    /// Whether the client has cancelled a call, and for which reason if it gave one.
    fn cancel_of(&self, call: &OpenCall) -> Option<Option<Text>> {
        match (&self.session, call.soft_key) {
            (Some(session), _) => session.cancel_of(&call.id),
            (None, Some(key)) => self.instance.memory.outside_session.cancel_of(key, call.asked_at),
            (None, None) => None,
        }
    }

    /// Tells a call what this exchange has seen of it. The head and the first event that count are those of the
    /// exchange that the call was asked on, not of a stream resumed later.
    fn complete(&self, call: &mut OpenCall) {
        let cancelled = self.cancel_of(call).is_some();
        let answer = &self.answer;
        let record = &mut call.record;
        record.http_status = answer.status.or(record.http_status);
        record.cancel_requested = cancelled;
        record.rate_limit_state = self.facts.rate_limit_state.clone().or(record.rate_limit_state.take());
        if !matches!(self.role, Role::LegacyStream { .. } | Role::Pipe { .. }) {
            let since_asked = |at: Tick| at.micros_since(call.asked_at);
            record.ttfb_us = record.ttfb_us.or(answer.head_at.map(since_asked));
            record.first_event_us = record.first_event_us.or(answer.first_event_at.map(since_asked));
            record.http_request_bytes = Some(record.http_request_bytes.unwrap_or(self.asked.bytes));
            record.http_response_bytes = Some(answer.bytes);
        }
    }
}

#[cfg(test)]
mod tests;
