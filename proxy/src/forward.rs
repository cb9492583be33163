//! The way of one request, in phases: gate, route, observe, send, answer. Nothing is read ahead of an upstream that is
//! connected, and nothing is stored on the way; bodies pass frame by frame.

use crate::{
    answer::{AnswerBody, Content, Treatment},
    clock::Clock,
    gate, headers,
    lifecycle::{Activity, Kind, Stopping},
    occupancy::Place,
    patience::HeadWatch,
    refusal::Refusal,
    route::{Route, Server, Target},
    router::Routes,
    source::Source,
    tap::{RequestBody, Tap, TapOwner},
    tasks::Tasks,
    time_limit::{TimeLimits, is_stream},
    timed::Timed,
    upstream::{self, Pool, Sent, Upload, UploadEnd},
};
use arc_swap::ArcSwap;
use http::{HeaderValue, Method, Request, Response, Uri, Version, header, request::Parts};
use hyper::body::Incoming;
use mcpmeter_journal::Journal;
use mcpmeter_observer::{Failure, Head, Text, outside_of_base};
use std::{sync::Arc, time::Duration};

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
    /// Clients come by TLS (`[proxy.tls]`).
    pub(crate) speaks_tls: bool,
}

/// What all exchanges of one connection share.
pub(crate) struct Caller {
    /// Already minimised.
    pub(crate) client_ip: Option<Text>,
    pub(crate) watch: Arc<HeadWatch>,
}

impl Carrier {
    /// Carries one request to its upstream and brings the answer.
    pub(crate) async fn forward(&self, request: Request<Incoming>, caller: &Caller) -> Response<AnswerBody> {
        let answering = caller.watch.begin_exchange(request.version());
        let response = match self.admit(&request) {
            Ok((route, target)) => self.exchange(&route, target, request, caller).await,
            Err(refusal) => refusal.into_response(),
        };
        response.map(|content| AnswerBody { content, _answering: answering })
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
        if headers::has_unknown_coding(request.headers()) {
            return Err(Refusal::unknown_coding());
        }
        let Some((route, rest)) = routes.match_route(host, request.uri()) else {
            let known = routes.prefixes();
            return Err(Refusal::unknown_route(&if known.is_empty() {
                known
            } else {
                format!("; known: {known}")
            }));
        };
        if route.is_left_by(rest) {
            return Err(Refusal::bad_target());
        }
        let is_ours = matches!(route.server, Server::Stdio(_));
        if self.checks_host && is_ours && !gate::admits_origin(request.headers(), &routes) {
            return Err(Refusal::foreign_origin());
        }
        let target = self.upstream_target(route, rest);
        let target = Uri::try_from(target).map_err(|_| Refusal::bad_target())?;
        Ok((Arc::clone(route), target))
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

    async fn exchange(
        &self,
        route: &Route,
        target: Uri,
        request: Request<Incoming>,
        caller: &Caller,
    ) -> Response<Content> {
        let (mut parts, body) = request.into_parts();
        let (tap, owner) = self.observe(route, &target, &parts, caller);
        let limits = TimeLimits::of(&route.config, &parts);
        let upload_end = limits.upload_end();
        // A client that waits for `100 Continue` must not be invited to upload into nothing.
        let invited = !parts.headers.contains_key(header::EXPECT);
        let body = Upload::new(
            RequestBody::new(body, tap.clone(), caller.watch.begin_request()),
            upload_end.clone(),
            invited,
        );
        let place = match enter(route, &parts) {
            Ok(place) => place,
            Err(failure) => return refuse(&failure, owner, invited.then_some(body)).await,
        };
        let treatment = Treatment::of(&parts, path_and_query(&target), route, self.speaks_tls);
        prepare_parts(&mut parts, target, route, treatment.needs_plain());
        let request = Request::from_parts(parts, body);
        match self.send(route, request, &limits, upload_end, &tap).await {
            Sent::Answered(response) => {
                treatment.apply(response, owner, route, place).map(|carried| match limits.deadline() {
                    Some(deadline) => {
                        Content::Timed(Timed::begin(carried, deadline, &self.tasks, &caller.watch))
                    }
                    None => Content::Carried(carried),
                })
            }
            // Without an ending of its own the exchange ends as one whose client has left.
            Sent::Broken(failure) if failure.code == upstream::UPLOAD_BROKEN => {
                Refusal::of_failure(&failure).into_response()
            }
            Sent::Broken(failure) => refuse(&failure, owner, None).await,
            Sent::Unsent(failure, request) => {
                refuse(&failure, owner, invited.then(|| request.into_body())).await
            }
        }
    }

    async fn send(
        &self,
        route: &Route,
        request: Request<Upload>,
        limits: &TimeLimits,
        upload_end: Option<UploadEnd>,
        tap: &Tap,
    ) -> Sent<Response<Source>> {
        let connector = match &route.server {
            Server::Http { connector, .. } => connector,
            // Rarer, and large.
            Server::Stdio(server) => {
                return Box::pin(async {
                    tokio::select! {
                        biased;
                        sent = server.carry(request, tap) => sent,
                        failure = limits.run_out(upload_end) => Sent::Broken(failure),
                    }
                })
                .await;
            }
        };
        let sent = upstream::send(connector, &self.pool, &self.tasks, request);
        if !limits.apply_to_head() {
            return sent.await.map(Source::of_answer);
        }
        // Dropping what is under way closes the upstream's connection.
        tokio::select! {
            biased;
            sent = Box::pin(sent) => sent.map(Source::of_answer),
            failure = limits.run_out(upload_end) => Sent::Broken(failure),
        }
    }

    fn observe(&self, route: &Route, target: &Uri, parts: &Parts, caller: &Caller) -> (Tap, TapOwner) {
        let mut exchange = route.instance.begin(&Head {
            method: &parts.method,
            target: path_and_query(target),
            headers: &parts.headers,
            created_at: self.clock.timestamp(),
            at: self.clock.tick(),
            entropy: fastrand::u128(..),
            client_ip: caller.client_ip.clone(),
            caller: None,
        });
        let kind = if is_stream(parts) { Kind::Stream } else { Kind::Exchange };
        let is_metered = route.meter.tree().is_some() || matches!(route.server, Server::Stdio(_));
        if is_metered {
            exchange.watch_opened();
        }
        let tap = Tap::new(exchange, self.clock, self.journal.clone());
        if let Some(processes) = route.meter.tree() {
            tap.meter(Arc::clone(processes));
        }
        let owner = TapOwner::new(tap.clone(), self.stopping.clone(), self.activity.begin(kind));
        (tap, owner)
    }
}

fn path_and_query(target: &Uri) -> &str {
    target.path_and_query().map_or("/", |target| target.as_str())
}

/// Room for an exchange in its route. A stream needs none: it may last for ever, and would take the room of calls.
fn enter(route: &Route, parts: &Parts) -> Result<Option<Place>, Failure> {
    match route.config.max_exchanges {
        Some(limit) if !is_stream(parts) => {
            route.occupancy.enter(limit).map(Some).ok_or_else(|| upstream::no_room(limit))
        }
        _ => Ok(None),
    }
}

fn prepare_parts(parts: &mut Parts, target: Uri, route: &Route, needs_plain: bool) {
    let authority =
        parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    parts.uri = target;
    parts.version = Version::HTTP_11;
    // A preserved host is the one that was checked: the target's, where that names one (HTTP/2 has no other).
    let host = match &route.server {
        Server::Http { host, .. } => host.as_ref(),
        Server::Stdio(_) => None,
    };
    headers::prepare_request(&mut parts.headers, host.or(authority.as_ref()));
    if needs_plain && parts.headers.contains_key(header::ACCEPT_ENCODING) {
        // What is inside gzip could not be changed.
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Answers in the upstream's place. What of the request nobody has taken is read, so that the record can say what was
/// asked for.
async fn refuse(failure: &Failure, mut owner: TapOwner, unread: Option<Upload>) -> Response<Content> {
    if let Some(mut body) = unread {
        // A client that is slower than this gets its answer all the same; the record says what was read.
        let _ = Box::pin(tokio::time::timeout(READ_FOR_RECORD, body.read_off(MAX_READ_FOR_RECORD))).await;
    }
    owner.fail(failure);
    Refusal::of_failure(failure).into_response()
}
