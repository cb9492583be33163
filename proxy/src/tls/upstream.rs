//! TLS towards upstreams: the system's roots and those of `ca_file`, and what we show of ourselves.

use super::{
    TlsError,
    pem::{PairFiles, PemFile},
    provider,
    renewal::{Fresh, Renew, Renewable, Source, State},
};
use mcpmeter_config::Route;
use rustls::{ClientConfig, RootCertStore};
use std::{path::PathBuf, sync::Arc};

/// Which files it is made from; the default trusts the system's roots and shows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct UpstreamFiles {
    ca_file: Option<PathBuf>,
    /// Certificate and key.
    pair: Option<(PathBuf, PathBuf)>,
}

impl UpstreamFiles {
    /// Those of a route.
    pub(crate) fn of(route: &Route) -> Self {
        let pair = route.client_cert_file.clone().zip(route.client_key_file.clone());
        Self { ca_file: route.ca_file.clone(), pair }
    }

    /// Those of a server that is only trusted, and shown nothing.
    pub(crate) const fn trusting(ca_file: Option<PathBuf>) -> Self {
        Self { ca_file, pair: None }
    }

    /// How a connection is made with them as they are now.
    pub(crate) fn read(&self) -> Result<Arc<ClientConfig>, TlsError> {
        Ok(self.make()?.0)
    }

    fn authorities(&self) -> Option<PemFile<'_>> {
        self.ca_file.as_ref().map(|path| PemFile { key: "ca_file", path })
    }

    fn pair(&self) -> Option<PairFiles<'_>> {
        self.pair.as_ref().map(|(chain, key)| PairFiles {
            chain: PemFile { key: "client_cert_file", path: chain },
            key: PemFile { key: "client_key_file", path: key },
        })
    }
}

/// How connections to some upstreams are made.
pub(crate) struct UpstreamTls {
    renewable: Renewable<UpstreamFiles>,
}

impl UpstreamTls {
    pub(super) fn load(files: UpstreamFiles) -> Result<Self, TlsError> {
        Ok(Self { renewable: Renewable::load(files)? })
    }

    /// For the next handshake.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.renewable.made()
    }

    /// Changes whenever connections should no longer be used that were made before.
    pub(crate) fn generation(&self) -> u64 {
        self.renewable.generation()
    }
}

impl Renew for UpstreamTls {
    fn renew_if_changed(&self) {
        self.renewable.renew_if_changed();
    }

    fn renew(&self) {
        self.renewable.renew();
    }

    fn state(&self) -> Option<State> {
        self.renewable.state()
    }
}

impl Source for UpstreamFiles {
    type Made = ClientConfig;

    fn role(&self) -> &'static str {
        "upstream"
    }

    fn paths(&self) -> Vec<PathBuf> {
        let (chain, key) = self.pair.clone().unzip();
        chain.into_iter().chain(key).chain(self.ca_file.clone()).collect()
    }

    fn make(&self) -> Result<Fresh<ClientConfig>, TlsError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        let (_, _) = roots.add_parsable_certificates(native.certs);
        self.make_with(roots)
    }

    /// The system's roots take longer to read than all the rest, and are not in question.
    fn examine(&self) -> Result<(), TlsError> {
        self.make_with(RootCertStore::empty()).map(|_| ())
    }
}

impl UpstreamFiles {
    fn make_with(&self, mut roots: RootCertStore) -> Result<Fresh<ClientConfig>, TlsError> {
        if let Some(file) = self.authorities() {
            file.add_to(&mut roots)?;
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Protocol)?
            .with_root_certificates(roots);
        let (mut config, shown) = match self.pair() {
            None => (builder.with_no_client_auth(), None),
            Some(pair) => {
                let (chain, key) = pair.read()?;
                let shown = chain.first().cloned();
                let config = builder.with_client_auth_cert(chain, key);
                (config.map_err(|source| pair.refuse(source))?, shown)
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok((Arc::new(config), shown))
    }
}
