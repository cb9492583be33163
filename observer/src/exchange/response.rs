//! The response's side of an exchange: from its messages to finished calls.

use super::{
    Asked, Exchange, Finished, Role,
    facts::{hash_event_id, name_of, session_id},
};
use crate::{
    call::{Text, Tick},
    conversation::SessionInfo,
    correlator::OpenCall,
    jsonrpc::{IdToken, Kind, Leaf, Message},
    outcome::{MAX_ERROR_BODY, Outcome, hash_leaf},
    reader::{Read, Reader},
    word::{Framing, MatchKind, Origin, Status, StatusDetail},
};
use http::{HeaderMap, header};
use std::sync::Arc;

/// Events at the beginning of a resumed stream that are looked at although no answer is waited for.
const MAX_REPLAYED: u64 = 256;
/// Event ids remembered of one stream; a client resumes behind one of the last.
const MAX_EVENT_IDS: usize = 128;

impl Exchange {
    pub(super) fn read_head(&mut self, status: u16, headers: &HeaderMap, now: Tick) {
        self.answer.status = Some(status);
        self.answer.head_at = Some(now);
        if status < 300 && (self.session.is_none() || self.asked.initialize.is_some()) {
            self.open_session(headers, now);
        }
        match &self.role {
            Role::LegacyPost(_) if status >= 400 => self.recall_posted(),
            Role::Stream if status < 300 => self.resume(),
            Role::Delete if status < 300 => self.end_session(now),
            _ => {}
        }
        if status == 404 {
            self.end_session(now);
        }
        let expects = match self.role {
            Role::Post => !self.asked.done || !self.open.is_empty() || self.asked.expects_more(),
            // Its answers come on the stream; but a server may give them here.
            Role::LegacyPost(_) => !self.open.is_empty() || self.asked.requests > 0,
            Role::Stream => true,
            _ => false,
        };
        if expects {
            self.answer.is_encoded = headers.contains_key(header::CONTENT_ENCODING);
            let read = if self.answer.is_encoded { Reader::for_headers } else { Reader::for_plain };
            self.answer.reader = read(headers, self.spare.take());
            self.answer.reader.keep_bodies(self.instance.memory.keeping.held_bytes());
        }
    }

    /// Remembers the session that the server has accepted. One that begins has its id in the answer to `initialize`,
    /// and only there it is authoritative.
    fn open_session(&mut self, headers: &HeaderMap, now: Tick) {
        let begins = matches!(self.role, Role::Post) && self.asked.initialize.is_some();
        let id = match session_id(headers).filter(|_| begins) {
            Some(id) => Some(id),
            None if matches!(self.role, Role::Post | Role::Stream) => self.facts.session_id.as_ref(),
            None => None,
        };
        let Some(id) = id else { return };
        let (session, forgotten) = self.instance.memory.sessions.get_or_insert(id.as_bytes(), now);
        for cancel in std::mem::take(&mut self.asked.cancels) {
            session.note_cancel(cancel);
        }
        self.session = Some(session);
        self.end_session_calls(forgotten, Status::UpstreamError, now);
    }

    /// A legacy server refused the POST, so its calls will not be answered on the stream.
    pub(super) fn recall_posted(&mut self) {
        let Role::LegacyPost(conversation) = &self.role else { return };
        let posted = std::mem::take(&mut self.asked.posted);
        for call in conversation.take_where(|call| posted.contains(&call.record.id)) {
            self.open.push(call);
        }
    }

    /// A stream with `Last-Event-ID` brings what an ended one owed.
    fn resume(&mut self) {
        if self.session.is_some() {
            let id = self.facts.last_event_id.as_ref();
            self.answer.resumed = id.map(|id| hash_event_id(id.as_bytes()));
        }
    }

    /// The session is over: by the client's DELETE, or because the server no longer knows it.
    fn end_session(&mut self, now: Tick) {
        if let Some(id) = &self.facts.session_id {
            // Who deletes a session leaves the calls in it.
            let status = match self.role {
                Role::Delete => Status::Cancelled,
                _ => Status::UpstreamError,
            };
            let calls = self.instance.memory.sessions.remove(id.as_bytes(), status);
            self.end_session_calls(calls, status, now);
        }
    }

    /// Calls that were asked on other exchanges, of a session that is over: this exchange's head, status and bytes
    /// are not theirs.
    pub(super) fn end_session_calls(&mut self, calls: Vec<OpenCall>, status: Status, now: Tick) {
        for mut call in calls {
            // A session ends by its client's will, or because the server has forgotten it.
            let origin = if status == Status::Cancelled { Origin::Client } else { Origin::Upstream };
            let ended = Outcome::new(status, StatusDetail::SessionEnded, origin);
            // Ids mean something within their session only, and this may be another one that had to make room.
            let own =
                self.session.as_ref().filter(|own| call.record.session_hash.as_ref() == Some(&own.hash));
            let cancelled = own.and_then(|session| session.cancel_of(&call.id));
            call.record.cancel_requested |= cancelled.is_some();
            let outcome = cancelled.map_or(ended, Outcome::cancelled);
            self.finished.push_back(Finished { record: call.finish(outcome, now), answered_at: None });
        }
    }

    pub(super) fn read_response(&mut self, bytes: &[u8], now: Tick) {
        if !self.answer.is_encoded {
            self.keep_error_body(bytes);
        }
        let mut reader = std::mem::replace(&mut self.answer.reader, Reader::BLIND);
        reader.read(bytes, now, |read| self.take_read(read, now));
        if !self.is_passive() {
            self.answer.reader = reader;
        }
    }

    /// Whether nothing more on the stream concerns a call: one of the server's own, once its first event has not made it
    /// a legacy one, and a resumed one, once nothing is waited for and what could be sent again has been.
    fn is_passive(&self) -> bool {
        matches!(self.role, Role::Stream)
            && self.answer.events > 0
            && (self.answer.resumed.is_none()
                || (self.answer.events > MAX_REPLAYED
                    && !self
                        .session
                        .as_ref()
                        .is_some_and(|session| session.with_resumption(|owed| owed.is_owed()))))
    }

    fn keep_error_body(&mut self, bytes: &[u8]) {
        if self.answer.status >= Some(400) {
            let room = MAX_ERROR_BODY.saturating_sub(self.answer.error_body.len()).min(bytes.len());
            self.answer.error_body.extend_from_slice(&bytes[..room]);
        }
    }

    pub(super) fn take_read(&mut self, read: Read<'_>, now: Tick) {
        match read {
            Read::Event { id, has_data } => {
                self.answer.events += 1;
                if has_data && self.answer.first_event_at.is_none() {
                    self.answer.first_event_at = Some(now);
                }
                if let Some(id) = id.filter(|_| !matches!(self.role, Role::Stream)) {
                    let ids = &mut self.answer.event_ids;
                    if ids.len() == MAX_EVENT_IDS {
                        ids.remove(0);
                    }
                    ids.push(hash_event_id(id));
                }
            }
            Read::Decoded(bytes) => self.keep_error_body(bytes),
            Read::Endpoint(value) => self.announce_endpoint(value, now),
            Read::Message { message, framing, bytes, at } => match message.kind() {
                Kind::Response => self.take_answer(message, framing, bytes, at),
                Kind::Notification if matches!(self.role, Role::Pipe { .. }) => {
                    self.take_notice(message, bytes, at);
                }
                Kind::Notification if self.asked.listens => {
                    self.take_task_notice(message, framing, bytes, at)
                }
                _ => {}
            },
        }
    }

    /// The stream is that of a legacy client; from here on its calls are looked for on this stream.
    fn announce_endpoint(&mut self, value: &[u8], now: Tick) {
        if !matches!(self.role, Role::Stream) || self.answer.events > 1 {
            return;
        }
        let target = self.facts.target.as_deref().unwrap_or("/");
        let endpoint =
            str::from_utf8(value).ok().and_then(|value| self.instance.mount.resolve(target, value));
        let Some(endpoint) = endpoint else {
            self.instance.count_orphan();
            return;
        };
        let (conversation, forgotten) = self.instance.memory.endpoints.open_stream(endpoint.as_bytes(), now);
        self.session = Some(Arc::clone(&conversation));
        self.role = Role::LegacyStream { conversation, endpoint: endpoint.into() };
        self.end_session_calls(forgotten, Status::UpstreamError, now);
    }

    fn take_answer(&mut self, message: &Message, framing: Framing, bytes: u64, at: Tick) {
        let id = message.id();
        if self.take_initialized(message, &id) || self.take_task_answer(message, &id, framing, bytes, at) {
            return;
        }
        let framing = if self.is_batch() && framing == Framing::Sse { Framing::BatchSse } else { framing };
        if let Some((call, kind)) = self.take_answered(&id) {
            self.answer_call(call, message, kind, framing, bytes, at);
        } else if self.is_batch() && message.has_error() && id == IdToken::Missing {
            // One bare error answers the whole batch.
            for call in self.open.take_all() {
                self.answer_call(call, message, MatchKind::Positional, framing, bytes, at);
            }
        } else if matches!(self.role, Role::LegacyStream { .. }) {
            self.instance.count_orphan();
        }
    }

    /// The call that an answer ends. One that was answered before and comes again on a resumed stream is counted.
    fn take_answered(&mut self, id: &IdToken) -> Option<(OpenCall, MatchKind)> {
        match (&self.role, self.answer.resumed, &self.session) {
            (Role::LegacyStream { conversation, .. } | Role::Pipe { conversation, .. }, ..) => {
                conversation.take_answered(id)
            }
            (Role::LegacyPost(conversation), ..) if self.open.is_empty() => {
                conversation.take_exact(id).map(|call| (call, MatchKind::Exact))
            }
            (Role::Stream, Some(event_id), Some(session)) => session.with_resumption(|owed| {
                let found = owed.take_call(id, event_id);
                match &found {
                    Some((call, _)) => owed.note_answered(&call.id),
                    None if owed.was_answered(id) => self.instance.count_redelivered(),
                    None => {}
                }
                found
            }),
            _ => {
                let found = self.open.take_on_exchange(id, self.asked.requests);
                if let (Some((call, _)), Some(session)) = (&found, &self.session)
                    && !self.answer.event_ids.is_empty()
                {
                    session.with_resumption(|owed| owed.note_answered(&call.id));
                }
                found
            }
        }
    }

    fn answer_call(
        &mut self,
        call: OpenCall,
        message: &Message,
        kind: MatchKind,
        framing: Framing,
        bytes: u64,
        at: Tick,
    ) {
        let (began_at, asked_at) = (call.began_at, call.asked_at);
        let redactor = self.redactor();
        self.finish(call, Some(at), |call| call.answer(&redactor, message, kind, framing, bytes, at));
        if let Some(state) = hash_leaf(message, Leaf::ResultRequestState) {
            self.remember_round(state);
        }
        self.remember_task(began_at, asked_at, at);
    }

    /// The call that was finished last handed out a state, which the next round of its group will go on from.
    fn remember_round(&mut self, state: Text) {
        if let Some(Finished { record, .. }) = self.finished.back_mut() {
            let group = record.mrtr_group.get_or_insert_with(|| Text::clone(&state));
            self.instance.memory.rounds.note(state, group);
        }
    }

    /// The answer to `initialize` tells the session's version, whatever the client had asked for.
    fn take_initialized(&mut self, message: &Message, id: &IdToken) -> bool {
        let info = match &self.role {
            Role::LegacyStream { conversation, .. }
            | Role::LegacyPost(conversation)
            | Role::Pipe { conversation, .. } => conversation.take_initialize(id),
            _ => self.asked.initialize.take_if(|(asked, _)| asked == id).map(|(_, info)| info),
        };
        let Some(info) = info else { return false };
        if let Some(session) = self.session.as_ref().filter(|_| !message.has_error()) {
            let protocol_version = name_of(&self.redactor(), message, Leaf::ResultVersion);
            // A session is opened once; a second answer to the same request says nothing new.
            let _ = session.info.set(SessionInfo { protocol_version, ..info });
        }
        true
    }

    const fn is_batch(&self) -> bool {
        self.asked.requests > 1 && !matches!(self.role, Role::Pipe { .. })
    }
}

impl Asked {
    /// Whether the answer may hold something beside the calls' answers that is to be read.
    const fn expects_more(&self) -> bool {
        self.initialize.is_some() || self.listens || !self.tasks.is_empty()
    }
}
