//! The response's side of an exchange: from its messages to finished calls.

use super::{
    Exchange, Finished, Role,
    facts::{hash_event_id, session_id},
};
use crate::{
    call::Tick,
    conversation::SessionInfo,
    correlator::OpenCall,
    jsonrpc::{IdToken, Kind, Leaf, Message},
    reader::{Read, Reader},
    word::{Framing, MatchKind, Origin, Status, StatusDetail},
};
use http::{HeaderMap, header};
use std::sync::Arc;

/// How much of an error's body is kept for its message.
const MAX_ERROR_BODY: usize = 512;
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
            Role::Post => !self.asked.done || !self.open.is_empty() || self.asked.initialize.is_some(),
            Role::LegacyPost(_) => !self.open.is_empty(),
            Role::Stream => true,
            _ => false,
        };
        if expects {
            self.answer.is_encoded = headers.contains_key(header::CONTENT_ENCODING);
            let read = if self.answer.is_encoded { Reader::for_headers } else { Reader::for_plain };
            self.answer.reader = read(headers, self.spare.take());
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
        let (session, forgotten) = self.instance.sessions.get_or_insert(id.as_bytes(), now);
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

    /// A stream with `Last-Event-ID` brings the answers that an ended one owed.
    fn resume(&mut self) {
        if let (Some(id), Some(session)) = (&self.facts.last_event_id, &self.session) {
            self.open = session.adopt(hash_event_id(id.as_bytes()));
            self.asked.requests = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
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
            let calls = self.instance.sessions.remove(id.as_bytes(), status);
            self.end_session_calls(calls, status, now);
        }
    }

    /// Calls that were asked on other exchanges, of a session that is over: this exchange's head, status and bytes
    /// are not theirs.
    pub(super) fn end_session_calls(&mut self, calls: Vec<OpenCall>, status: Status, now: Tick) {
        for call in calls {
            // A session ends by its client's will, or because the server has forgotten it.
            let origin = if status == Status::Cancelled { Origin::Client } else { Origin::Upstream };
            let outcome = crate::outcome::Outcome::new(status, StatusDetail::SessionEnded, origin);
            self.finished.push_back(Finished { record: call.finish(outcome, now), answered_at: None });
        }
    }

    pub(super) fn read_response(&mut self, bytes: &[u8], now: Tick) {
        if !self.answer.is_encoded {
            self.keep_error_body(bytes);
        }
        let mut reader = std::mem::replace(&mut self.answer.reader, Reader::BLIND);
        reader.read(bytes, now, |read| self.take_read(read, now));
        let passive = matches!(self.role, Role::Stream) && self.answer.events > 0 && self.open.is_empty();
        if !passive {
            self.answer.reader = reader;
        }
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
                if let Some(id) = id {
                    let ids = &mut self.answer.event_ids;
                    if ids.len() == MAX_EVENT_IDS {
                        ids.remove(0);
                    }
                    ids.push(hash_event_id(id));
                }
            }
            Read::Decoded(bytes) => self.keep_error_body(bytes),
            Read::Endpoint(value) => self.announce_endpoint(value, now),
            Read::Message { message, framing, bytes, at } => {
                if message.kind() == Kind::Response {
                    self.take_answer(message, framing, bytes, at);
                }
            }
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
        let (conversation, forgotten) = self.instance.endpoints.get_or_insert(endpoint.as_bytes(), now);
        conversation.open_stream();
        self.session = Some(Arc::clone(&conversation));
        self.role = Role::LegacyStream { conversation, endpoint: endpoint.into() };
        self.end_session_calls(forgotten, Status::UpstreamError, now);
    }

    fn take_answer(&mut self, message: &Message, framing: Framing, bytes: u64, at: Tick) {
        let id = message.id();
        if self.take_initialized(message, &id) {
            return;
        }
        let found = match &self.role {
            Role::LegacyStream { conversation, .. } => conversation.take_answered(&id),
            _ => self.open.take_on_exchange(&id, self.asked.requests),
        };
        let framing = if self.is_batch() && framing == Framing::Sse { Framing::BatchSse } else { framing };
        if let Some((call, kind)) = found {
            self.finish(call, Some(at), |call| call.answer(message, kind, framing, bytes, at));
        } else if self.is_batch() && message.has_error() && id == IdToken::Missing {
            // One bare error answers the whole batch.
            for call in self.open.take_all() {
                self.finish(call, Some(at), |call| {
                    call.answer(message, MatchKind::Positional, framing, bytes, at)
                });
            }
        } else if matches!(self.role, Role::LegacyStream { .. }) {
            self.instance.count_orphan();
        }
    }

    /// The answer to `initialize` tells the session's version, whatever the client had asked for.
    fn take_initialized(&mut self, message: &Message, id: &IdToken) -> bool {
        let info = match &self.role {
            Role::LegacyStream { conversation, .. } => conversation.take_initialize(id),
            _ => self.asked.initialize.take_if(|(asked, _)| asked == id).map(|(_, info)| info),
        };
        let Some(info) = info else { return false };
        if let Some(session) = self.session.as_ref().filter(|_| !message.has_error()) {
            let protocol_version = message.text(Leaf::ResultVersion).map(super::facts::keep_name);
            // A session is opened once; a second answer to the same request says nothing new.
            let _ = session.info.set(SessionInfo { protocol_version, ..info });
        }
        true
    }

    const fn is_batch(&self) -> bool {
        self.asked.requests > 1
    }
}
