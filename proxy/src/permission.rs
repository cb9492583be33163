//! Whether a caller may do what it asks for, and whether it has done too much of it: policy, limits and quotas, asked on the
//! way of a request. Where something depends on what is called, the body is read to its end first; a body that is not
//! judged passes unread.

use crate::{
    admission::{Admission, Leave},
    answer::Content,
    envelope::{Channel, Envelope, Unreadable},
    forward::{Asking, Caller, Carrier, path_and_query},
    identity::Known,
    limits::Limited,
    policy::{Asked, Reason, Verdict},
    route::Route,
    tap::Tap,
    upstream::{Gathered, Upload},
};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, Uri, header, request::Parts};
use http_body::Body;
use http_body_util::Full;
use mcpmeter_observer::{Failure, Status, StatusDetail, Text};

/// How much of a refused request is read to know what was asked for.
const MAX_READ: usize = 64 << 10;

/// A request that may not go on.
pub(crate) struct TurnedAway {
    failure: Failure,
    answer: Response<Full<Bytes>>,
    /// For the rows, of a limit.
    state: Option<Text>,
}

impl TurnedAway {
    fn denied(reason: Reason, answer: Response<Full<Bytes>>) -> Box<Self> {
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

    fn unreadable(unreadable: Unreadable) -> Box<Self> {
        let told = ("body_unreadable", format!("it cannot be told what is called: {unreadable}"));
        Box::new(Self::of(Status::Denied, StatusDetail::Policy, told, unreadable.answer()))
    }

    /// Nothing of it has gone on, and nothing may: who breaks off may have said all that a lenient server needs.
    fn broken_off() -> Box<Self> {
        let told = ("upload_broken", "the request broke off before its end".to_owned());
        let answer = Response::builder().status(StatusCode::BAD_REQUEST).body(Full::default());
        let answer = answer.expect("a status is no error");
        Box::new(Self::of(Status::Cancelled, StatusDetail::ClientLeftBeforeHead, told, answer))
    }

    fn limited(limited: Limited) -> Box<Self> {
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

impl Carrier {
    /// Whether every request of such a caller may go on.
    pub(crate) fn asks_nothing(&self, known: &Known) -> bool {
        known.key.is_none() && self.admission.load().is_open()
    }

    /// Leave for a request to go on. More of its body may have been read then.
    pub(crate) async fn ask_leave(
        &self,
        route: &Route,
        asking: &mut Asking,
        known: &Known,
        caller: &Caller,
    ) -> Result<Box<Leave>, Box<TurnedAway>> {
        let Asking { parts, target, body, tap, .. } = asking;
        let leave = self.permit(route, (parts, target), (known, caller), body).await?;
        note_state(&leave, tap);
        Ok(Box::new(leave))
    }

    async fn permit(
        &self,
        route: &Route,
        (parts, target): (&Parts, &Uri),
        (known, caller): (&Known, &Caller),
        body: &mut Upload,
    ) -> Result<Leave, Box<TurnedAway>> {
        let admission = self.admission.load_full();
        let identity = route.instance.identity();
        let told = known.caller.as_deref();
        let user = told.and_then(|caller| caller.user_id.as_deref()).or(identity.user_id.as_deref());
        let organization =
            told.and_then(|caller| caller.organization_id.as_deref()).or(identity.organization_id.as_deref());
        let asked = Asked {
            route: &route.config.name,
            instance: &identity.instance_id,
            address: caller.origin.address(&parts.headers),
            key: told.and_then(mcpmeter_observer::Caller::proven_key_id),
            user,
            organization,
            key_routes: known.key.as_deref().and_then(|key| key.routes.as_deref()),
            key_tools: known.key.as_deref().and_then(|key| key.tools.as_deref()),
        };
        let per_minute = known.key.as_deref().and_then(|key| key.key.rate_per_minute);
        let is_legacy = route.instance.announces(path_and_query(target), self.clock.tick());
        let channel = if is_legacy { Channel::Elsewhere } else { Channel::Response };
        let judge = Judge { admission: &admission, asked, per_minute, channel };
        judge.decide(parts, body, self.clock.timestamp()).await
    }

    /// Answers a request that may not go on. Of a flood only the number is recorded.
    pub(crate) async fn turn_away(
        &self,
        away: TurnedAway,
        route: &Route,
        asking: Box<Asking>,
        caller: &Caller,
    ) -> Response<Content> {
        let TurnedAway { failure, answer, state } = away;
        let Asking { parts, mut owner, mut body, .. } = *asking;
        let (identity, at) = (route.instance.identity(), self.clock.tick());
        let client_ip = caller.origin.recorded(&parts.headers, self.clock.timestamp());
        if self.refusals.note_known(identity, client_ip.as_ref(), (owner.tap().auth(), &failure), at) {
            let reading = body.read_off(MAX_READ);
            let _ = Box::pin(tokio::time::timeout(crate::reception::READ_OF_REFUSED, reading)).await;
            if let Some(state) = state {
                owner.tap().tell(|exchange, _| exchange.note_rate_limit_state(state));
            }
            owner.refuse(Some(&failure));
        } else {
            owner.refuse(None);
        }
        answer.map(Content::Own)
    }
}

/// Everything that one decision depends on.
struct Judge<'a> {
    admission: &'a Admission,
    asked: Asked<'a>,
    /// What the key allows itself.
    per_minute: Option<u32>,
    channel: Channel,
}

impl Judge<'_> {
    async fn decide(
        &self,
        parts: &Parts,
        body: &mut Upload,
        now: mcpmeter_observer::Timestamp,
    ) -> Result<Leave, Box<TurnedAway>> {
        if let Verdict::Denied(reason) = self.admission.judge(&self.asked) {
            let nothing = Envelope { messages: Vec::new(), is_batch: false };
            return Err(TurnedAway::denied(reason, nothing.deny(self.channel, |_| true)));
        }
        let judges_tools = self.admission.reads_bodies(&self.asked);
        let is_counted = self.per_minute.is_some() || self.admission.counts();
        // Whatever the method: a server may read any body.
        if body.is_end_stream() || !(judges_tools || is_counted) {
            return Ok(Leave::default());
        }
        if judges_tools {
            Envelope::check_head(&parts.headers).map_err(TurnedAway::unreadable)?;
        }
        let bytes = match body.gather(self.admission.max_body_bytes).await {
            Gathered::Whole(bytes) => bytes,
            // It may be a call; of a batch, or of what is inside gzip, nobody knows how many.
            Gathered::TooLong if !judges_tools && is_one(&parts.headers, body.first_byte()) => {
                return self.enter(&[None], now);
            }
            Gathered::TooLong => return Err(TurnedAway::unreadable(Unreadable::TooLarge)),
            Gathered::BrokenOff => return Err(TurnedAway::broken_off()),
        };
        let envelope = match Envelope::read(&bytes) {
            Ok(envelope) => envelope,
            Err(_) if !judges_tools && is_one(&parts.headers, body.first_byte()) => {
                return self.enter(&[None], now);
            }
            Err(unreadable) => return Err(TurnedAway::unreadable(unreadable)),
        };
        if judges_tools {
            envelope.check_agreement(&parts.headers).map_err(TurnedAway::unreadable)?;
            if let Verdict::Denied(reason) = self.admission.judge_body(&self.asked, &envelope) {
                let answer = self.admission.deny(&self.asked, &envelope, self.channel);
                return Err(TurnedAway::denied(reason, answer));
            }
        }
        let calls: Vec<_> = envelope.calls().collect();
        self.enter(&calls, now)
    }

    fn enter(
        &self,
        calls: &[Option<&str>],
        now: mcpmeter_observer::Timestamp,
    ) -> Result<Leave, Box<TurnedAway>> {
        if calls.is_empty() {
            return Ok(Leave::default());
        }
        self.admission.enter_by_key(self.per_minute, &self.asked, calls, now).map_err(TurnedAway::limited)
    }
}

/// Whether a body that cannot be read is at most one call all the same: an object, as it is.
fn is_one(headers: &HeaderMap, first: Option<u8>) -> bool {
    first == Some(b'{') && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Tells the rows how a request stands with its limits.
fn note_state(leave: &Leave, tap: &Tap) {
    if let Some(state) = leave.state() {
        let state = state.to_json().to_string().into();
        tap.tell(|exchange, _| exchange.note_rate_limit_state(state));
    }
}
