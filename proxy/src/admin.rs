//! The admin port: probes, metrics, and the calls as they happen. Never on the proxy's port, never carrying traffic, and
//! on loopback unless it asks who is there (`access`).

mod access;
mod attempts;
mod live_stream;
mod login;
mod probe;
mod refused;
mod session;
mod site;

pub(crate) use access::{Access, Entrance};

use crate::{
    lifecycle::Stopping,
    live::Live,
    metrics::Exposition,
    room::{Room, Seat},
    tasks::Tasks,
};
use access::Visitor;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use live_stream::LiveStream;
use mcpmeter_journal::Journal;
use refused::Refused;
use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tracing::warn;

/// Connections at a time; the next ones wait. Each is a file descriptor that the proxy does not have.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take for the TLS handshake, for the head of a request, and between two of them.
const PATIENCE: Duration = Duration::from_secs(30);

type AdminBody = Either<Full<Bytes>, LiveStream>;

/// What the admin port can tell about.
pub(crate) struct Admin {
    pub(crate) exposition: Exposition,
    pub(crate) journal: Journal,
    pub(crate) live: Live,
    pub(crate) stopping: Stopping,
    pub(crate) entrance: Entrance,
}

impl Admin {
    /// Serves until the proxy's last connection is cut.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, tasks: Tasks) {
        if let Err(error) = self.accept(listener, &tasks).await {
            warn!(%error, "the admin port is not served");
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, tasks: &Tasks) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let room = Room::of(MAX_CONNECTIONS, "the most connections to the admin port");
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stopping.aborted() => return Ok(()),
            };
            let seat = tokio::select! {
                seat = room.wait_for_seat() => seat,
                () = self.stopping.aborted() => return Ok(()),
            };
            match accepted {
                Ok((stream, peer)) => tasks.spawn(Arc::clone(&self).greet(stream, peer, seat)),
                Err(error) => {
                    warn!(%error, "cannot accept an admin connection");
                    // Without descriptors there is nothing to do but to wait for one.
                    tokio::time::sleep(BREATHE).await;
                }
            }
        }
    }

    /// A connection from the handshake to its end.
    async fn greet(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, seat: Seat) {
        let address = peer.ip();
        match self.entrance.certificate.clone() {
            None => self.serve_connection(stream, Visitor { address, certificate: None }).await,
            // A failed handshake is the client's affair and is said to it by TLS.
            Some(own) => {
                if let Ok((stream, certificate)) = own.accept(stream, PATIENCE).await {
                    self.serve_connection(stream, Visitor { address, certificate }).await;
                }
            }
        }
        drop(seat);
    }

    async fn serve_connection<S>(self: Arc<Self>, stream: S, visitor: Visitor)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stopping, access) = (self.stopping.clone(), Arc::clone(&self.entrance.access));
        let exchanged = access.token_exchanged();
        let shared = Arc::new((self, visitor));
        let service = service_fn(move |request: Request<Incoming>| {
            let shared = Arc::clone(&shared);
            async move {
                let (admin, visitor) = &*shared;
                let mut answer = admin.answer(request, visitor).await;
                for (name, value) in ON_EVERYTHING {
                    answer.headers_mut().insert(name, HeaderValue::from_static(value));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut protocol = http1::Builder::new();
        protocol.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        let connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            // A broken admin connection concerns nobody but its client.
            _ = connection => {}
            () = exchanged => {}
            () = stopping.aborted() => {}
        }
    }

    async fn answer(&self, request: Request<Incoming>, visitor: &Visitor) -> Response<AdminBody> {
        if let Err(refused) = self.entrance.access.screen(&request) {
            return self.refuse(refused);
        }
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/login") if self.entrance.access.has_token() => {
                self.log_in(request, visitor).await
            }
            (&Method::POST, "/logout") if self.entrance.access.has_token() => self.log_out(request.headers()),
            (&Method::GET | &Method::HEAD, _) => self.show(&request, visitor),
            _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n"),
        }
    }

    fn refuse(&self, refused: Refused) -> Response<AdminBody> {
        self.entrance.access.count(&refused);
        refused.into_response()
    }

    fn show(&self, request: &Request<Incoming>, visitor: &Visitor) -> Response<AdminBody> {
        let verbose = request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair.starts_with("verbose")));
        let path = request.uri().path();
        match path {
            "/livez" => return text(StatusCode::OK, "ok\n"),
            "/readyz" if !verbose => return self.readiness(false),
            "/login" if self.entrance.access.has_token() => return login::page(None),
            _ => {}
        }
        match self.entrance.access.admit(request.headers(), visitor) {
            // A browser that has not logged in yet is no intruder.
            Err(Refused::NoToken) if login::wants_page(request.headers()) => return login::show_the_way(),
            Err(refused) => return self.refuse(refused),
            Ok(()) => {}
        }
        match path {
            "/readyz" => self.readiness(verbose),
            "/metrics" => self.metrics(),
            "/api/v1/calls/live" => live_stream::response(&self.live),
            "/" => text(StatusCode::OK, INDEX),
            _ => text(StatusCode::NOT_FOUND, INDEX),
        }
    }

    fn readiness(&self, verbose: bool) -> Response<AdminBody> {
        let probe = probe::readiness(&self.journal.health(), self.stopping.is_draining());
        let status = if probe.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        text(
            status,
            if verbose {
                &probe.report
            } else if probe.ready {
                "ok\n"
            } else {
                "not ready\n"
            },
        )
    }

    fn metrics(&self) -> Response<AdminBody> {
        match self.exposition.render() {
            Ok(metrics) => {
                let mut response = text(StatusCode::OK, &metrics);
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
                response
            }
            Err(error) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot render the metrics: {error}\n"))
            }
        }
    }
}

/// How long accepting pauses when the process has no file descriptor left.
const BREATHE: Duration = Duration::from_millis(50);

/// What is shown is true for a moment, and for whoever has asked.
const ON_EVERYTHING: [(header::HeaderName, &str); 2] =
    [(header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];

const INDEX: &str = "mcpmeter admin\n\n/livez\n/readyz?verbose\n/metrics\n/api/v1/calls/live\n";

fn text(status: StatusCode, text: &str) -> Response<AdminBody> {
    let mut response = Response::new(Either::Left(Full::from(text.to_owned())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
