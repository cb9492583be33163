//! The request's side of an exchange: from its messages to open calls.

use super::{
    Asked, Exchange, Role,
    facts::{Facts, keep_id, keep_name, name_of},
};
use crate::{
    call::{CallRecord, MODERN, Text, Tick},
    conversation::{Cancel, MAX_CANCELS, SessionInfo, hash_secret},
    correlator::OpenCall,
    decoder::Coding,
    instance::{Head, Instance},
    jsonrpc::{IdToken, Kind, Leaf, Message},
    outcome::hash_leaf,
    trace::TraceParent,
    word::{Method, Transport},
};

/// What a Streamable HTTP request without a version means (specification 2025-06-18, basic/transports).
const ASSUMED_VERSION: &str = "2025-03-26";
/// The most calls recorded of one exchange. Only a batch (2025-03-26) can have more than one; what is beyond this
/// is counted as lost, because a body must not decide how much memory and time its calls take.
const MAX_CALLS: usize = 1000;

impl Asked {
    /// A body in which calls may be.
    pub(super) fn begin(instance: &Instance, facts: &Facts, head: &Head<'_>) -> Self {
        let (coding, decoding) = match facts.is_encoded {
            true => instance.begin_decoding(head.headers),
            false => (Coding::Plain, None),
        };
        Self { scanner: Some(instance.new_scanner()), coding, _decoding: decoding, ..Self::default() }
    }

    /// A body that nobody reads, or none.
    pub(super) fn nothing() -> Self {
        Self { done: true, ..Self::default() }
    }
}

impl Exchange {
    pub(super) fn read_request(&mut self, bytes: &[u8], now: Tick) {
        match std::mem::take(&mut self.asked.coding) {
            Coding::Plain => self.scan_request(bytes, now),
            Coding::Known(mut decoder) => {
                let decoded = decoder.decode(bytes, |piece| self.scan_request(piece, now));
                self.asked.coding = if decoded.is_ok() { Coding::Known(decoder) } else { Coding::Unknown };
            }
            Coding::Unknown => self.asked.coding = Coding::Unknown,
        }
    }

    pub(super) fn scan_request(&mut self, mut bytes: &[u8], now: Tick) {
        let Some(mut scanner) = self.asked.scanner.take() else { return };
        while let Some(message) = scanner.next_message(&mut bytes) {
            self.asked.messages += 1;
            match (message.kind(), message.method()) {
                (Kind::Request, Some(method)) => {
                    self.asked.requests += 1;
                    self.take_request(method, message, now);
                }
                (Kind::Notification, Some("notifications/cancelled")) => self.take_cancel(message, now),
                _ => {}
            }
        }
        self.asked.scanner = Some(scanner);
        if self.ended {
            self.end_late_calls(now);
        }
    }

    fn take_request(&mut self, method: &str, message: &Message, now: Tick) {
        if let Some(method) = Method::of_request(method) {
            if self.open.len() + self.asked.posted.len() >= MAX_CALLS {
                self.unrecorded += 1;
                return;
            }
            self.open_call(method, message, now);
            return;
        }
        match method {
            "initialize" => self.note_initialize(message),
            "subscriptions/listen" => self.asked.listens = true,
            _ => self.take_task_request(method, message),
        }
    }

    /// A call begins.
    fn open_call(&mut self, method: Method, message: &Message, now: Tick) {
        let redactor = self.redactor();
        let mut record =
            self.facts.begin_record(&redactor, &self.instance.identity, method, self.asked.requests);
        record.tool_name = name_of(&redactor, message, Leaf::Name).filter(|_| method == Method::ToolsCall);
        record.input_bytes = message.bytes;
        record.batch_index = message.batch_index;
        record.rpc_id = keep_id(&redactor, message);
        record.header_mismatch = self.differs_from_headers(method, message.text(Leaf::Name));
        let info = self.session.as_ref().and_then(|session| session.info.get());
        record.protocol_version = self.version_of(message, info);
        let client = |leaf, of_session: fn(&SessionInfo) -> &Option<Text>| {
            name_of(&redactor, message, leaf).or_else(|| info.and_then(|info| of_session(info).clone()))
        };
        record.client_name = client(Leaf::MetaClientName, |info| &info.client_name);
        record.client_version = client(Leaf::MetaClientVersion, |info| &info.client_version);
        record.session_hash = self.session_hash();
        let state = hash_leaf(message, Leaf::ParamsRequestState);
        record.mrtr_group = state.map(|state| self.instance.memory.rounds.group_of(state));
        let header = self.facts.traceparent.as_ref().and_then(|value| value.to_str().ok());
        let parent = message.text(Leaf::Traceparent).and_then(TraceParent::parse);
        if let Some(parent) = parent.or_else(|| header.and_then(TraceParent::parse)) {
            parent.join(&mut record);
        }
        self.push_call(record, message, now);
    }

    /// What a record says instead of the session's id.
    fn session_hash(&self) -> Option<Text> {
        match (&self.session, &self.facts.session_id) {
            (Some(session), _) => Some(Text::clone(&session.hash)),
            (None, Some(id)) => Some(hash_secret(id.as_bytes())),
            (None, None) => None,
        }
    }

    /// Puts a call where its answer will be looked for.
    fn push_call(&mut self, mut record: Box<CallRecord>, message: &Message, asked_at: Tick) {
        if let Some(opened) = &mut self.opened {
            opened.push(record.id);
        }
        record.bodies = self.instance.memory.keeping.begin(message, self.facts.own_secrets());
        let mut call = OpenCall {
            record,
            id: message.id(),
            began_at: self.facts.began_at,
            asked_at,
            progress_token: IdToken::Missing,
            soft_key: None,
        };
        self.name_transports(&mut call.record);
        match &self.role {
            Role::LegacyPost(conversation) => {
                self.asked.posted.push(call.record.id);
                // The stream may have closed since this POST began; then nobody will answer.
                if let Err((call, status)) = conversation.push_open(call) {
                    self.end_session_calls(vec![call], status, asked_at);
                }
            }
            Role::Pipe { .. } => {
                call.progress_token = message.id_token(Leaf::MetaProgressToken);
                self.open.push(call);
            }
            _ => {
                if self.is_outside_session() && !call.record.is_modern() {
                    let key = self.facts.soft_key(&self.instance.memory.outside_session, &call.id);
                    self.instance.memory.outside_session.begin(key);
                    call.soft_key = Some(key);
                }
                self.open.push(call);
            }
        }
    }

    pub(super) fn name_transports(&self, record: &mut CallRecord) {
        match &self.role {
            Role::LegacyPost(_) => {
                record.transport_type = Transport::Sse;
                record.client_transport = Transport::Sse;
            }
            Role::Pipe { .. } => record.client_transport = Transport::Stdio,
            _ => {}
        }
        if let Some(transport) = self.instance.transport {
            record.transport_type = transport;
        }
    }

    /// Whether the client speaks without a session, so that its cancellations say next to nothing.
    const fn is_outside_session(&self) -> bool {
        self.session.is_none() && self.facts.session_id.is_none()
    }

    /// `_meta`, then the header, then what the session agreed on, then what the specification assumes.
    fn version_of(&self, message: &Message, info: Option<&SessionInfo>) -> Option<Text> {
        let agreed = info.and_then(|info| info.protocol_version.as_ref());
        let header = self.facts.protocol_version.as_ref().and_then(|value| value.to_str().ok());
        let stated = message.text(Leaf::MetaVersion).or(header);
        match (stated, agreed) {
            (Some(stated), Some(agreed)) if *stated == **agreed => Some(Text::clone(agreed)),
            (Some(stated), _) => name_of(&self.redactor(), message, Leaf::MetaVersion)
                .or_else(|| Some(keep_name(&self.redactor(), stated))),
            (None, Some(agreed)) => Some(Text::clone(agreed)),
            (None, None) if matches!(self.role, Role::LegacyPost(_) | Role::Pipe { .. }) => None,
            (None, None) => Some(ASSUMED_VERSION.into()),
        }
    }

    /// Whether `Mcp-Method` or `Mcp-Name` say something else than the body. Observed, never enforced.
    fn differs_from_headers(&self, method: Method, tool: Option<&str>) -> bool {
        let announced = self.facts.mcp_method.as_ref();
        announced.is_some_and(|announced| announced.as_bytes() != method.as_str().as_bytes())
            || (method == Method::ToolsCall
                && self.facts.announced_tool().is_some_and(|announced| Some(announced.as_str()) != tool))
    }

    fn note_initialize(&mut self, message: &Message) {
        let client = SessionInfo {
            protocol_version: None,
            client_name: name_of(&self.redactor(), message, Leaf::ClientName),
            client_version: name_of(&self.redactor(), message, Leaf::ClientVersion),
        };
        match &self.role {
            Role::LegacyPost(conversation) | Role::Pipe { conversation, .. } => {
                conversation.begin_initialize(message.id(), client);
            }
            _ => self.asked.initialize = Some((message.id(), client)),
        }
    }

    fn take_cancel(&mut self, message: &Message, at: Tick) {
        let reason = name_of(&self.redactor(), message, Leaf::Reason);
        let cancel = Cancel { id: message.id_token(Leaf::RequestId), reason, at };
        match &self.session {
            Some(session) => session.note_cancel(cancel),
            None if self.facts.session_id.is_some() && self.asked.cancels.len() < MAX_CANCELS => {
                self.asked.cancels.push(cancel);
            }
            // A client of 2026-07-28 cancels by closing the stream, and its ids say nothing outside of its exchange.
            None if self.is_outside_session() && !self.states_modern() => {
                let outside = &self.instance.memory.outside_session;
                outside.note_cancel(self.facts.soft_key(outside, &cancel.id), cancel.reason, at);
            }
            None => {}
        }
    }

    fn states_modern(&self) -> bool {
        self.facts.protocol_version.as_ref().is_some_and(|version| version.as_bytes() >= MODERN.as_bytes())
    }

    pub(super) fn end_request(&mut self, now: Tick) {
        if std::mem::replace(&mut self.asked.done, true) {
            return;
        }
        let Some(mut scanner) = self.asked.scanner.take() else { return };
        let batch_size = scanner.batch_size();
        // The length of the message is that of the plain body.
        let message_bytes = if self.asked.messages > 0 { scanner.consumed() } else { self.asked.bytes };
        scanner.restart();
        self.spare = Some(scanner);
        if self.asked.messages == 0 {
            self.open_announced_call(now);
        }
        let bytes = self.asked.bytes;
        for call in self.open.iter_mut() {
            call.record.batch_size = batch_size;
            call.record.http_request_bytes = Some(bytes);
            if batch_size.is_none() {
                call.record.input_bytes = message_bytes;
            }
        }
    }

    /// The body could not be read, but its headers say that there is a call in it (2026-07-28).
    fn open_announced_call(&mut self, now: Tick) {
        let method =
            self.facts.mcp_method.as_ref().and_then(|method| Method::of_request(method.to_str().ok()?));
        let Some(method) = method else { return };
        let redactor = self.redactor();
        let mut record = self.facts.begin_record(&redactor, &self.instance.identity, method, 0);
        let tool = self.facts.announced_tool().filter(|_| method == Method::ToolsCall);
        record.tool_name = tool.map(|tool| keep_name(&redactor, &tool));
        record.protocol_version = self.version_of(&Message::default(), None);
        self.push_call(record, &Message::default(), now);
    }

    /// The exchange ends before its request was read to the end: the call counts all the same if enough of it
    /// was read to know it.
    pub(super) fn open_partial_call(&mut self) {
        if self.asked.done || self.asked.messages > 0 {
            return;
        }
        let Some(scanner) = self.asked.scanner.take() else { return };
        let partial = scanner.partial_message();
        // With the answer before the question's end, the question's instant is that of its head.
        let asked_at = self.facts.began_at;
        match partial.and_then(|message| Some((Method::of_request(message.method()?)?, message))) {
            Some((method, message)) => self.open_call(method, message, asked_at),
            None if self.facts.mcp_method.is_some() => self.open_announced_call(asked_at),
            // What it is may still be read, behind its answer.
            None => {
                self.asked.scanner = Some(scanner);
                return;
            }
        }
        self.asked.done = true;
    }
}
