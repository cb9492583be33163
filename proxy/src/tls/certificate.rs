//! What clients are shown by a port of ours, and whether they have to show something themselves (`[proxy.tls]`,
//! `[admin.tls]`).

use super::{
    ClientCertificate, TlsError,
    pem::{PairFiles, PemFile},
    provider,
    renewal::{Fresh, Renew, Renewable, Source},
};
use mcpmeter_config::{ClientAuth, Tls};
use rustls::{
    RootCertStore, ServerConfig,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The certificate in force on one port. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Certificate {
    renewable: Arc<Renewable<ServerFiles>>,
}

/// The files of one port.
#[derive(Clone, PartialEq)]
pub(super) struct ServerFiles {
    section: &'static str,
    files: Tls,
}

impl Certificate {
    pub(super) fn load(section: &'static str, files: &Tls) -> Result<Self, TlsError> {
        let renewable = Renewable::load(ServerFiles::new(section, files.clone()))?;
        Ok(Self { renewable: Arc::new(renewable) })
    }

    pub(super) fn renewable(&self) -> Arc<dyn Renew> {
        Arc::<Renewable<ServerFiles>>::clone(&self.renewable)
    }

    /// Other files from the next reading on. Whether clients have to show a certificate does not change: that is settled
    /// when the port is opened.
    pub(crate) fn use_files(&self, section: &'static str, files: &Tls) {
        self.renewable.change_files(|known| {
            let authorities = known.files.client_ca_file.as_ref().and(files.client_ca_file.clone());
            let client_ca_file = authorities.or_else(|| known.files.client_ca_file.clone());
            let client_auth = known.files.client_auth;
            ServerFiles::new(section, Tls { client_ca_file, client_auth, ..files.clone() })
        });
    }

    /// The handshake with one client, which is let go if it takes longer than `patience`; zero is for ever. Gives also
    /// the certificate that the client has shown, which is one of the configured authorities'.
    pub(crate) async fn accept<S>(
        &self,
        stream: S,
        patience: Duration,
    ) -> io::Result<(TlsStream<S>, Option<ClientCertificate>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = TlsAcceptor::from(self.renewable.made()).accept(stream);
        let stream = if patience.is_zero() {
            accepted.await?
        } else {
            tokio::time::timeout(patience, accepted).await??
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let shown = shown.map(ClientCertificate::read);
        Ok((stream, shown))
    }
}

impl ServerFiles {
    pub(super) const fn new(section: &'static str, files: Tls) -> Self {
        Self { section, files }
    }

    /// What the port speaks, by ALPN.
    fn protocols(&self) -> &'static [&'static str] {
        if self.section == "admin.tls" { &["http/1.1"] } else { &["h2", "http/1.1"] }
    }

    fn pair(&self) -> PairFiles<'_> {
        PairFiles {
            chain: PemFile { key: "cert_file", path: &self.files.cert_file },
            key: PemFile { key: "key_file", path: &self.files.key_file },
        }
    }

    fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let Some(path) = &self.files.client_ca_file else {
            return Ok(WebPkiClientVerifier::no_client_auth());
        };
        let file = PemFile { key: "client_ca_file", path };
        let mut authorities = RootCertStore::empty();
        file.add_to(&mut authorities)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider());
        let verifier = match self.files.client_auth {
            ClientAuth::Required => verifier,
            ClientAuth::Optional => verifier.allow_unauthenticated(),
        };
        let refuse = |source| TlsError::Authorities { key: file.key, path: path.clone(), source };
        verifier.build().map_err(refuse)
    }
}

impl Source for ServerFiles {
    type Made = ServerConfig;

    fn role(&self) -> &'static str {
        self.section.trim_end_matches(".tls")
    }

    fn paths(&self) -> Vec<PathBuf> {
        let Tls { cert_file, key_file, client_ca_file, .. } = self.files.clone();
        [cert_file, key_file].into_iter().chain(client_ca_file).collect()
    }

    fn make(&self) -> Result<Fresh<ServerConfig>, TlsError> {
        let (chain, key) = self.pair().read()?;
        let shown = chain.first().cloned();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Protocol)?
            .with_client_cert_verifier(self.client_verifier()?);
        let mut config = builder.with_single_cert(chain, key).map_err(|source| self.pair().refuse(source))?;
        config.alpn_protocols = self.protocols().iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok((Arc::new(config), shown))
    }
}
