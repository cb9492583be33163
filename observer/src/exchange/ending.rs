//! The end of an exchange, whichever way it came: every call still open gets its outcome here, or waits for
//! a resumed stream.

use super::{Exchange, Role};
use crate::{
    call::{CallRecord, Text, Tick},
    conversation::Detached,
    correlator::{OpenCall, OpenCalls},
    jsonrpc::IdToken,
    outcome::Outcome,
    word::{Method, Origin, Status, StatusDetail, Transport},
};

/// What kept the upstream's answer from coming, as the owner of the sockets saw it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// `upstream_error` or `timeout`; or `limited` or `denied`, if the owner has refused to ask the upstream.
    pub status: Status,
    /// Nothing was sent, or the connection broke afterwards.
    pub detail: StatusDetail,
    /// For example `connect_refused`.
    pub code: &'static str,
    /// The error's own words.
    pub message: String,
    /// The status that the client is given instead; absent once a head has been forwarded.
    pub http_status: Option<u16>,
    /// A JSON document with what is known beside the words, such as a child's exit status and last lines; it becomes the
    /// record's `error_detail`, redacted and capped.
    pub context: Option<String>,
}

impl Failure {
    /// Whose fault it is. Who refuses a call has not asked the upstream, so that one's it is not.
    pub fn origin(&self) -> Origin {
        match self.status {
            Status::Limited => Origin::Proxy,
            Status::Denied if self.http_status == Some(503) => Origin::Proxy,
            Status::Denied | Status::Cancelled => Origin::Client,
            _ => Origin::Upstream,
        }
    }
}

/// The ways an exchange ends.
enum Ending<'a> {
    Complete,
    Failed(&'a Failure),
    ClientLeft,
    Stopped,
}

impl Exchange {
    /// The response's body is complete.
    pub fn handle_response_end(&mut self, now: Tick) {
        self.end(&Ending::Complete, now);
    }

    /// The upstream could not be reached, or broke off.
    pub fn handle_failure(&mut self, failure: &Failure, now: Tick) {
        self.answer.status = failure.http_status.or(self.answer.status);
        self.end(&Ending::Failed(failure), now);
    }

    /// The caller was refused, and the upstream not asked: there is a record even if no call was seen. The instance has
    /// to be one [apart](crate::Instance::apart).
    pub fn handle_refusal(&mut self, failure: &Failure, now: Tick) {
        self.handle_failure(failure, now);
        if self.finished.is_empty() && self.unrecorded == 0 {
            let redactor = self.instance.redactor();
            let mut record = self.facts.begin_record(&redactor, &self.instance.identity, Method::Unknown, 0);
            self.name_transports(&mut record);
            let began_at = self.facts.began_at;
            let call = OpenCall {
                record,
                id: IdToken::Missing,
                began_at,
                asked_at: began_at,
                progress_token: IdToken::Missing,
                soft_key: None,
            };
            let outcome = Outcome::of_failure(&redactor, failure);
            drop(redactor);
            self.finish(call, None, |call| call.finish(outcome, now));
        }
    }

    /// Nobody knows who asked, and it was refused: one record at most, whatever a batch held, so that strangers cannot fill
    /// a store. It says how many calls there were.
    pub fn handle_stranger(&mut self, failure: &Failure, now: Tick) {
        self.handle_refusal(failure, now);
        let calls = self.finished.len() as u64 + std::mem::replace(&mut self.unrecorded, 0);
        self.finished.truncate(1);
        if let Some(first) = self.finished.front_mut().filter(|_| calls > 1) {
            first.record.error_detail = Some(format!("{{\"calls\":{calls}}}").into());
        }
    }

    /// The client closed its side before the end.
    pub fn handle_client_left(&mut self, now: Tick) {
        self.end(&Ending::ClientLeft, now);
    }

    /// The proxy stops and cannot wait any longer.
    pub fn handle_stop(&mut self, now: Tick) {
        self.end(&Ending::Stopped, now);
    }

    fn end(&mut self, ending: &Ending<'_>, now: Tick) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.join_known_session(now);
        let mut reader = std::mem::replace(&mut self.answer.reader, crate::reader::Reader::BLIND);
        // What came complete is an answer, even if its end was cut off behind it.
        reader.finish(now, |read| self.take_read(read, now));
        self.answer.reader = reader;
        if !matches!(ending, Ending::ClientLeft) {
            self.open_partial_call();
        }
        if matches!(ending, Ending::Failed(_) | Ending::Stopped) || self.answer.status.is_none() {
            self.recall_posted();
        }
        self.close_stream(ending, now);
        if !self.asked.tasks.is_empty() {
            self.keep_questions();
        }
        self.end_open_calls(ending, now);
    }

    /// With a legacy stream or a pipe go the calls that were to be answered on it.
    fn close_stream(&mut self, ending: &Ending<'_>, now: Tick) {
        let status = match ending {
            Ending::ClientLeft => Status::Cancelled,
            _ => Status::UpstreamError,
        };
        let (calls, is_pipe) = match &self.role {
            Role::LegacyStream { conversation, endpoint } => {
                let mut calls = conversation.close_stream();
                calls.extend(
                    self.instance.memory.endpoints.remove_without_streams(endpoint.as_bytes(), status),
                );
                (calls, false)
            }
            Role::Pipe { key, .. } => (self.instance.memory.endpoints.remove(key, status), true),
            _ => return,
        };
        let outcome = match ending {
            Ending::Failed(failure) if is_pipe => Outcome::of_failure(&self.redactor(), failure),
            Ending::ClientLeft => Outcome::new(Status::Cancelled, StatusDetail::SessionEnded, Origin::Client),
            Ending::Stopped => {
                Outcome::new(Status::UpstreamError, StatusDetail::ProxyShutdown, Origin::Proxy)
            }
            _ => Outcome::new(Status::UpstreamError, StatusDetail::SessionEnded, Origin::Upstream),
        };
        for mut call in calls {
            call.record.client_left = matches!(ending, Ending::ClientLeft);
            let outcome = self.cancel_of(&call).map_or_else(|| outcome.clone(), Outcome::cancelled);
            self.finish(call, None, |call| call.finish(outcome, now));
        }
    }

    fn end_open_calls(&mut self, ending: &Ending<'_>, now: Tick) {
        let mut detached = OpenCalls::default();
        for mut call in self.open.take_all() {
            call.record.client_left = matches!(ending, Ending::ClientLeft);
            match self.outcome_of(&call, ending) {
                Some(outcome) => self.finish(call, None, |call| call.finish(outcome, now)),
                None => {
                    self.complete(&mut call);
                    // From here on only its session's cancellations count.
                    if let Some(key) = call.soft_key.take() {
                        self.instance.memory.outside_session.end(key, call.asked_at);
                    }
                    detached.push(call);
                }
            }
        }
        if let Some(session) = self.session.as_ref().filter(|_| !detached.is_empty()) {
            let Some(permit) = self.instance.memory.waiting.take(detached.len()) else {
                return self.give_up(detached, now);
            };
            let event_ids = std::mem::take(&mut self.answer.event_ids);
            let refused =
                session.detach(Detached { calls: detached, event_ids, since: now, _permit: permit });
            if let Err((calls, status)) = refused {
                self.end_session_calls(calls, status, now);
            }
        }
    }

    /// Too many calls wait for resumed streams already.
    fn give_up(&mut self, mut calls: OpenCalls, now: Tick) {
        for call in calls.take_all() {
            let outcome = Outcome::new(Status::UpstreamError, StatusDetail::DetachedExpired, Origin::Proxy);
            self.finish(call, None, |call| call.finish(outcome, now));
        }
    }

    /// Calls that were read behind the end of the answer: none can come any more.
    pub(super) fn end_late_calls(&mut self, now: Tick) {
        for call in self.open.take_all() {
            let outcome = self.outcome_without_answer();
            self.finish(call, None, |call| call.finish(outcome, now));
        }
    }

    /// How an unanswered call ended with the exchange; `None` if its answer may still come on another one.
    fn outcome_of(&self, call: &OpenCall, ending: &Ending<'_>) -> Option<Outcome> {
        if let Some(reason) = self.cancel_of(call) {
            return Some(Outcome::cancelled(reason));
        }
        match ending {
            Ending::Stopped => {
                Some(Outcome::new(Status::UpstreamError, StatusDetail::ProxyShutdown, Origin::Proxy))
            }
            _ if self.is_resumable(call) => None,
            Ending::Complete => Some(self.outcome_without_answer()),
            Ending::Failed(failure) => Some(Outcome::of_failure(&self.redactor(), failure)),
            Ending::ClientLeft => {
                let detail = match self.answer.head_at {
                    None => StatusDetail::ClientLeftBeforeHead,
                    Some(_) => StatusDetail::ClientLeftMidStream,
                };
                Some(Outcome::new(Status::Cancelled, detail, Origin::Client))
            }
        }
    }

    /// A stream whose events have ids can be resumed, in the revisions that know sessions.
    fn is_resumable(&self, call: &OpenCall) -> bool {
        !self.answer.event_ids.is_empty() && self.session.is_some() && !call.record.is_modern()
    }

    fn outcome_without_answer(&self) -> Outcome {
        let status = self.answer.status.unwrap_or(0);
        if status >= 400 {
            let in_session = self.facts.session_id.is_some();
            return Outcome::of_http_status(&self.redactor(), status, &self.answer.error_body, in_session);
        }
        if self.answer.reader.is_blind() && self.answer.bytes > 0 {
            return Outcome { detail: Some(StatusDetail::Unread), ..Outcome::ok() };
        }
        Outcome {
            error_message: Some(Text::from(format!("http status {status} without an answer"))),
            ..Outcome::new(Status::UpstreamError, StatusDetail::NoResponse, Origin::Upstream)
        }
    }

    /// What an error's HTTP status adds to its code.
    pub(super) fn refine_refusal(&self, record: &mut CallRecord) {
        let is_refused = self.answer.status.is_some_and(|status| (400..500).contains(&status));
        if record.status != Status::RpcError || !is_refused {
            return;
        }
        if self.answer.status == Some(404) && self.facts.session_id.is_some() {
            record.status_detail = record.status_detail.or(Some(StatusDetail::SessionLost));
        }
        // A program knows no HTTP status: it was not asked, or the client's mistake was read from its answer.
        if self.instance.transport == Some(Transport::Stdio) {
            record.origin = Some(Origin::Client);
        }
    }
}
