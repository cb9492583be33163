//! TLS for clients (`[proxy.tls]`). The files are read again at every reload, so that a renewed certificate
//! needs no restart.

use arc_swap::ArcSwap;
use mcpmeter_config::Tls;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{io, path::Path, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The certificate in force.
#[derive(Clone)]
pub(crate) struct Certificate {
    config: Arc<ArcSwap<ServerConfig>>,
}

impl Certificate {
    /// Reads certificate and key.
    pub(crate) fn load(files: &Tls) -> io::Result<Self> {
        Ok(Self { config: Arc::new(ArcSwap::from(read(files)?)) })
    }

    /// Reads them again; the old ones stay in force if that fails.
    pub(crate) fn reload(&self, files: &Tls) -> io::Result<()> {
        self.config.store(read(files)?);
        Ok(())
    }

    /// The handshake with one client, which is let go if it takes longer than `patience`; zero is for ever.
    pub(crate) async fn accept<S>(&self, stream: S, patience: Duration) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        if patience.is_zero() {
            return acceptor.accept(stream).await;
        }
        tokio::time::timeout(patience, acceptor.accept(stream)).await?
    }
}

fn read(files: &Tls) -> io::Result<Arc<ServerConfig>> {
    let problem = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::other(format!("cannot use {path}: {error}", path = path.display()))
    };
    let certificates = CertificateDer::pem_file_iter(&files.cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem(&files.cert_file, &error))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key_file).map_err(|error| problem(&files.key_file, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = builder.with_no_client_auth().with_single_cert(certificates, key);
    let mut config = config.map_err(|error| problem(&files.cert_file, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
