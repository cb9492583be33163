//! The record of one call: what a row of `mcp_server_request_log` says, before it is a row.
//!
//! A record is born when its request is understood, carries what is known so far, and is finished exactly
//! once. Every text in it is already capped, free of NUL and redacted. Durations are whole microseconds;
//! the journal turns them into the columns' milliseconds.

use crate::{
    body::HeldBodies,
    instance::Identity,
    word::{AuthMethod, AuthState, Framing, MatchKind, Method, Origin, Status, StatusDetail, Transport},
};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use uuid::Uuid;

/// The first revision without sessions.
pub(crate) const MODERN: &str = "2026-07-28";

/// A text that many records share (a route's identity, a session's client) or one owns.
pub type Text = Arc<str>;

/// The identity of a call: a UUID of version 7 (RFC 9562), so that ids sort by the start of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallId(pub Uuid);

impl CallId {
    /// The id of a call that began at `created_at`; `entropy` fills the bits that are not time.
    pub fn new(created_at: Timestamp, entropy: u128) -> Self {
        let millis = u64::try_from(created_at.0 / 1000).unwrap_or(0);
        let mut random = [0; 10];
        random.copy_from_slice(&entropy.to_be_bytes()[..10]);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An instant of the wall clock: microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The instant that many nanoseconds later.
    pub const fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add((nanos / 1000) as i64))
    }
}

/// An instant of the monotonic clock: nanoseconds since an origin that only its owner knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Nanoseconds from `earlier` to this; 0 if it is not earlier.
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The same in whole microseconds.
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.nanos_since(earlier) / 1000
    }
}

/// One `tools/list` or `tools/call`, from the head of its request to its outcome.
///
/// The fields stand in the order of the columns. They are also the outbox's format (journal): a field is
/// only ever added together with a new format version there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Made at the start of the call; returned nowhere on the wire.
    pub id: CallId,
    /// When the request's head arrived; never the time of storing.
    pub created_at: Timestamp,
    /// When the answer was complete, or the outcome decided. By the monotonic clock from `created_at`, so
    /// that a step of the wall clock cannot make it earlier.
    pub completed_at: Timestamp,
    /// Answer complete minus request complete, in microseconds.
    pub duration_us: u64,
    /// Upstream's response head minus request complete; absent where the head says nothing about the answer.
    pub ttfb_us: Option<u64>,
    /// First SSE event with data on the exchange minus request complete.
    pub first_event_us: Option<u64>,
    /// Time spent inside the proxy on the answer's last frame, from read to handed on.
    pub proxy_us: Option<u64>,
    /// Whose call it is.
    pub user_id: Option<Text>,
    /// The organisation of that user.
    pub organization_id: Option<Text>,
    /// The route's `instance_id`, or its name.
    pub mcp_server_instance_id: Text,
    /// `params.name` of a `tools/call`, at most 256 bytes.
    pub tool_name: Option<Text>,
    /// Which of the recorded methods.
    pub method: Method,
    /// How the instance is spoken to.
    pub transport_type: Transport,
    /// How the client spoke.
    pub client_transport: Transport,
    /// The protocol revision in force, for example `2025-11-25`.
    pub protocol_version: Option<Text>,
    /// How the call ended.
    pub status: Status,
    /// The finer word behind the status.
    pub status_detail: Option<StatusDetail>,
    /// Whose fault a failure is.
    pub origin: Option<Origin>,
    /// `-32602`, `http_502`, `connect_refused` …
    pub error_code: Option<Text>,
    /// At most 2 KiB.
    pub error_message: Option<Text>,
    /// A JSON document of at most 8 KiB: the server's `error.data`, the cause chain, …
    pub error_detail: Option<Text>,
    /// Of the exchange that carried the answer.
    pub http_status: Option<u16>,
    /// Bytes of the JSON-RPC request message.
    pub input_bytes: u64,
    /// Bytes of the JSON-RPC answer message; 0 where there was none.
    pub output_bytes: u64,
    /// Body bytes of the exchange as received; absent on channels shared by several calls.
    pub http_request_bytes: Option<u64>,
    /// Body bytes of the exchange as sent; absent on channels shared by several calls.
    pub http_response_bytes: Option<u64>,
    /// CPU time of the upstream's process over the call's window, in milliseconds.
    pub cpu_ms: Option<f64>,
    /// Whether other calls overlapped on that process, so that `cpu_ms` is a share; absent if it was not metered.
    pub cpu_shared: Option<bool>,
    /// The same as percent of one core.
    pub cpu_percent: Option<f64>,
    /// Resident set of the upstream's process at the end of the call.
    pub memory_bytes: Option<u64>,
    /// How the caller proved who it is.
    pub auth_method: AuthMethod,
    /// What the check said.
    pub auth_state: AuthState,
    /// The key's public id or a keyed hash; never the key.
    pub api_key_id: Option<Text>,
    /// A JSON document: limit, remaining, reset, as applied to this call.
    pub rate_limit_state: Option<Text>,
    /// Minimised as configured before it gets here.
    pub client_ip: Option<Text>,
    /// At most 256 bytes.
    pub user_agent: Option<Text>,
    /// `clientInfo.name` of the session or the request.
    pub client_name: Option<Text>,
    /// `clientInfo.version` of the session or the request.
    pub client_version: Option<Text>,
    /// A hash of the session's key; never the session id.
    pub session_hash: Option<Text>,
    /// W3C trace id of the caller's context, 32 hexadecimal digits.
    pub trace_id: Option<Text>,
    /// This call's span in that trace, 16 hexadecimal digits.
    pub span_id: Option<Text>,
    /// The caller's span.
    pub parent_span_id: Option<Text>,
    /// The raw JSON token of the request's id (`1`, `"1"`), at most 64 bytes.
    pub rpc_id: Option<Text>,
    /// How the answer travelled.
    pub framing: Option<Framing>,
    /// How surely the answer is this request's.
    pub match_kind: MatchKind,
    /// Elements of the batch the request came in; absent outside a batch.
    pub batch_size: Option<u32>,
    /// This request's place in its batch, from 0.
    pub batch_index: Option<u32>,
    /// Tools in the answer of a `tools/list`.
    pub tool_count: Option<u32>,
    /// How often the answer came again before the record was handed over. That happens at once, so that a kill loses
    /// nothing; what a resumed stream brings again later only [`Instance::redelivered`](crate::Instance::redelivered)
    /// counts.
    pub redelivered: u32,
    /// The client closed the exchange before its end.
    pub client_left: bool,
    /// A cancellation was seen, whatever came of it.
    pub cancel_requested: bool,
    /// `Mcp-Method` or `Mcp-Name` said something else than the body.
    pub header_mismatch: bool,
    /// A hash of the task's id, which ties `task_created` to the task's end.
    pub task_hash: Option<Text>,
    /// A hash of the `requestState`, which ties the rounds of one multi round-trip request together.
    pub mrtr_group: Option<Text>,
    /// The messages themselves, where they are kept: beside the record on its way, and no part of it.
    #[serde(skip)]
    pub bodies: Option<Arc<HeldBodies>>,
}

impl CallRecord {
    /// A record of which nothing is known but how it began. Should nothing more ever be learned of it, it says
    /// that the upstream did not answer.
    pub fn begin(id: CallId, created_at: Timestamp, method: Method, identity: &Identity) -> Self {
        Self {
            id,
            created_at,
            completed_at: created_at,
            duration_us: 0,
            ttfb_us: None,
            first_event_us: None,
            proxy_us: None,
            user_id: identity.user_id.clone(),
            organization_id: identity.organization_id.clone(),
            mcp_server_instance_id: identity.instance_id.clone(),
            tool_name: None,
            method,
            transport_type: Transport::StreamableHttps,
            client_transport: Transport::StreamableHttps,
            protocol_version: None,
            status: Status::UpstreamError,
            status_detail: None,
            origin: None,
            error_code: None,
            error_message: None,
            error_detail: None,
            http_status: None,
            input_bytes: 0,
            output_bytes: 0,
            http_request_bytes: None,
            http_response_bytes: None,
            cpu_ms: None,
            cpu_shared: None,
            cpu_percent: None,
            memory_bytes: None,
            auth_method: AuthMethod::None,
            auth_state: AuthState::Missing,
            api_key_id: None,
            rate_limit_state: None,
            client_ip: None,
            user_agent: None,
            client_name: None,
            client_version: None,
            session_hash: None,
            trace_id: None,
            span_id: None,
            parent_span_id: None,
            rpc_id: None,
            framing: None,
            match_kind: MatchKind::None,
            batch_size: None,
            batch_index: None,
            tool_count: None,
            redelivered: 0,
            client_left: false,
            cancel_requested: false,
            header_mismatch: false,
            task_hash: None,
            mrtr_group: None,
            bodies: None,
        }
    }

    /// Whether it was asked in a revision without sessions, resumption and notified cancellation: there, leaving the
    /// stream is cancelling.
    pub(crate) fn is_modern(&self) -> bool {
        self.protocol_version.as_deref().is_some_and(|version| version >= MODERN)
    }

    /// The histogram bucket of the duration.
    pub const fn latency_bucket(&self) -> i16 {
        crate::latency::bucket_of(self.duration_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_are_version_7() {
        let early = CallId::new(Timestamp(1_700_000_000_000_000), u128::MAX);
        let late = CallId::new(Timestamp(1_700_000_000_001_000), 0);
        assert!(early < late);
        assert_eq!((early.0.get_version_num(), late.0.get_version_num()), (7, 7));
    }
}
