//! How a request stands with a limit or a quota, in the words of rows and headers; and the answer to one too many.
//!
//! The headers are those of draft-ietf-httpapi-ratelimit-headers-11. They go out with a refusal only: an answer of the
//! server's passes as it is.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use std::time::Duration;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// When to come again where nobody can know.
const SOON: Duration = Duration::from_secs(1);

/// How a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The limit's.
    name: Box<str>,
    /// How many calls it lets through, in the window if it has one, or else at a time.
    limit: u64,
    window_s: Option<u64>,
    /// How many more there is room for.
    remaining: u64,
    /// In how many seconds there is room for more than that; unknown where it depends on calls that run.
    reset_s: Option<u64>,
}

/// What keeps a request from going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limited {
    state: State,
    retry_after_s: u64,
    /// Whether it could pass later, as it is.
    ever: bool,
    code: &'static str,
}

impl State {
    /// Of a rate: the window is the time in which the whole burst comes back.
    pub(super) fn of_rate(name: &str, burst: u32, window: Duration, left: u32, interval: Duration) -> Self {
        Self {
            name: name.into(),
            limit: u64::from(burst),
            window_s: Some(round_up(window)),
            remaining: u64::from(left),
            reset_s: Some(round_up(interval)),
        }
    }

    pub(super) fn of_concurrency(name: &str, most: u32, left: u32) -> Self {
        Self {
            name: name.into(),
            limit: u64::from(most),
            window_s: None,
            remaining: u64::from(left),
            reset_s: None,
        }
    }

    /// Of a quota, which comes back as a whole.
    pub(crate) fn of_quota(name: &str, calls: u64, window: Duration, left: u64, reset: Duration) -> Self {
        Self {
            name: name.into(),
            limit: calls,
            window_s: Some(round_up(window)),
            remaining: left,
            reset_s: Some(round_up(reset)),
        }
    }

    /// The one of which the smaller part is left.
    pub(crate) fn tightest(one: Option<Self>, other: Self) -> Option<Self> {
        let product = |left: u64, limit: u64| u128::from(left) * u128::from(limit);
        match one {
            Some(one) if product(one.remaining, other.limit) <= product(other.remaining, one.limit) => {
                Some(one)
            }
            _ => Some(other),
        }
    }

    /// For `rate_limit_state` of a row.
    pub(crate) fn to_json(&self) -> Value {
        let Self { name, limit, window_s, remaining, reset_s } = self;
        json!({ "name": name, "limit": limit, "window_s": window_s, "remaining": remaining, "reset_s": reset_s })
    }
}

impl Limited {
    pub(super) fn by_rate(state: State, wait: Duration, ever: bool) -> Self {
        let retry_after_s = round_up(wait);
        let state = State { reset_s: Some(retry_after_s), ..state };
        Self { state, retry_after_s, ever, code: "rate_limited" }
    }

    pub(super) fn by_concurrency(name: &str, most: u32, left: u32, ever: bool) -> Self {
        let state = State::of_concurrency(name, most, left);
        Self { state, retry_after_s: round_up(SOON), ever, code: "concurrency_limited" }
    }

    pub(crate) fn by_quota(state: State, wait: Duration, ever: bool) -> Self {
        Self { state, retry_after_s: round_up(wait), ever, code: "quota_exceeded" }
    }

    /// For `error_code` of a row: `rate_limited`, `concurrency_limited` or `quota_exceeded`.
    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    /// In how many seconds there may be room, never 0.
    pub(crate) const fn retry_after_s(&self) -> u64 {
        self.retry_after_s
    }

    /// What was applied.
    #[cfg(test)]
    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// For `rate_limit_state` of a row.
    pub(crate) fn to_json(&self) -> Value {
        let mut value = self.state.to_json();
        value["retry_after_s"] = json!(self.retry_after_s);
        value
    }

    /// One line for a person.
    pub(crate) fn text(&self) -> String {
        let State { name, limit, .. } = &self.state;
        match (self.ever, self.state.window_s) {
            (false, _) => format!("a batch may not have more than {limit} calls here (limit {name})"),
            (true, None) => format!("too many calls at a time (limit {name}: {limit})"),
            (true, Some(window_s)) => {
                let wait_s = self.retry_after_s;
                format!("too many calls (limit {name}: {limit} in {window_s} s); try again in {wait_s} s")
            }
        }
    }

    /// The answer: 429, in words and in headers.
    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let State { name, limit, window_s, remaining, .. } = &self.state;
        let retry_after_s = self.retry_after_s;
        let (window, reset) = match window_s {
            Some(window_s) => (format!(";w={window_s}"), format!(";t={retry_after_s}")),
            None => (";qu=\"concurrent-requests\"".to_owned(), String::new()),
        };
        let values = [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
            (header::RETRY_AFTER, retry_after_s.to_string()),
            (RATE_LIMIT_POLICY, format!("\"{name}\";q={limit}{window}")),
            (RATE_LIMIT, format!("\"{name}\";r={remaining}{reset}")),
            (PROXY_STATUS, "mcpmeter; error=http_request_denied".to_owned()),
        ];
        let mut response = Response::new(Full::from(format!("mcpmeter: {}\n", self.text())));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        for (name, value) in values {
            // Names are checked by the configuration.
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// In whole seconds, never too few and never none.
fn round_up(time: Duration) -> u64 {
    let whole = time.as_secs();
    (if time.subsec_nanos() > 0 { whole.saturating_add(1) } else { whole }).max(1)
}
