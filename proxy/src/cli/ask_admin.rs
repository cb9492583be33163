//! A client of the admin port of a running proxy. Shows the token of the configuration to the proxy of the configuration,
//! and to no other.

use super::{ConfigArgs, Failure};
use crate::tls;
use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use mcpmeter_config::{Admin, Config, Secret};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// The variable that sets `admin.token`; where there is no configuration it stands for it.
const TOKEN_VARIABLE: &str = "MCPMETER_ADMIN__TOKEN";

/// Which admin port to ask, and what to show there.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// The admin port of the proxy [default: admin.listen of the configuration]
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// A file with the token of the admin port [default: admin.token of the configuration]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A certificate to show, if admin.tls.client_ca_file wants one
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    client_cert_file: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "client_cert_file")]
    client_key_file: Option<PathBuf>,
}

/// Why an admin port has told nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Nobody is there, or not who should be.
    #[error("no mcpmeter answers on {url} (start one with `mcpmeter serve`)")]
    Unreachable { url: String, source: io::Error },
    /// It wants to know who asks.
    #[error("the admin port at {url} refuses to answer ({status}): {advice}", advice = advice(*status))]
    Refused { url: String, status: StatusCode },
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "set its token by admin.token, MCPMETER_ADMIN__TOKEN or --token-file",
        StatusCode::TOO_MANY_REQUESTS => "there were too many wrong tokens; wait a minute",
        _ => "show a certificate with --client-cert-file and --client-key-file",
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match &error {
            AskError::Unreachable { .. } => Self::unreachable("", &error),
            AskError::Refused { .. } => Self::usage(&error.to_string()),
        }
    }
}

impl AdminArgs {
    /// The way to the admin port of a configuration, or to the one that was asked for.
    pub(super) fn door_of(&self, config: &Config) -> Result<Door, Failure> {
        self.door(Some(&config.admin))
    }

    /// The same where nothing else of the configuration is needed: then there need not be one.
    pub(super) fn find_door(&self, config: &ConfigArgs) -> Result<Door, Failure> {
        if self.admin.is_some() && !config.config.exists() {
            return self.door(None);
        }
        self.door_of(&config.load()?)
    }

    fn door(&self, known: Option<&Admin>) -> Result<Door, Failure> {
        let default = Admin::default();
        let known = known.unwrap_or(&default);
        let address = self.admin.unwrap_or(known.listen);
        let is_ours = address.ip().is_loopback() || address == known.listen;
        let token = match &self.token_file {
            Some(path) => Some(read_token(path)?),
            None if is_ours && known.token.is_some() => known.token.clone(),
            None => std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()).map(Secret::new),
        };
        let own = self.client_cert_file.as_deref().zip(self.client_key_file.as_deref());
        let tls = known.tls.as_ref().map(|files| tls::pinned(&files.cert_file, own)).transpose();
        let tls = tls.map_err(|error| Failure::failed("cannot use TLS", &error))?;
        Ok(Door { address: connectable(address), token, tls })
    }
}

/// The wildcard that a proxy listens on is no address to connect to.
fn connectable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { ([127, 0, 0, 1], address.port()).into() } else { address }
}

fn read_token(path: &std::path::Path) -> Result<Secret, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(&format!("cannot read {}", path.display()), &error))?;
    Ok(Secret::new(text.trim()))
}

/// The way to an admin port.
pub(super) struct Door {
    address: SocketAddr,
    token: Option<Secret>,
    tls: Option<tls::Pinned>,
}

impl Door {
    /// Where it leads, for people.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The response to a GET of somebody who may see everything.
    pub(super) async fn get(&self, target: &str) -> Result<Response<Incoming>, AskError> {
        let tls = self.tls.as_ref().map(|pinned| Arc::clone(&pinned.its_own));
        let response = self.ask(target, tls, self.token.as_ref()).await;
        let url = self.url();
        let response = response.map_err(|source| AskError::Unreachable { url: url.clone(), source })?;
        match response.status() {
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) => {
                Err(AskError::Refused { url, status })
            }
            _ => Ok(response),
        }
    }

    /// The response to a probe. Tells no secret, and therefore takes any certificate: one that was exchanged a moment ago,
    /// or could not be, is no reason to restart a proxy.
    pub(super) async fn probe(&self, target: &str) -> Result<Response<Incoming>, AskError> {
        let tls = self.tls.as_ref().map(|pinned| Arc::clone(&pinned.any));
        let response = self.ask(target, tls, None).await;
        response.map_err(|source| AskError::Unreachable { url: self.url(), source })
    }

    async fn ask(
        &self,
        target: &str,
        tls: Option<Arc<ClientConfig>>,
        token: Option<&Secret>,
    ) -> io::Result<Response<Incoming>> {
        let mut request = Request::get(target)
            .header(header::HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .map_err(|_| io::Error::other("the token is no text for a header"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let stream = TcpStream::connect(self.address).await?;
        let Some(tls) = tls else { return Box::pin(send(stream, request)).await };
        // What is checked is the certificate itself, not its names.
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let stream = Box::pin(TlsConnector::from(tls).connect(name, stream)).await?;
        Box::pin(send(stream, request)).await
    }
}

#[expect(clippy::disallowed_methods, reason = "the connection ends with the command")]
async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> io::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_configuration_is_for_its_own_port_only() {
        let known = Admin {
            listen: ([192, 0, 2, 1], 7301).into(),
            token: Some(Secret::new("t")),
            ..Admin::default()
        };
        for (asked, is_shown) in [
            (None, true),
            (Some("192.0.2.1:7301"), true),
            (Some("127.0.0.1:9"), true),
            (Some("192.0.2.2:7301"), false),
        ] {
            let admin = asked.map(|address| address.parse().expect("an address"));
            let arguments =
                AdminArgs { admin, token_file: None, client_cert_file: None, client_key_file: None };
            let Ok(door) = arguments.door(Some(&known)) else { panic!("no file is needed") };
            assert_eq!(door.token.is_some(), is_shown, "{asked:?}");
        }
    }
}
