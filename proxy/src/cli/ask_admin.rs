//! A client of the admin port of a running proxy.

use super::Failure;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;

/// The response to a GET. `address` may be the wildcard that a proxy listens on.
pub(super) async fn get(address: SocketAddr, target: &str) -> Result<Response<Incoming>, Failure> {
    let address = if address.ip().is_unspecified() {
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    } else {
        address
    };
    let what = format!("no mcpmeter answers on http://{address} (start one with `mcpmeter serve`)");
    ask(address, target).await.map_err(|error| Failure::unreachable(&what, &error))
}

#[expect(clippy::disallowed_methods, reason = "the connection ends with the command")]
async fn ask(address: SocketAddr, target: &str) -> io::Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = Request::get(target).header(header::HOST, "localhost").body(Empty::<Bytes>::new());
    sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)
}
