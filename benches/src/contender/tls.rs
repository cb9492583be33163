//! What contenders need to speak TLS, and the client to believe them: a certificate of its own for every run, ECDSA on P-256,
//! which all of them can sign with. Nobody resumes a session: each connection costs a whole handshake.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring};

use crate::stream::SERVER_NAME;

/// A certificate in files, and a client that trusts it.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// The certificate, in PEM.
    pub(crate) cert_file: PathBuf,
    /// Its key, in PEM.
    pub(crate) key_file: PathBuf,
    /// What clients connect with.
    pub(crate) client: Arc<ClientConfig>,
}

impl Tls {
    /// Makes one, with its files in `directory`.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).map_err(io::Error::other)?;
        let (cert_file, key_file) = (directory.join("cert.pem"), directory.join("key.pem"));
        fs::write(&cert_file, made.cert.pem())?;
        fs::write(&key_file, made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).map_err(io::Error::other)?;
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.resumption = Resumption::disabled();
        Ok(Self { cert_file, key_file, client: Arc::new(client) })
    }
}
