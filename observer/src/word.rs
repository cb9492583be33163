//! The closed vocabularies of a record: each word is spelled once, here, for Rust, SQL, metrics and pages.
//!
//! A word that is stored never changes its spelling, and the order of the variants is part of the outbox
//! format (journal): new words go to the end.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A text that is none of a vocabulary's words.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownWord {
    /// What was read.
    pub word: String,
    /// What could have been written instead.
    pub known: &'static [&'static str],
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown word \"{}\": expected one of {}", self.word, self.known.join(", "))
    }
}

impl std::error::Error for UnknownWord {}

/// Declares one closed vocabulary: the enum, its spelling, and the way back.
macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$word_doc])* $variant,)+ }

        impl $name {
            /// Every word, in the order of the variants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The spelling of every word, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($text,)+];

            /// The word as it is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.as_str()) }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownWord { word: text.to_owned(), known: Self::WORDS }),
                }
            }
        }
    };
}

vocabulary! {
    /// What a record's call asked for.
    Method {
        /// `tools/list`: one row per page that a client asks for.
        ToolsList = "tools/list",
        /// `tools/call`.
        ToolsCall = "tools/call",
        /// A request that was refused before a call could be seen in it: only with `denied` and `limited`.
        Unknown = "unknown",
    }
}

impl Method {
    /// The method of a JSON-RPC request, if such requests become records.
    pub fn of_request(method: &str) -> Option<Self> {
        method.parse().ok().filter(|method| *method != Self::Unknown)
    }
}

vocabulary! {
    /// How a call ended.
    Status {
        /// A result whose `isError` is not literally `true`.
        Ok = "ok",
        /// The server asks for more input before it can finish (2026-07-28, `resultType: "input_required"`).
        InputRequired = "input_required",
        /// The server answered with a task; its end is another row.
        TaskCreated = "task_created",
        /// `result.isError` is `true`.
        ToolError = "tool_error",
        /// A JSON-RPC error, whatever the HTTP status.
        RpcError = "rpc_error",
        /// HTTP status 400 or above without a JSON-RPC body.
        HttpError = "http_error",
        /// The upstream could not be reached, was reset, died, or ended without an answer.
        UpstreamError = "upstream_error",
        /// A configured limit of time fired.
        Timeout = "timeout",
        /// The client cancelled or left.
        Cancelled = "cancelled",
        /// Refused by the proxy: credentials or policy.
        Denied = "denied",
        /// Refused by the proxy: rate or quota.
        Limited = "limited",
    }
}

impl Status {
    /// Whether the call counts as failed in an error rate. Refused and cancelled calls do not: they are
    /// shown beside the rate and never mixed in.
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::ToolError | Self::RpcError | Self::HttpError | Self::UpstreamError | Self::Timeout
        )
    }
}

vocabulary! {
    /// The finer word behind a status, where there is one.
    StatusDetail {
        /// A success status, but nothing in it that answers the request (202, empty body, ended stream).
        NoResponse = "no_response",
        /// The session ended (DELETE, or the stream of a legacy client closed) with the call open.
        SessionEnded = "session_ended",
        /// The answer's stream ended, could have been resumed, and never was.
        DetachedExpired = "detached_expired",
        /// No connection: refused, unresolved, or TLS failed; nothing was sent.
        Unreachable = "unreachable",
        /// The connection broke after the request was sent.
        Aborted = "aborted",
        /// The client went away before the head of the answer.
        ClientLeftBeforeHead = "client_left_before_head",
        /// The client went away in the middle of the answer.
        ClientLeftMidStream = "client_left_mid_stream",
        /// The client sent `notifications/cancelled` and no answer came.
        CancelNotified = "cancel_notified",
        /// The proxy was stopped before the answer came.
        ProxyShutdown = "proxy_shutdown",
        /// HTTP 404 to a request that named a session: the client has to initialise again.
        SessionLost = "session_lost",
        /// HTTP 401 or 403: the upstream wants (other) credentials.
        AuthChallenge = "auth_challenge",
        /// The body is in a form the observer does not read; the status is the HTTP status's word alone.
        Unread = "unread",
        /// The answer's SSE event was not ended by a blank line before the stream ended.
        Unterminated = "unterminated",
        /// JSON-RPC error -32042: the server needs the user to visit a URL first (2025-11-25).
        NeedsInput = "needs_input",
        /// Not a call of its own, but the end of a task: the row with status `task_created` and the same `task_hash` is
        /// its beginning.
        TaskEnd = "task_end",
        /// The proxy refused the caller's credentials, or there were none.
        Credentials = "credentials",
        /// The proxy's rules do not allow it to this caller.
        Policy = "policy",
    }
}

vocabulary! {
    /// Whose fault a failure is; absent on calls that did not fail.
    Origin {
        /// The caller: bad arguments, unknown tool, left early.
        Client = "client",
        /// mcpmeter itself: refused, or was stopped.
        Proxy = "proxy",
        /// The MCP server, or the way to it.
        Upstream = "upstream",
    }
}

vocabulary! {
    /// How MCP is spoken on one side of the proxy.
    Transport {
        /// Newline-delimited messages on a process's pipes.
        Stdio = "STDIO",
        /// HTTP+SSE, revision 2024-11-05: answers on a long GET.
        Sse = "SSE",
        /// Streamable HTTP, since revision 2025-03-26.
        StreamableHttps = "STREAMABLE_HTTPS",
    }
}

vocabulary! {
    /// How the answer travelled.
    Framing {
        /// The body is one JSON message.
        Json = "json",
        /// An SSE event.
        Sse = "sse",
        /// An element of a JSON array.
        BatchJson = "batch_json",
        /// An element of a JSON array inside an SSE event, or an event that answers part of a batch.
        BatchSse = "batch_sse",
        /// A line on a pipe.
        Line = "line",
    }
}

vocabulary! {
    /// How surely the answer belongs to the request.
    MatchKind {
        /// Same id, same type.
        Exact = "exact",
        /// By its place: the only request of the exchange, although the id differs or is missing.
        Positional = "positional",
        /// Same id but for its type, and no other candidate.
        Loose = "loose",
        /// Two requests in flight with one id: first in, first out.
        Fifo = "fifo",
        /// Two streams announced the same endpoint, so either could be meant.
        Ambiguous = "ambiguous",
        /// No answer was seen.
        None = "none",
    }
}

vocabulary! {
    /// How the caller proved who it is.
    AuthMethod {
        /// It presented no credentials.
        None = "none",
        /// A key that mcpmeter issued.
        ApiKey = "api_key",
        /// A JSON Web Token.
        Jwt = "jwt",
        /// A header set by a trusted network.
        Header = "header",
        /// Credentials that passed through untouched and unread.
        Passthrough = "passthrough",
    }
}

vocabulary! {
    /// What the check of the credentials said. What was not checked is never claimed to have been.
    AuthState {
        /// Checked and valid.
        Ok = "ok",
        /// None were presented.
        Missing = "missing",
        /// Checked and refused.
        Invalid = "invalid",
        /// Checked, once valid, no longer.
        Expired = "expired",
        /// Presented, but the proxy was not told to check them.
        Unverified = "unverified",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_finds_its_way_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(*status));
        }
        assert_eq!(Status::WORDS.len(), 11);
    }

    #[test]
    fn an_unknown_word_names_the_known_ones() {
        let error = "okay".parse::<Status>().unwrap_err();
        assert!(error.to_string().starts_with("unknown word \"okay\": expected one of ok, input_required"));
    }

    #[test]
    fn refused_and_cancelled_calls_are_not_failures() {
        let failures: Vec<_> = Status::ALL.iter().filter(|status| status.is_failure()).collect();
        assert_eq!(failures.len(), 5);
        assert!(
            !Status::Cancelled.is_failure() && !Status::Denied.is_failure() && !Status::Limited.is_failure()
        );
    }
}
