//! The way of one request, in phases: gate, route, observe, send, answer. Nothing is read ahead and nothing is
//! stored on the way; bodies pass frame by frame.

use crate::{
    clock::Clock,
    gate, headers,
    lifecycle::{Activity, Kind, Stopping},
    refusal::Refusal,
    router::{Route, Routes},
    tap::{RequestBody, ResponseBody, Tap, TapOwner},
    tasks::Tasks,
    upstream::{self, Lease, Pool, Sent},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header, request::Parts};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use mcpmeter_journal::Journal;
use mcpmeter_observer::{EndpointPatch, Head, Mount, Text};
use std::{sync::Arc, time::Duration};

/// What a client is sent: an upstream's answer, or one of our own.
pub(crate) type AnswerBody = Either<ResponseBody, Full<Bytes>>;

/// How much of a request is read to know what was asked for, when no upstream takes it.
const MAX_READ_FOR_RECORD: usize = 1 << 20;
/// How long that may take.
const READ_FOR_RECORD: Duration = Duration::from_secs(1);

/// What all exchanges of one worker share.
pub(crate) struct Carrier {
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    pub(crate) journal: Journal,
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    pub(crate) tasks: Tasks,
    pub(crate) stopping: Stopping,
    pub(crate) activity: Arc<Activity>,
    /// The listener is on loopback, so `Host` has to be checked here.
    pub(crate) checks_host: bool,
}

impl Carrier {
    /// Carries one request to its upstream and brings the answer. `client_ip` is already minimised.
    pub(crate) async fn forward(
        &self,
        request: Request<Incoming>,
        client_ip: Option<Text>,
    ) -> Response<AnswerBody> {
        match self.admit(&request) {
            Ok((route, target)) => self.exchange(&route, target, request, client_ip).await,
            Err(refusal) => refusal.into_response().map(Either::Right),
        }
    }

    /// Gate and route: nothing has reached an upstream yet.
    fn admit(&self, request: &Request<Incoming>) -> Result<(Arc<Route>, Uri), Refusal> {
        let routes = self.routes.load();
        if request.method() == Method::CONNECT || request.headers().get_all(header::HOST).iter().count() > 1 {
            return Err(Refusal::bad_target());
        }
        let host = gate::host_of(request.uri(), request.headers());
        if self.checks_host && !gate::admits(host, &routes) {
            return Err(Refusal::foreign_host());
        }
        let Some((route, rest)) = routes.match_route(host, request.uri()) else {
            let known = routes.prefixes();
            return Err(Refusal::unknown_route(&if known.is_empty() {
                known
            } else {
                format!("; known: {known}")
            }));
        };
        let target = Uri::try_from(route.upstream_target(rest)).map_err(|_| Refusal::bad_target())?;
        Ok((Arc::clone(route), target))
    }

    async fn exchange(
        &self,
        route: &Route,
        target: Uri,
        request: Request<Incoming>,
        client_ip: Option<Text>,
    ) -> Response<AnswerBody> {
        let (mut parts, body) = request.into_parts();
        let (tap, mut owner) = self.observe(route, &target, &parts, client_ip);
        let patches = parts.method == Method::GET && route.patches_endpoint();
        let expects_continue = parts.headers.contains_key(header::EXPECT);
        prepare_parts(&mut parts, target, route, patches);
        let request = Request::from_parts(parts, RequestBody::new(body, tap));
        match upstream::send(&route.connector, &self.pool, &self.tasks, request).await {
            Sent::Answered(response, lease) => answer(response, lease, owner, route, patches),
            Sent::Broken(failure) => {
                // Without an ending of its own the exchange ends as one whose client has left.
                if failure.code != upstream::UPLOAD_BROKEN {
                    owner.fail(&failure);
                }
                Refusal::of_failure(&failure).into_response().map(Either::Right)
            }
            Sent::Unsent(failure, request) => {
                // A client that waits for `100 Continue` must not be invited to upload into nothing.
                if !expects_continue {
                    Box::pin(read_for_record(request.into_body())).await;
                }
                owner.fail(&failure);
                Refusal::of_failure(&failure).into_response().map(Either::Right)
            }
        }
    }

    fn observe(
        &self,
        route: &Route,
        target: &Uri,
        parts: &Parts,
        client_ip: Option<Text>,
    ) -> (Tap, TapOwner) {
        let exchange = route.instance.begin(&Head {
            method: &parts.method,
            target: target.path_and_query().map_or("/", |target| target.as_str()),
            headers: &parts.headers,
            created_at: self.clock.timestamp(),
            at: self.clock.tick(),
            entropy: fastrand::u128(..),
            client_ip,
        });
        let kind = if parts.method == Method::GET { Kind::Stream } else { Kind::Exchange };
        let tap = Tap::new(exchange, self.clock, self.journal.clone());
        let owner = TapOwner::new(tap.clone(), self.stopping.clone(), self.activity.begin(kind));
        (tap, owner)
    }
}

fn prepare_parts(parts: &mut Parts, target: Uri, route: &Route, patches: bool) {
    let authority =
        parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    parts.uri = target;
    parts.version = Version::HTTP_11;
    // A preserved host is the one that was checked: the target's, where that names one (HTTP/2 has no other).
    headers::prepare_request(&mut parts.headers, route.host.as_ref().or(authority.as_ref()));
    if patches && parts.headers.contains_key(header::ACCEPT_ENCODING) {
        // An `endpoint` event inside gzip could not be changed.
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// The upstream's answer as it goes to the client.
fn answer(
    response: Response<Incoming>,
    lease: Lease,
    owner: TapOwner,
    route: &Route,
    patches: bool,
) -> Response<AnswerBody> {
    let (mut parts, body) = response.into_parts();
    owner.tap().tell(|exchange, now| exchange.handle_response_head(parts.status, &parts.headers, now));
    headers::prepare_response(&mut parts.headers);
    parts.version = Version::HTTP_11;
    let mount = route.instance.mount();
    if route.config.rewrite_location {
        map_locations(&mut parts.headers, mount);
    }
    let patch = (patches && is_plain_event_stream(&parts.headers)).then(|| EndpointPatch::new(mount.clone()));
    Response::from_parts(parts, Either::Left(ResponseBody::new(body, owner, patch, lease)))
}

/// `Location` and `Content-Location` that point into the upstream lead the client back through the route.
fn map_locations(headers: &mut HeaderMap, mount: &Mount) {
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let mapped = headers.get(&name).and_then(|value| mount.map_reference(value.to_str().ok()?));
        if let Some(value) = mapped.and_then(|mapped| HeaderValue::from_str(&mapped).ok()) {
            headers.insert(name, value);
        }
    }
}

/// A stream whose first event can be changed: neither encoded nor of a length that was told already.
fn is_plain_event_stream(headers: &HeaderMap) -> bool {
    let essence = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
        && !headers.contains_key(header::CONTENT_LENGTH)
        && headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding == "identity")
}

/// Reads what the client has to say, for the record of a call that nobody takes.
async fn read_for_record(mut body: RequestBody) {
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > MAX_READ_FOR_RECORD {
                break;
            }
        }
    };
    // A client that is slower than this gets its answer all the same; the record says what was read.
    let _ = tokio::time::timeout(READ_FOR_RECORD, read).await;
}
