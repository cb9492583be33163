//! A small document from a server that is trusted with it: one GET on a connection of its own, and no redirects.

use crate::{tls::UpstreamFiles, upstream::set_options};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mcpmeter_config::{HttpUpstream, Scheme};
use rustls_pki_types::ServerName;
use std::{io, path::Path, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest document, in bytes.
const MAX_DOCUMENT: usize = 1 << 20;

/// The document and its headers. Everything but a 200 is an error.
pub(super) async fn fetch(url: &HttpUpstream, ca_file: Option<&Path>) -> io::Result<(HeaderMap, Bytes)> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 seconds");
    tokio::time::timeout(PATIENCE, fetch_untimed(url, ca_file)).await.map_err(late)?
}

async fn fetch_untimed(url: &HttpUpstream, ca_file: Option<&Path>) -> io::Result<(HeaderMap, Bytes)> {
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
    set_options(&stream);
    match url.scheme {
        Scheme::Http => Box::pin(get(stream, url)).await,
        Scheme::Https => {
            let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
            let files = UpstreamFiles::trusting(ca_file.map(Path::to_path_buf));
            let config = files.read().map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Box::pin(get(stream, url)).await
        }
    }
}

async fn get<S>(stream: S, url: &HttpUpstream) -> io::Result<(HeaderMap, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let target = if url.base_path.is_empty() { "/" } else { &url.base_path };
    let request = Request::get(target)
        .header(header::HOST, &url.authority)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("mcpmeter/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(io::Error::other(format!("the answer is HTTP {status}", status = head.status)));
        }
        let body = Limited::new(body, MAX_DOCUMENT).collect().await.map_err(io::Error::other)?;
        Ok((head.headers, body.to_bytes()))
    };
    // The connection moves the answer on, and ends with it.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answered = &mut answer => answered,
        ended = connection => {
            ended.map_err(io::Error::other)?;
            answer.await
        }
    }
}
