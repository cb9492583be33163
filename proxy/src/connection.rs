//! One client connection: HTTP/1.1 or HTTP/2, whichever it begins with, until it ends or the proxy stops.

use crate::forward::Carrier;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use mcpmeter_observer::Text;
use std::{convert::Infallible, pin::pin, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};

/// The smallest buffer hyper accepts for the head of a request.
const MIN_BUFFER: usize = 8192;

/// How HTTP is spoken to clients: headers in their own case, and limits that no honest one meets.
pub(crate) fn protocol(limits: &mcpmeter_config::Proxy) -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol
        .http1()
        .preserve_header_case(true)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_header_bytes.max(MIN_BUFFER))
        // The upstream's `Date`, or none, is what the client would have got without us.
        .auto_date_header(false);
    let list = u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX);
    protocol.http2().max_header_list_size(list).auto_date_header(false);
    protocol
}

/// Serves a connection to its end.
pub(crate) async fn serve<S>(
    stream: S,
    protocol: &auto::Builder<TokioExecutor>,
    carrier: Arc<Carrier>,
    client_ip: Option<Text>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stopping = carrier.stopping.clone();
    let service = service_fn(move |request| {
        let carrier = Arc::clone(&carrier);
        let client_ip = client_ip.clone();
        async move { Ok::<_, Infallible>(carrier.forward(request, client_ip).await) }
    });
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        // How a connection ends is told by its exchanges; there is nothing to say about it by itself.
        _ = connection.as_mut() => return,
        () = stopping.drained() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        () = stopping.aborted() => {}
    }
}
