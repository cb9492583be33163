//! Certificates of the tests' own making, and both ends of TLS.

use crate::raw::Wire;
use rcgen::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, rustls, server};

/// A self-signed certificate with its key.
pub(crate) struct Certificate {
    made: CertifiedKey<rcgen::KeyPair>,
}

impl Certificate {
    /// For one name or address.
    pub(crate) fn of(name: &str) -> Self {
        Self { made: rcgen::generate_simple_self_signed([name.to_owned()]).expect("a name") }
    }

    /// Writes `cert.pem` and `key.pem` into a folder.
    pub(crate) fn write(&self, folder: &Path) {
        self.write_certificate(&folder.join("cert.pem"));
        fs::write(folder.join("key.pem"), self.made.signing_key.serialize_pem()).expect("written");
    }

    /// Writes the certificate alone, for whoever is to trust it.
    pub(crate) fn write_certificate(&self, file: &Path) -> PathBuf {
        fs::write(file, self.made.cert.pem()).expect("written");
        file.to_owned()
    }

    fn der(&self) -> CertificateDer<'static> {
        self.made.cert.der().clone()
    }

    /// The server's end of a handshake on an accepted connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Wire<server::TlsStream<TcpStream>>> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.made.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![self.der()], key)
            .expect("a pair");
        TlsAcceptor::from(Arc::new(config)).accept(stream).await.map(Wire::over)
    }

    /// The client's end: trusts this certificate only, and offers these protocols.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        name: &'static str,
        protocols: &[&str],
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der()).expect("a certificate");
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
