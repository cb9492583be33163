//! The way of one request, in phases: gate, route, who calls, observe, send, answer. Nothing is read ahead of an upstream that is
//! connected, and nothing is stored on the way; bodies pass frame by frame.

use crate::{
    admission::Admission,
    answer::{AnswerBody, Content, Held, Treatment},
    client_ip::Origin,
    clock::Clock,
    headers,
    identity::{Checked, Known},
    lifecycle::{Activity, Kind, Stopping},
    patience::HeadWatch,
    permission::TurnedAway,
    refusal::Refusal,
    refusals::Refusals,
    route::{Route, Server},
    router::Routes,
    source::Source,
    tap::{RequestBody, Tap, TapOwner},
    tasks::Tasks,
    time_limit::{TimeLimits, is_stream},
    timed::Timed,
    tls::ClientCertificate,
    upstream::{self, Pool, Sent, Upload, UploadEnd},
};
use arc_swap::ArcSwap;
use http::{HeaderValue, Request, Response, Uri, Version, header, request::Parts};
use hyper::body::Incoming;
use mcpmeter_journal::Journal;
use mcpmeter_observer::{Failure, Head, Instance};
use std::{net::IpAddr, sync::Arc, time::Duration};

/// How much of a request is read to know what was asked for, when no upstream takes it.
const MAX_READ_FOR_RECORD: usize = 1 << 20;
/// How long that may take.
const READ_FOR_RECORD: Duration = Duration::from_secs(1);

/// What all exchanges of one worker share.
pub(crate) struct Carrier {
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    /// One of each worker's own, because each exchange has it.
    pub(crate) journal: Arc<Journal>,
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    pub(crate) tasks: Tasks,
    pub(crate) stopping: Stopping,
    pub(crate) activity: Arc<Activity>,
    /// The listener is on loopback, so `Host` has to be checked here.
    pub(crate) checks_host: bool,
    /// Clients come by TLS (`[proxy.tls]`).
    pub(crate) speaks_tls: bool,
    /// Those that are refused.
    pub(crate) refusals: Arc<Refusals>,
    /// What callers may do, and how much of it.
    pub(crate) admission: Arc<ArcSwap<Admission>>,
}

/// A request on its way.
pub(crate) struct Asking {
    pub(crate) parts: Parts,
    /// As the upstream is asked for it.
    pub(crate) target: Uri,
    pub(crate) body: Box<Upload>,
    pub(crate) tap: Tap,
    pub(crate) owner: TapOwner,
    limits: TimeLimits,
    upload_end: Option<UploadEnd>,
    /// Not if the client waits for `100 Continue`: whoever read its body would invite it.
    pub(crate) invited: bool,
}

/// What all exchanges of one connection share.
pub(crate) struct Caller {
    /// Who has made the connection.
    pub(crate) peer: IpAddr,
    /// Who the client is, and what of its address a record keeps.
    pub(crate) origin: Origin,
    /// The one the client has shown in the handshake, verified by `proxy.tls.client_ca_file`.
    pub(crate) client_certificate: Option<Arc<ClientCertificate>>,
    pub(crate) watch: Arc<HeadWatch>,
}

impl Carrier {
    /// Carries one request to its upstream and brings the answer.
    pub(crate) async fn forward(&self, request: Request<Incoming>, caller: &Caller) -> Response<AnswerBody> {
        let answering = caller.watch.begin_exchange(request.version());
        let response = match self.admit(&request) {
            Ok((route, target)) => {
                let known = match self.authenticate(&route, &request, caller) {
                    Checked::Passes(known) => Ok(known),
                    Checked::Denied(denied) => Err(denied),
                    Checked::Later => Box::pin(self.authenticate_slowly(&route, &request)).await,
                };
                match known {
                    Ok(known) if self.asks_nothing(&known, &request) => {
                        let asking = self.begin(&route, target, request, caller, &known);
                        match route.enter(&asking.parts) {
                            Ok(place) => {
                                self.carry(&route, asking, caller, Held { _place: place, _leave: None }).await
                            }
                            Err(failure) => {
                                let away = TurnedAway::unread(failure);
                                Box::pin(self.turn_away(*away, &route, asking, caller)).await
                            }
                        }
                    }
                    Ok(known) => {
                        let asking = self.begin(&route, target, request, caller, &known);
                        Box::pin(self.carry_by_leave(&route, asking, &known, caller)).await
                    }
                    Err(denied) => Box::pin(self.deny(&route, &target, request, caller, *denied)).await,
                }
            }
            Err(answer) => *answer,
        };
        response.map(|content| AnswerBody { content, _answering: answering })
    }

    /// Shows a request to the observer; from here on it has a record.
    fn begin(
        &self,
        route: &Route,
        target: Uri,
        request: Request<Incoming>,
        caller: &Caller,
        known: &Known,
    ) -> Box<Asking> {
        let (mut parts, body) = request.into_parts();
        if let (Server::Stdio(_), Some(known)) = (&route.server, &known.caller) {
            parts.extensions.insert(Arc::clone(known));
        }
        let (tap, owner) = self.observe(&route.instance, &target, &parts, caller, known.caller.clone());
        route.begin_metering(&tap);
        let standing = || route.authenticator.standing(known, self.clock);
        let limits = TimeLimits::of(&route.config, &parts, standing);
        let upload_end = limits.upload_end();
        // A client that waits for `100 Continue` must not be invited to upload into nothing.
        let invited = !parts.headers.contains_key(header::EXPECT);
        let body = RequestBody::new(body, tap.clone(), caller.watch.begin_request());
        let body = Upload::new(body, upload_end.clone(), invited);
        // In one piece, so that the future that waits for the answer need not hold it twice.
        Box::new(Asking { parts, target, body, tap, owner, limits, upload_end, invited })
    }

    /// Carries a request on if it has leave to go on.
    async fn carry_by_leave(
        &self,
        route: &Route,
        mut asking: Box<Asking>,
        known: &Known,
        caller: &Caller,
    ) -> Response<Content> {
        // Whose body has to be read first takes its room meanwhile.
        let place = match route.enter(&asking.parts) {
            Ok(place) => place,
            Err(failure) => {
                return self.turn_away(*TurnedAway::unread(failure), route, asking, caller).await;
            }
        };
        match self.ask_leave(route, &mut asking, known, caller).await {
            Ok(leave) => self.carry(route, asking, caller, Held { _place: place, _leave: Some(leave) }).await,
            Err(away) => self.turn_away(*away, route, asking, caller).await,
        }
    }

    async fn carry(
        &self,
        route: &Route,
        asking: Box<Asking>,
        caller: &Caller,
        held: Held,
    ) -> Response<Content> {
        let Asking { mut parts, target, body, tap, owner, limits, upload_end, invited } = *asking;
        let treatment = Treatment::of(&parts, path_and_query(&target), route, self.speaks_tls);
        prepare_parts(&mut parts, target, route, treatment.needs_plain());
        let request = Request::from_parts(parts, body);
        match self.send(route, request, &limits, upload_end, &tap).await {
            Sent::Answered(response) => {
                treatment.apply(response, owner, route, held).map(|carried| match limits.deadline() {
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
        request: Request<Box<Upload>>,
        limits: &TimeLimits,
        upload_end: Option<UploadEnd>,
        tap: &Tap,
    ) -> Sent<Response<Source>> {
        let connector = match &route.server {
            Server::Http { connector, .. } => connector,
            // Rarer, and large.
            Server::Stdio(server) => {
                return Box::pin(async {
                    let admission = self.admission.load_full();
                    tokio::select! {
                        biased;
                        sent = server.carry(request, tap, &admission) => sent,
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

    /// Shows an exchange to the observer. `known` is what the check of its credentials has said.
    pub(crate) fn observe(
        &self,
        instance: &Arc<Instance>,
        target: &Uri,
        parts: &Parts,
        caller: &Caller,
        known: Option<Arc<mcpmeter_observer::Caller>>,
    ) -> (Tap, TapOwner) {
        let created_at = self.clock.timestamp();
        let exchange = instance.begin(&Head {
            method: &parts.method,
            target: path_and_query(target),
            headers: &parts.headers,
            created_at,
            at: self.clock.tick(),
            entropy: fastrand::u128(..),
            client_ip: caller.origin.recorded(&parts.headers, created_at),
            caller: known,
        });
        let kind = if is_stream(parts) { Kind::Stream } else { Kind::Exchange };
        let tap = Tap::new(exchange, self.clock, Arc::clone(&self.journal));
        let owner = TapOwner::new(tap.clone(), self.stopping.clone(), self.activity.begin(kind));
        (tap, owner)
    }
}

pub(crate) fn path_and_query(target: &Uri) -> &str {
    target.path_and_query().map_or("/", |target| target.as_str())
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
    headers::prepare_request(&mut parts.headers, host.or(authority.as_ref()), route.authenticator.told_in());
    route.authenticator.exchange_credentials(&mut parts.headers);
    if needs_plain && parts.headers.contains_key(header::ACCEPT_ENCODING) {
        // What is inside gzip could not be changed.
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Answers in the upstream's place. What of the request nobody has taken is read, so that the record can say what was
/// asked for.
async fn refuse(failure: &Failure, mut owner: TapOwner, unread: Option<Box<Upload>>) -> Response<Content> {
    if let Some(mut body) = unread {
        // A client that is slower than this gets its answer all the same; the record says what was read.
        let _ = Box::pin(tokio::time::timeout(READ_FOR_RECORD, body.read_off(MAX_READ_FOR_RECORD))).await;
    }
    owner.fail(failure);
    Refusal::of_failure(failure).into_response()
}
