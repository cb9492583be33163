//! How long an exchange may take, if anybody wants to know: `first_byte_timeout_ms`, `total_timeout_ms` and
//! `stream_timeout_ms` of a route. Arms no timer where none is configured, and never cuts a stream by a limit that is
//! not for streams.

use crate::{
    identity::Standing,
    upstream::{UploadEnd, late},
};
use http::{HeaderMap, HeaderName, Method, request::Parts};
use mcpmeter_config::Route;
use mcpmeter_observer::Failure;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const MCP_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Revisions are dates, in the order of their letters.
const FIRST_WITH_LISTEN: &[u8] = b"2026-07-28";

/// What is configured for one exchange.
#[derive(Debug, Default)]
pub(crate) struct TimeLimits {
    first_byte: Option<Duration>,
    total: Option<Total>,
    /// What a stream hangs on beside its time.
    standing: Option<Standing>,
}

#[derive(Debug, Clone, Copy)]
struct Total {
    until: Instant,
    limit: Duration,
    code: &'static str,
}

impl TimeLimits {
    /// The limits of an exchange whose head has just come; a stream also ends with its caller's `standing`.
    pub(crate) fn of(route: &Route, parts: &Parts, standing: impl FnOnce() -> Option<Standing>) -> Self {
        if is_stream(parts) {
            let total = total(route.stream_timeout_ms, "stream_timeout");
            return Self { first_byte: None, total, standing: standing() };
        }
        Self {
            standing: None,
            first_byte: route.first_byte_timeout_ms.map(Duration::from_millis),
            total: total(route.total_timeout_ms, "total_timeout"),
        }
    }

    /// Whether the head of the answer is waited for with a limit.
    pub(crate) const fn apply_to_head(&self) -> bool {
        self.first_byte.is_some() || self.total.is_some()
    }

    /// Where the end of the upload is to be noted, if that matters.
    pub(crate) fn upload_end(&self) -> Option<UploadEnd> {
        self.first_byte.map(|_| UploadEnd::default())
    }

    /// Returns, with what to say, when a limit is reached before the head of the answer.
    pub(crate) async fn run_out(&self, upload_end: Option<UploadEnd>) -> Failure {
        let first_byte = async {
            let (Some(limit), Some(end)) = (self.first_byte, upload_end) else {
                return std::future::pending().await;
            };
            loop {
                // An upload that still goes on has the whole limit before it.
                let due = end.at().unwrap_or_else(Instant::now) + limit;
                sleep_until(due).await;
                if end.at().is_some_and(|at| at + limit <= due) {
                    return late("first_byte_timeout", limit);
                }
            }
        };
        let total = async {
            match self.total {
                Some(total) => sleep_until(total.until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            failure = first_byte => failure,
            () = total => self.total.map_or_else(|| late("total_timeout", Duration::ZERO), |total| total.failure()),
        }
    }

    /// The limit for what follows the head.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        (self.total.is_some() || self.standing.is_some())
            .then(|| Deadline { total: self.total, standing: self.standing.clone() })
    }
}

impl Total {
    fn failure(&self) -> Failure {
        late(self.code, self.limit)
    }
}

fn total(limit_ms: Option<u64>, code: &'static str) -> Option<Total> {
    let limit = Duration::from_millis(limit_ms?);
    Some(Total { until: Instant::now() + limit, limit, code })
}

/// A `GET` waits for what the server may say of itself, and `subscriptions/listen` (2026-07-28) is its successor.
/// The header is required there, and what the body says is compared with it (`permission`).
pub(crate) fn is_stream(parts: &Parts) -> bool {
    parts.method == Method::GET || claims_stream(&parts.method, &parts.headers)
}

/// Whether the head says that the body asks for a stream.
pub(crate) fn claims_stream(method: &Method, headers: &HeaderMap) -> bool {
    let only = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    method != Method::GET
        && only(MCP_METHOD).is_some_and(|method| method == "subscriptions/listen")
        && only(MCP_PROTOCOL_VERSION).is_some_and(|version| version.as_bytes() >= FIRST_WITH_LISTEN)
}

/// The end of the time that an answer has.
#[derive(Debug)]
pub(crate) struct Deadline {
    total: Option<Total>,
    standing: Option<Standing>,
}

impl Deadline {
    /// Returns, with what to say, when it has passed.
    pub(crate) async fn passed(self) -> Failure {
        let over = async {
            let Some(total) = self.total else { return std::future::pending().await };
            sleep_until(total.until).await;
            total.failure()
        };
        match self.standing {
            None => over.await,
            Some(standing) => tokio::select! {
                failure = over => failure,
                failure = standing.lost() => failure,
            },
        }
    }
}
