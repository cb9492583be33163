//! The bytes of a client connection: as they are, or in TLS. What a handshake costs is part of the call that it is made for.

use std::io;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::ClientConfig};

use crate::connection::Target;

/// The name that contenders' certificates are made for.
pub(crate) const SERVER_NAME: &str = "localhost";

/// A connection to a contender.
#[derive(Debug)]
pub(crate) enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects, and shakes hands if `target` speaks TLS.
    pub(crate) async fn connect(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &target.tls else { return Ok(Self::Plain(stream)) };
        let name = ServerName::try_from(SERVER_NAME).expect("it is a name");
        let connector = TlsConnector::from(Arc::<ClientConfig>::clone(config));
        Ok(Self::Tls(Box::new(connector.connect(name, stream).await?)))
    }

    /// Sends all of `bytes`.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Reads what there is, at least a byte; 0 at the end.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer).await,
            Self::Tls(stream) => stream.read(buffer).await,
        }
    }
}
