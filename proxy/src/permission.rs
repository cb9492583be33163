//! Whether a caller may do what it asks for, and whether it has done too much of it: policy, limits and quotas, asked on the
//! way of a request. Where something depends on what is called, the body is read to its end first; a body that is not
//! judged passes unread.

mod judge;
mod turned_away;

pub(crate) use turned_away::TurnedAway;

use crate::{
    admission::Leave,
    answer::Content,
    envelope::Channel,
    forward::{Asking, Caller, Carrier, path_and_query},
    identity::Known,
    policy::Asked,
    reception::READ_OF_REFUSED,
    route::Route,
    tap::Tap,
    time_limit::claims_stream,
    upstream::Upload,
};
use http::{Request, Response, Uri, request::Parts};
use http_body::Body as _;
use judge::{Body, Judge};

/// How much of a refused request is read to know what was asked for.
const MAX_READ: usize = 64 << 10;

impl Carrier {
    /// Whether this request of such a caller may go on, whatever is in it.
    pub(crate) fn asks_nothing<B>(&self, known: &Known, request: &Request<B>) -> bool {
        known.key.is_none()
            && self.admission.load().is_open()
            && !claims_stream(request.method(), request.headers())
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
        let claims_stream = claims_stream(&parts.method, &parts.headers);
        // Whatever the method: a server may read any body.
        let mut read = if body.is_end_stream() { Body::Absent } else { Body::Unread };
        loop {
            // Anew for each look: a body may take its time to come, and the rules of then are none any more.
            let admission = self.admission.load_full();
            let judge = Judge { admission: &admission, asked: &asked, per_minute, channel, claims_stream };
            if let Some(leave) = judge.decide(&parts.headers, &read, self.clock.timestamp())? {
                return Ok(leave);
            }
            read = judge.read(body).await?;
        }
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
        let Asking { parts, mut owner, mut body, invited, .. } = *asking;
        let (identity, at) = (route.instance.identity(), self.clock.tick());
        let client_ip = caller.origin.recorded(&parts.headers, self.clock.timestamp());
        if self.refusals.note_known(identity, client_ip.as_ref(), (owner.tap().auth(), &failure), at) {
            if invited {
                let reading = body.read_off(MAX_READ);
                let _ = Box::pin(tokio::time::timeout(READ_OF_REFUSED, reading)).await;
            }
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

/// Tells the rows how a request stands with its limits.
fn note_state(leave: &Leave, tap: &Tap) {
    if let Some(state) = leave.state() {
        let state = state.to_json().to_string().into();
        tap.tell(|exchange, _| exchange.note_rate_limit_state(state));
    }
}
