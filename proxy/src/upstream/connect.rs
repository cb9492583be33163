//! New connections to one upstream: resolve, connect, TLS where asked for, HTTP/1.1.
//!
//! HTTP/1.1 with a connection per exchange, because on HTTP/2 all streams share one window and a slow reader
//! would stall the others (WIRE.md 3.2).

use super::{
    Link, failure,
    socket::{Look, Socket},
    upload::Upload,
};
use crate::{tasks::Tasks, tls::UpstreamTls};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mcpmeter_journal::chain;
use mcpmeter_observer::Failure;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// After this much silence the kernel asks whether the peer is still there; idle streams live for hours.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How to reach one upstream.
pub(crate) struct Connector {
    id: u64,
    host: String,
    port: u16,
    tls: Option<(Arc<UpstreamTls>, ServerName<'static>)>,
    timeout: Duration,
    heads: HeadLimits,
}

/// How large the head of an answer may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// `proxy.max_headers`.
    pub(crate) fields: usize,
    /// `proxy.max_header_bytes`.
    pub(crate) bytes: usize,
}

impl Connector {
    pub(crate) fn new(
        upstream: &mcpmeter_config::HttpUpstream,
        tls: Option<Arc<UpstreamTls>>,
        timeout: Duration,
        heads: HeadLimits,
    ) -> io::Result<Self> {
        let name = || ServerName::try_from(upstream.host.clone()).map_err(io::Error::other);
        let tls = tls.map(|tls| Ok::<_, io::Error>((tls, name()?))).transpose()?;
        // Random, because a reload must not give a new upstream the connections of an old one.
        let id = fastrand::u64(..);
        Ok(Self { id, host: upstream.host.clone(), port: upstream.port, tls, timeout, heads })
    }

    /// Tells this upstream's connections from those of others, and from its own with an earlier certificate.
    pub(crate) fn id(&self) -> u64 {
        self.id.wrapping_add(self.tls.as_ref().map_or(0, |(tls, _)| tls.generation()))
    }

    /// A new connection, driven by a task of its own.
    pub(super) async fn connect(&self, tasks: &Tasks) -> Result<Link, Failure> {
        match tokio::time::timeout(self.timeout, self.connect_untimed(tasks)).await {
            Ok(connected) => connected,
            Err(_) => {
                let limit = self.timeout.as_millis();
                Err(failure::unreachable("connect_timeout", format!("no connection within {limit} ms")))
            }
        }
    }

    async fn connect_untimed(&self, tasks: &Tasks) -> Result<Link, Failure> {
        let look = Look::default();
        let stream = self.dial(&look).await?;
        match &self.tls {
            None => self.handshake(stream, look, tasks).await,
            Some((tls, name)) => {
                let connector = TlsConnector::from(tls.config());
                let failed = |error: io::Error| failure::unreachable("tls_error", chain(&error));
                let stream = connector.connect(name.clone(), stream).await.map_err(failed)?;
                self.handshake(stream, look, tasks).await
            }
        }
    }

    async fn dial(&self, look: &Look) -> Result<Socket, Failure> {
        let resolved = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let addresses = resolved.map_err(|error| failure::unreachable("dns_error", chain(&error)))?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    set_options(&stream);
                    return Ok(Socket::new(stream, look.clone()));
                }
                Err(error) => last = error,
            }
        }
        let code = match last.kind() {
            io::ErrorKind::ConnectionRefused => "connect_refused",
            io::ErrorKind::TimedOut => "connect_timeout",
            io::ErrorKind::NotFound => "dns_error",
            _ => "connect_error",
        };
        Err(failure::unreachable(code, last.to_string()))
    }

    async fn handshake<S>(&self, stream: S, look: Look, tasks: &Tasks) -> Result<Link, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_headers(self.heads.fields)
            .max_buf_size(self.heads.bytes)
            .handshake::<_, Box<Upload>>(TokioIo::new(stream))
            .await
            .map_err(|error| failure::unreachable("connect_error", chain(&error)))?;
        // Whoever waits for an answer is told what went wrong; there is nobody else to tell.
        // Not awaited in an async block, which would take the room of two connections.
        tasks.spawn(connection);
        Ok(Link { sender, look })
    }
}

/// Small frames go out at once, and a peer that vanished is noticed.
pub(crate) fn set_options(stream: &TcpStream) {
    // Neither changes what is forwarded; a platform without them still works.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
}
