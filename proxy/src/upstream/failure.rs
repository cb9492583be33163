//! What went wrong on the way to the upstream, in the words of a record.

use mcpmeter_journal::chain;
use mcpmeter_observer::{Failure, Status, StatusDetail};
use std::{error::Error, io, time::Duration};

/// A connection that could not be made.
pub(super) fn unreachable(code: &'static str, message: String) -> Failure {
    let timed_out = code == "connect_timeout";
    Failure {
        status: if timed_out { Status::Timeout } else { Status::UpstreamError },
        detail: StatusDetail::Unreachable,
        code,
        message,
        http_status: Some(if timed_out { 504 } else { 502 }),
        context: None,
    }
}

/// A connection that broke before the head of the answer.
pub(super) fn before_head(error: &hyper::Error) -> Failure {
    Failure {
        status: Status::UpstreamError,
        detail: StatusDetail::Aborted,
        code: code_of(error),
        message: chain(error),
        http_status: Some(502),
        context: None,
    }
}

/// An answer that is not one to what was asked.
pub(super) fn invalid(message: &str) -> Failure {
    Failure {
        status: Status::UpstreamError,
        detail: StatusDetail::Aborted,
        code: "invalid_response",
        message: message.to_owned(),
        http_status: Some(502),
        context: None,
    }
}

/// An answer that did not come within a configured limit; `code` names it.
pub(crate) fn late(code: &'static str, limit: Duration) -> Failure {
    Failure {
        status: Status::Timeout,
        detail: StatusDetail::Aborted,
        code,
        message: format!("no answer within {limit} ms", limit = limit.as_millis()),
        http_status: Some(504),
        context: None,
    }
}

/// A request that the route has no room for.
pub(crate) fn no_room(limit: u32) -> Failure {
    Failure {
        status: Status::Limited,
        detail: StatusDetail::Unreachable,
        code: "max_exchanges",
        message: format!("{limit} exchanges are going on already"),
        http_status: Some(503),
        context: None,
    }
}

/// A request that has to be read before it goes on, where too much of others is held for that already.
pub(crate) fn no_room_to_hold() -> Failure {
    Failure {
        code: "max_held_bytes",
        message: "too much of requests is held already that have to be read before they go on".to_owned(),
        ..no_room(0)
    }
}

/// A request that did not come within the time that it has where it is read before it goes on. That is its client's doing.
pub(crate) fn late_upload(limit: Duration) -> Failure {
    Failure {
        status: Status::Cancelled,
        detail: StatusDetail::ClientLeftBeforeHead,
        message: format!("the request was not complete within {limit} ms", limit = limit.as_millis()),
        http_status: Some(408),
        ..late("body_timeout", limit)
    }
}

/// An answer that broke off.
pub(crate) fn failure_mid_body(error: &hyper::Error) -> Failure {
    Failure { http_status: None, ..before_head(error) }
}

/// The code of a request whose upload the client broke off.
pub(crate) const UPLOAD_BROKEN: &str = "upload_broken";

/// A request that its client broke off.
pub(crate) fn upload_broken(error: &hyper::Error) -> Failure {
    Failure { code: UPLOAD_BROKEN, ..before_head(error) }
}

fn code_of(error: &hyper::Error) -> &'static str {
    if error.is_user() {
        return UPLOAD_BROKEN;
    }
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => "connection_reset",
        Some(io::ErrorKind::UnexpectedEof) => "connection_closed",
        _ if error.is_parse() => "invalid_response",
        _ if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => "connection_closed",
        _ => "connection_error",
    }
}
