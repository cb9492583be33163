//! Why a request may not go on, for its client and for its row.

use crate::{envelope::Unreadable, limits::Limited, policy::Reason, refusal::Refusal};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use mcpmeter_observer::{Failure, Status, StatusDetail, Text};

/// A request that may not go on.
pub(crate) struct TurnedAway {
    pub(super) failure: Failure,
    pub(super) answer: Response<Full<Bytes>>,
    /// For the rows, of a limit.
    pub(super) state: Option<Text>,
}

impl TurnedAway {
    pub(super) fn denied(reason: Reason, answer: Response<Full<Bytes>>) -> Box<Self> {
        let (code, message) = match reason {
            Reason::Rule(number) => {
                ("denied_by_rule", format!("rule {number} of the configuration denies it"))
            }
            Reason::Default => ("denied_by_default", "no rule allows it".to_owned()),
            Reason::KeyRoutes => ("key_route", "the key is not for this route".to_owned()),
            Reason::KeyTools => ("key_tool", "the key is not for this tool".to_owned()),
        };
        Box::new(Self::of(Status::Denied, StatusDetail::Policy, (code, message), answer))
    }

    pub(super) fn unreadable(unreadable: Unreadable) -> Box<Self> {
        let told = ("body_unreadable", format!("it cannot be told what is called: {unreadable}"));
        Box::new(Self::of(Status::Denied, StatusDetail::Policy, told, unreadable.answer()))
    }

    /// Nothing of it has gone on, and nothing may: who breaks off may have said all that a lenient server needs.
    pub(super) fn broken_off() -> Box<Self> {
        let told = ("upload_broken", "the request broke off before its end".to_owned());
        let answer = Response::builder().status(StatusCode::BAD_REQUEST).body(Full::default());
        let answer = answer.expect("a status is no error");
        Box::new(Self::of(Status::Cancelled, StatusDetail::ClientLeftBeforeHead, told, answer))
    }

    /// It could not be read, for no fault of what is in it.
    pub(crate) fn unread(failure: Failure) -> Box<Self> {
        let answer = Refusal::of_failure(&failure).into_text();
        Box::new(Self { failure, answer, state: None })
    }

    pub(super) fn limited(limited: Limited) -> Box<Self> {
        let state = limited.to_json().to_string().into();
        let told = (limited.code(), limited.text());
        let answer = limited.into_response();
        Box::new(Self {
            state: Some(state),
            ..Self::of(Status::Limited, StatusDetail::Unreachable, told, answer)
        })
    }

    fn of(
        status: Status,
        detail: StatusDetail,
        (code, message): (&'static str, String),
        answer: Response<Full<Bytes>>,
    ) -> Self {
        let http_status = Some(answer.status().as_u16());
        let failure = Failure { status, detail, code, message, http_status, context: None };
        Self { failure, answer, state: None }
    }
}
