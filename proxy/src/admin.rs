//! The admin port: probes, metrics, and the calls as they happen. Never on the proxy's port, never carrying
//! traffic, and on loopback unless told otherwise, because there is no authentication here.

mod live_stream;
mod probe;

use crate::{gate, lifecycle::Stopping, live::Live, metrics::Exposition, tasks::Tasks};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use live_stream::LiveStream;
use mcpmeter_journal::Journal;
use std::{convert::Infallible, io, net::TcpListener, pin::pin, sync::Arc};
use tracing::warn;

type AdminBody = Either<Full<Bytes>, LiveStream>;

/// What the admin port can tell about.
pub(crate) struct Admin {
    pub(crate) exposition: Exposition,
    pub(crate) journal: Journal,
    pub(crate) live: Live,
    pub(crate) stopping: Stopping,
    /// Serve any `Host`; otherwise only loopback names, against DNS rebinding.
    pub(crate) allow_remote: bool,
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
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stopping.aborted() => return Ok(()),
            };
            match accepted {
                Ok((stream, _)) => tasks.spawn(Arc::clone(&self).serve_connection(TokioIo::new(stream))),
                Err(error) => warn!(%error, "cannot accept an admin connection"),
            }
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: TokioIo<tokio::net::TcpStream>) {
        let stopping = self.stopping.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = pin!(http1::Builder::new().serve_connection(stream, service));
        tokio::select! {
            // A broken admin connection concerns nobody but its client.
            _ = connection => {}
            () = stopping.aborted() => {}
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<AdminBody> {
        let host = gate::host_of(request.uri(), request.headers());
        if !self.allow_remote && host.is_some_and(|host| !gate::is_loopback_name(host)) {
            return text(
                StatusCode::FORBIDDEN,
                "this Host is not served here; set admin.allow_remote to allow it\n",
            );
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
        }
        let verbose = request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair.starts_with("verbose")));
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "ok\n"),
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

const INDEX: &str = "mcpmeter admin\n\n/livez\n/readyz?verbose\n/metrics\n/api/v1/calls/live\n";

fn text(status: StatusCode, text: &str) -> Response<AdminBody> {
    let mut response = Response::new(Either::Left(Full::from(text.to_owned())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
