//! What the head of a request says about the calls that may be in its body. Header values are kept by
//! reference count and only become text when there is a call to record.

use crate::{
    call::{CallId, CallRecord, Text, Tick, Timestamp},
    instance::{Caller, Head, Identity},
    jsonrpc::{IdToken, Leaf, Message},
    outcome::words_of,
    outside_session::{OutsideSession, SoftKey},
    redact::{End, Redactor, own},
    word::{AuthMethod, AuthState, Method},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// The most bytes of a user agent, a tool's or a client's name.
const MAX_NAME: usize = 256;

/// The longest id that a record shows.
const MAX_RPC_ID: usize = 64;

const SESSION_ID: &str = "mcp-session-id";

#[derive(Debug)]
pub(super) struct Facts {
    pub(super) created_at: Timestamp,
    pub(super) began_at: Tick,
    entropy: u128,
    /// Path and query, where a stream may announce an endpoint relative to them.
    pub(super) target: Option<Box<str>>,
    client_ip: Option<Text>,
    caller: Option<Arc<Caller>>,
    /// The limits that apply to the exchange, and what is left of them, as a JSON document.
    pub(super) rate_limit_state: Option<Text>,
    user_agent: Option<HeaderValue>,
    pub(super) session_id: Option<HeaderValue>,
    pub(super) last_event_id: Option<HeaderValue>,
    pub(super) protocol_version: Option<HeaderValue>,
    pub(super) mcp_method: Option<HeaderValue>,
    mcp_name: Option<HeaderValue>,
    pub(super) traceparent: Option<HeaderValue>,
    /// To tell clients without a session apart; forgotten with the exchange.
    credentials: Option<HeaderValue>,
    /// The request has a `Content-Encoding`.
    pub(super) is_encoded: bool,
}

impl Facts {
    pub(super) fn of_head(head: &Head<'_>) -> Self {
        let mut facts = Self {
            target: (head.method == http::Method::GET).then(|| head.target.into()),
            client_ip: head.client_ip.clone(),
            caller: head.caller.clone(),
            ..Self::new(head.created_at, head.at, head.entropy)
        };
        // One walk over the few headers there are is cheaper than nine searches.
        for (name, value) in head.headers {
            facts.note_header(name, value);
        }
        facts
    }

    /// Of a pipe there is no head; each of its lines has its instants.
    pub(super) fn of_pipe(entropy: u128, now: Tick) -> Self {
        Self::new(Timestamp::default(), now, entropy)
    }

    const fn new(created_at: Timestamp, began_at: Tick, entropy: u128) -> Self {
        Self {
            created_at,
            began_at,
            entropy,
            target: None,
            client_ip: None,
            caller: None,
            rate_limit_state: None,
            user_agent: None,
            session_id: None,
            last_event_id: None,
            protocol_version: None,
            mcp_method: None,
            mcp_name: None,
            traceparent: None,
            credentials: None,
            is_encoded: false,
        }
    }

    /// Of a header that comes several times the first counts.
    fn note_header(&mut self, name: &HeaderName, value: &HeaderValue) {
        let fact = match name.as_str() {
            "user-agent" => &mut self.user_agent,
            SESSION_ID => &mut self.session_id,
            "last-event-id" => &mut self.last_event_id,
            "mcp-protocol-version" => &mut self.protocol_version,
            "mcp-method" => &mut self.mcp_method,
            "mcp-name" => &mut self.mcp_name,
            "traceparent" => &mut self.traceparent,
            "authorization" | "x-api-key" => &mut self.credentials,
            "content-encoding" => {
                self.is_encoded = true;
                return;
            }
            _ => return,
        };
        fact.get_or_insert_with(|| value.clone());
    }

    /// Keeps copies from here on. What a header's value is a part of is all that was read with it, and a stream lasts.
    pub(super) fn let_go_of_head(&mut self) {
        let facts = [
            &mut self.user_agent,
            &mut self.session_id,
            &mut self.last_event_id,
            &mut self.protocol_version,
            &mut self.mcp_method,
            &mut self.mcp_name,
            &mut self.traceparent,
            &mut self.credentials,
        ];
        for value in facts.into_iter().flatten() {
            *value = HeaderValue::from_bytes(value.as_bytes()).expect("it was one");
        }
    }

    /// The tool that `Mcp-Name` announces (2026-07-28), decoded.
    pub(super) fn announced_tool(&self) -> Option<String> {
        let value = self.mcp_name.as_ref()?.to_str().ok()?;
        let encoded = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
        match encoded {
            Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok(),
            None => Some(value.to_owned()),
        }
    }

    /// Random bits for one of several ids of the exchange.
    pub(super) const fn entropy_of(&self, ordinal: u32) -> u128 {
        self.entropy.wrapping_add((ordinal as u128) << 48)
    }

    /// What a client without a session is known by where it uses this id.
    pub(super) fn soft_key(&self, outside: &OutsideSession, id: &IdToken) -> SoftKey {
        outside.key(self.credentials.as_ref().map(HeaderValue::as_bytes), self.client_ip.as_deref(), id)
    }

    /// A record that says what is known before the body's message is: `ordinal` tells the calls of one
    /// exchange apart.
    pub(super) fn begin_record(
        &self,
        redactor: &Redactor,
        identity: &Identity,
        method: Method,
        ordinal: u32,
    ) -> Box<CallRecord> {
        let user_agent = self
            .user_agent
            .as_ref()
            .map(|agent| keep_name(redactor, &String::from_utf8_lossy(agent.as_bytes())));
        let id = CallId::new(self.created_at, self.entropy_of(ordinal));
        let mut record = Box::new(CallRecord::begin(id, self.created_at, method, identity));
        self.tell_caller(&mut record);
        record.rate_limit_state = self.rate_limit_state.clone();
        record.client_ip = self.client_ip.clone();
        record.user_agent = user_agent;
        record
    }

    /// What the client has shown in this head, as its server may repeat it: the session's id, and the credentials without
    /// their scheme.
    pub(super) fn own_secrets(&self) -> impl Iterator<Item = &str> {
        fn text(value: &Option<HeaderValue>) -> Option<&str> {
            value.as_ref()?.to_str().ok()
        }
        let credentials = text(&self.credentials).and_then(|shown| shown.split_whitespace().last());
        [text(&self.session_id), credentials]
            .into_iter()
            .flatten()
            .filter(|secret| own::is_long_enough(secret))
    }

    /// Takes them out of what a record says of a failure.
    pub(super) fn hide_own_secrets(&self, record: &mut CallRecord) {
        for text in [&mut record.error_message, &mut record.error_detail].into_iter().flatten() {
            for secret in self.own_secrets() {
                if let Cow::Owned(without) = own::without(text, secret) {
                    *text = without.into();
                }
            }
        }
    }

    /// How the caller proved who it is, and what came of that.
    pub(super) fn auth(&self) -> (AuthMethod, AuthState) {
        match &self.caller {
            Some(caller) => (caller.auth_method, caller.auth_state),
            None if self.credentials.is_some() => (AuthMethod::Passthrough, AuthState::Unverified),
            None => (AuthMethod::None, AuthState::Missing),
        }
    }

    fn tell_caller(&self, record: &mut CallRecord) {
        (record.auth_method, record.auth_state) = self.auth();
        let Some(caller) = &self.caller else { return };
        record.api_key_id = caller.api_key_id.clone();
        record.user_id = caller.user_id.clone().or_else(|| record.user_id.take());
        record.organization_id = caller.organization_id.clone().or_else(|| record.organization_id.take());
    }
}

/// The session that a response opens.
pub(super) fn session_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(SESSION_ID)
}

/// A name as a record keeps it.
pub(super) fn keep_name(redactor: &Redactor, name: &str) -> Text {
    redactor.keep(name, MAX_NAME, End::Whole)
}

/// The same for a name in a message.
pub(super) fn name_of(redactor: &Redactor, message: &Message, leaf: Leaf) -> Option<Text> {
    words_of(message, leaf).map(|(name, end)| redactor.keep(name, MAX_NAME, end))
}

/// The id of a request as it was written. A number is what a client has counted; a text could be anything.
pub(super) fn keep_id(redactor: &Redactor, message: &Message) -> Option<Text> {
    let id = message.raw_id()?;
    let is_number =
        id.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'));
    if is_number {
        return Some(id[..id.floor_char_boundary(MAX_RPC_ID)].into());
    }
    Some(redactor.keep(&id, MAX_RPC_ID, End::of(message.is_truncated(Leaf::Id))))
}

/// An event id, to be recognised again but not to be kept.
pub(super) fn hash_event_id(id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
