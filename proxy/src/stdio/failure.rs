//! What went wrong between the proxy and a program, in the words of a record.

use super::process::{Exit, SpawnError};
use crate::refusal::RETRY_AFTER_MS;
use mcpmeter_observer::{Failure, Status, StatusDetail};
use serde_json::json;
use std::time::Duration;

/// It could not be started.
pub(super) fn not_started(error: &SpawnError) -> Failure {
    broken(StatusDetail::Unreachable, "spawn_failed", mcpmeter_journal::chain(error))
}

/// It has ended, of itself or because it was told to.
pub(super) fn exited(exit: &Exit) -> Failure {
    let failure = broken(StatusDetail::Aborted, "process_exited", format!("the server {exit}"));
    Failure { context: Some(exit.to_json().to_string()), ..failure }
}

/// It was asked for nothing else than to begin.
pub(super) fn slow_start(limit: Duration) -> Failure {
    Failure {
        status: Status::Timeout,
        http_status: Some(504),
        ..broken(
            StatusDetail::Aborted,
            "start_timeout",
            format!("the server said nothing within {limit} ms", limit = limit.as_millis()),
        )
    }
}

/// What it was to be told waits, and nothing more can.
pub(super) fn not_reading() -> Failure {
    broken(StatusDetail::Aborted, "not_reading", "the server does not read its requests".to_owned())
}

/// It has said more at once than is allowed.
pub(super) fn too_long(limit: u64) -> Failure {
    let message = format!("the server sent a message of more than {limit} MiB (max_message_mib)");
    broken(StatusDetail::Aborted, "message_too_long", message)
}

/// It has more memory than is allowed.
pub(super) fn too_large(limit: u64) -> Failure {
    broken(
        StatusDetail::Aborted,
        "memory_limit",
        format!("the server took more than {limit} MiB (max_memory_mib)"),
    )
}

/// The client does not take what it is sent.
pub(super) fn client_too_slow() -> Failure {
    broken(StatusDetail::Aborted, "client_too_slow", "more waits for the client than is kept".to_owned())
}

/// It has failed too often in a short time, or is not to be started again so soon.
pub(super) fn resting(until: Duration) -> Failure {
    let message = format!("the server keeps ending; it is started again in {} ms", until.as_millis());
    Failure {
        status: Status::UpstreamError,
        http_status: Some(503),
        context: Some(json!({ RETRY_AFTER_MS: until.as_millis() }).to_string()),
        ..broken(StatusDetail::Unreachable, "restarting", message)
    }
}

/// The proxy stops, or the program was told to.
pub(super) fn stopping() -> Failure {
    broken(StatusDetail::Unreachable, "stopping", "the server is being stopped".to_owned())
}

/// Its client has ended the session in which it waits.
pub(super) fn session_deleted() -> Failure {
    let message = "the client has ended its session".to_owned();
    Failure {
        status: Status::Cancelled,
        http_status: Some(404),
        ..broken(StatusDetail::SessionEnded, "session_deleted", message)
    }
}

/// There is no thread for programs.
pub(super) fn no_thread(error: &std::io::Error) -> Failure {
    broken(StatusDetail::Unreachable, "spawn_failed", mcpmeter_journal::chain(error))
}

/// It has closed the stream instead of answering.
pub(super) fn ended_without_answer() -> Failure {
    broken(StatusDetail::Aborted, "no_answer", "the server ended the request without an answer".to_owned())
}

/// More sessions than are kept.
pub(super) fn too_many_sessions() -> Failure {
    let message = "there are too many sessions".to_owned();
    let http_status = Some(503);
    Failure {
        status: Status::Limited,
        http_status,
        ..broken(StatusDetail::Unreachable, "max_sessions", message)
    }
}

/// There is no room for one more process.
pub(super) fn no_room(limit: usize) -> Failure {
    Failure {
        status: Status::Limited,
        http_status: Some(503),
        ..broken(
            StatusDetail::Unreachable,
            "max_processes",
            format!("{limit} processes are running already (max_processes)"),
        )
    }
}

fn broken(detail: StatusDetail, code: &'static str, message: String) -> Failure {
    Failure { status: Status::UpstreamError, detail, code, message, http_status: Some(502), context: None }
}
