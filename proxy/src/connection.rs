//! One client connection: HTTP/1.1 or HTTP/2, whichever it begins with, until it ends or the proxy stops.

use crate::{
    departure::Socket,
    forward::{Caller, Carrier},
    outgoing::Outgoing,
};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// How HTTP is spoken to clients: headers in their own case, and limits that no honest one meets.
pub(crate) struct Protocols {
    /// Whichever version the connection begins with.
    any: auto::Builder<TokioExecutor>,
    /// HTTP/1 only: nothing has to be read again, and the buffer is half as large.
    http1: auto::Builder<TokioExecutor>,
}

impl Protocols {
    pub(crate) fn new(limits: &mcpmeter_config::Proxy) -> Self {
        let any = build(limits);
        Self { http1: any.clone().http1_only(), any }
    }

    /// For a connection that may begin with either version.
    pub(crate) const fn any(&self) -> &auto::Builder<TokioExecutor> {
        &self.any
    }

    /// Waits for the first bytes and tells by them; `None` if none come in time, or before the proxy stops.
    pub(crate) async fn choose(
        &self,
        stream: &Outgoing,
        carrier: &Carrier,
        caller: &Caller,
        patience: Duration,
    ) -> Option<&auto::Builder<TokioExecutor>> {
        let mut first = [0; HTTP2_BEGINNING.len()];
        let peeked = tokio::select! {
            biased;
            peeked = stream.peek(&mut first) => peeked.ok()?,
            () = caller.watch.overdue(patience) => return None,
            () = carrier.stopping.drained() => return None,
        };
        Some(if HTTP2_BEGINNING.starts_with(&first[..peeked]) { &self.any } else { &self.http1 })
    }
}

/// No method of HTTP/1 begins like the preface of HTTP/2 (RFC 9113, 3.4).
const HTTP2_BEGINNING: &[u8; 3] = b"PRI";

fn build(limits: &mcpmeter_config::Proxy) -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol
        .http1()
        .preserve_header_case(true)
        .max_headers(limits.max_headers)
        // A head that fits into the buffer passes. The configuration allows none below hyper's least, 8 KiB.
        .max_buf_size(limits.max_header_bytes)
        // The upstream's `Date`, or none, is what the client would have got without us.
        .auto_date_header(false);
    let list = u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX);
    protocol.http2().max_header_list_size(list).auto_date_header(false);
    protocol
}

/// Serves a connection to its end, or until its client has left or let it wait for a head longer than `patience`.
/// `socket` is what `stream` goes over.
pub(crate) async fn serve<S>(
    (stream, socket): (S, Arc<Socket>),
    protocol: &auto::Builder<TokioExecutor>,
    carrier: Arc<Carrier>,
    caller: Caller,
    patience: Duration,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stopping = carrier.stopping.clone();
    let watch = Arc::clone(&caller.watch);
    let refusals = Arc::clone(&carrier.refusals);
    let mut overdue = pin!(watch.overdue(patience));
    let shared = Arc::new((carrier, caller));
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        // hyper keeps room for it as long as the connection lasts, and moves it in.
        Box::pin(async move {
            let (carrier, caller) = &*shared;
            Ok::<_, Infallible>(carrier.forward(request, caller).await)
        })
    });
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
    // In this order: whoever is served leaves behind the last byte.
    let mut left = pin!(socket.left(&watch));
    tokio::select! {
        biased;
        // How a connection ends is told by its exchanges. Only what has never become one is told here.
        ended = connection.as_mut() => {
            if ended.is_err_and(|error| is_malformed(&*error)) {
                refusals.count("malformed");
            }
            return;
        }
        () = left.as_mut() => return,
        () = overdue.as_mut() => return refusals.count("head_timeout"),
        () = stopping.drained() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        biased;
        _ = connection => {}
        () = left => {}
        () = overdue => {}
        () = stopping.aborted() => {}
    }
}

/// Whether what the client has sent is not HTTP, or beyond its limits. hyper has answered it.
fn is_malformed(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
}
