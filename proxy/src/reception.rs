//! Who gets as far as an upstream: the gate, the route, and who calls. Whoever does not is answered here, and has a record
//! if a route was meant.

use crate::{
    answer::Content,
    auth::PublicUrl,
    forward::{Caller, Carrier},
    gate, headers,
    identity::{self, Checked, Denied, Known},
    refusal::Refusal,
    route::{Route, Server, Target},
    tap::RequestBody,
    upstream::Upload,
};
use http::{Method, Request, Response, Uri, header};
use hyper::body::Incoming;
use mcpmeter_observer::outside_of_base;
use std::{sync::Arc, time::Duration};

/// How much of a refused request is read to know what was asked for.
const MAX_READ_OF_REFUSED: usize = 64 << 10;
/// How long that may take.
pub(crate) const READ_OF_REFUSED: Duration = Duration::from_millis(500);

impl Carrier {
    /// Gate and route: nothing has reached an upstream yet.
    pub(crate) fn admit(
        &self,
        request: &Request<Incoming>,
    ) -> Result<(Arc<Route>, Uri), Box<Response<Content>>> {
        let refuse = |refusal: Refusal| {
            self.refusals.count(refusal.reason);
            Box::new(refusal.into_response())
        };
        let routes = self.routes.load();
        // TRACE would give the caller what we have put into the request, credentials among it (RFC 9110, 9.3.8).
        if matches!(*request.method(), Method::CONNECT | Method::TRACE)
            || request.headers().get_all(header::HOST).iter().count() > 1
        {
            return Err(refuse(Refusal::bad_target()));
        }
        let host = gate::host_of(request.uri(), request.headers());
        if self.checks_host && !gate::admits(host, &routes) {
            return Err(refuse(Refusal::foreign_host()));
        }
        if headers::has_unknown_coding(request.headers()) {
            return Err(refuse(Refusal::unknown_coding()));
        }
        let Some((route, rest)) = routes.match_route(host, request.uri()) else {
            // Elsewhere than on this machine, strangers need not know what there is.
            let known = if self.checks_host { routes.prefixes() } else { String::new() };
            return Err(refuse(Refusal::unknown_route(&if known.is_empty() {
                known
            } else {
                format!("; known: {known}")
            })));
        };
        if route.is_left_by(rest) {
            return Err(refuse(Refusal::bad_target()));
        }
        let is_ours = matches!(route.server, Server::Stdio(_));
        if self.checks_host && is_ours && !gate::admits_origin(request.headers(), &routes) {
            return Err(refuse(Refusal::foreign_origin()));
        }
        if let Target::Document { name, inside, .. } = rest
            && route.config.identity.is_required()
        {
            let document = self.document(route, name, inside, request);
            return Err(document.map_or_else(|| refuse(Refusal::no_document()), Box::new));
        }
        let target = self.upstream_target(route, rest);
        let target = Uri::try_from(target).map_err(|_| refuse(Refusal::bad_target()))?;
        Ok((Arc::clone(route), target))
    }

    /// A document about authorization where that is our affair.
    fn document(
        &self,
        route: &Route,
        name: &str,
        inside: &str,
        request: &Request<Incoming>,
    ) -> Option<Response<Content>> {
        let public = self.dialled(route, request).filter(|_| name == crate::auth::METADATA)?;
        let path = inside.split('?').next().unwrap_or_default();
        identity::metadata(&route.config.identity, &public, path)
    }

    fn dialled(&self, route: &Route, request: &Request<Incoming>) -> Option<PublicUrl> {
        PublicUrl::dialled(request.uri(), request.headers(), route.instance.mount(), self.speaks_tls)
    }

    /// Legacy servers may announce endpoints outside of the route's base path; those, and nothing else there, are
    /// within reach.
    fn upstream_target(&self, route: &Route, target: Target<'_>) -> String {
        if let Target::Inside(inside) = target
            && let Some(outside) = outside_of_base(inside)
            && route.instance.announces(outside, self.clock.tick())
        {
            return outside.to_owned();
        }
        route.upstream_target(target)
    }

    /// Who calls, as far as the route wants to know; `Later` if [`Self::authenticate_slowly`] has to be asked.
    pub(crate) fn authenticate(
        &self,
        route: &Route,
        request: &Request<Incoming>,
        caller: &Caller,
    ) -> Checked {
        let authenticator = &route.authenticator;
        let metadata = || self.metadata_url(route, request);
        let checked = authenticator.check(request.headers(), caller.peer, self.clock.timestamp(), metadata);
        if authenticator.wants_keys() {
            let authenticator = Arc::clone(authenticator);
            self.tasks.spawn(async move { authenticator.read_keys().await });
        }
        checked
    }

    /// The same for who cannot be told from others without waiting.
    pub(crate) async fn authenticate_slowly(
        &self,
        route: &Route,
        request: &Request<Incoming>,
    ) -> Result<Known, Box<Denied>> {
        route.authenticator.check_slowly(request.headers(), self.metadata_url(route, request)).await
    }

    fn metadata_url(&self, route: &Route, request: &Request<Incoming>) -> Option<String> {
        Some(self.dialled(route, request)?.metadata_url(request.uri().path()))
    }

    /// Answers a caller that may not in. What it has sent is read only as far as the record needs it, and not at all
    /// while refusals flood.
    pub(crate) async fn deny(
        &self,
        route: &Route,
        target: &Uri,
        request: Request<Incoming>,
        caller: &Caller,
        denied: Denied,
    ) -> Response<Content> {
        let identity = route.instance.identity();
        let told = (&**denied.caller(), denied.failure());
        let client_ip = caller.origin.recorded(request.headers(), self.clock.timestamp());
        if self.refusals.note(identity, client_ip.as_ref(), told, self.clock.tick()) {
            let (parts, body) = request.into_parts();
            let instance = Arc::new(route.instance.apart());
            let known = Some(Arc::clone(denied.caller()));
            let (tap, mut owner) = self.observe(&instance, target, &parts, caller, known);
            let is_invited = !parts.headers.contains_key(header::EXPECT);
            let body = RequestBody::new(body, tap, caller.watch.begin_request());
            let mut body = Upload::new(body, None, is_invited);
            if is_invited {
                // A slower client gets its answer all the same; the record says what was read.
                let reading = body.read_off(MAX_READ_OF_REFUSED);
                let _ = Box::pin(tokio::time::timeout(READ_OF_REFUSED, reading)).await;
            }
            owner.refuse_stranger(denied.failure());
        }
        denied.into_response()
    }
}
