//! What kept an answer from coming, for the books and for the client.

use mcpmeter_observer::{Failure, Status, StatusDetail};
use std::time::Duration;

/// Of an answer's words as many are shown to the client.
const MAX_SHOWN: usize = 300;

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// The server was not reached, or broke off.
    Failed(Failure),
    /// It answered with an HTTP status and no message.
    Refused { status: u16, body: Vec<u8>, in_session: bool },
}

impl Trouble {
    /// An answer that is none.
    pub(super) fn invalid(message: String) -> Self {
        Self::aborted("invalid_response", message)
    }

    /// The answer's stream ended before the answer.
    pub(super) fn unanswered(status: u16) -> Self {
        let message = format!("http status {status} without an answer");
        let failure =
            Failure { detail: StatusDetail::NoResponse, ..Self::aborted("no_response", message).failure() };
        Self::Failed(failure)
    }

    /// The session is gone, and everything that was open in it.
    pub(super) fn lost() -> Self {
        let message = "the server no longer knows the session".to_owned();
        let failure = Failure {
            detail: StatusDetail::SessionEnded,
            ..Self::aborted("session_lost", message).failure()
        };
        Self::Failed(failure)
    }

    /// A stream that could not be resumed.
    pub(super) fn not_resumed(tries: u32, waited: Duration) -> Self {
        let words = format!(
            "the answer's stream broke off and could not be resumed ({tries} tries in {} s)",
            waited.as_secs()
        );
        Self::aborted("not_resumed", words)
    }

    fn aborted(code: &'static str, message: String) -> Self {
        Self::Failed(Failure {
            status: Status::UpstreamError,
            detail: StatusDetail::Aborted,
            code,
            message,
            http_status: None,
            context: None,
        })
    }

    /// The same for calls that it meets without being about them.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Failed(failure) => failure.clone(),
            Self::Refused { status, .. } => Self::unanswered(*status).failure(),
        }
    }

    /// What the client is told.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Failed(failure) => format!("mcpmeter: {} ({})", failure.message, failure.code),
            Self::Refused { status, body, .. } => {
                let reason =
                    http::StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
                let mut words = format!("mcpmeter: the server answered HTTP {status}");
                if let Some(reason) = reason {
                    words.extend([" ", reason]);
                }
                let text = String::from_utf8_lossy(body);
                let text = text.trim();
                if !text.is_empty() && !text.starts_with('<') {
                    words.extend([": ", &text[..text.floor_char_boundary(MAX_SHOWN)]]);
                }
                if *status == 401 || *status == 403 {
                    words.push_str(" (give credentials with --header \"Authorization: Bearer …\")");
                }
                words
            }
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        // The status that an HTTP client of the proxy would be given; here there is none.
        Self::Failed(Failure { http_status: None, ..failure })
    }
}
