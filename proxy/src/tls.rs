//! TLS on all sides: what clients of the proxy and of the admin port are shown, and what upstreams are. All of it comes
//! from files, which are read again when they change and at every reload; what cannot be used leaves in force what was.
//! Never shows what is in a key's file.

mod certificate;
mod peer;
mod pem;
mod pinned;
mod renewal;
mod upstream;

pub(crate) use certificate::Certificate;
pub(crate) use peer::ClientCertificate;
pub(crate) use pem::TlsError;
pub(crate) use pinned::{Pinned, pinned};
pub(crate) use renewal::State;
pub(crate) use upstream::{UpstreamFiles, UpstreamTls};

use certificate::ServerFiles;
use mcpmeter_config::{Config, Route, Scheme, Tls};
use renewal::{Renew, Source};
use rustls::crypto::CryptoProvider;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// Everything in this process that comes from certificates' files. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Certificates {
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    own: Vec<Arc<dyn Renew>>,
    /// Shared by all routes that name the same files; gone with the last of them.
    upstreams: HashMap<UpstreamFiles, Weak<UpstreamTls>>,
}

impl Certificates {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a port of ours shows. `section` is the table that names the files.
    pub(crate) fn serve(&self, section: &'static str, files: &Tls) -> Result<Certificate, TlsError> {
        let certificate = Certificate::load(section, files)?;
        self.held().own.push(certificate.renewable());
        Ok(certificate)
    }

    /// How connections to upstreams with these files are made.
    pub(crate) fn reach(&self, files: &UpstreamFiles) -> Result<Arc<UpstreamTls>, TlsError> {
        let mut held = self.held();
        if let Some(known) = held.upstreams.get(files).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Arc::new(UpstreamTls::load(files.clone())?);
        held.upstreams.retain(|_, known| known.strong_count() > 0);
        held.upstreams.insert(files.clone(), Arc::downgrade(&made));
        Ok(made)
    }

    fn all(&self) -> Vec<Arc<dyn Renew>> {
        let held = self.held();
        let upstreams = held.upstreams.values().filter_map(Weak::upgrade).map(|tls| tls as Arc<dyn Renew>);
        held.own.iter().map(Arc::clone).chain(upstreams).collect()
    }

    /// Takes over what has changed and come to rest. To be called about once a second.
    pub(crate) fn renew_changed(&self) {
        self.all().iter().for_each(|one| one.renew_if_changed());
    }

    /// Takes over what has changed, at rest or not.
    pub(crate) fn renew_all(&self) {
        self.all().iter().for_each(|one| one.renew());
    }

    /// How everything is, for the metrics.
    pub(crate) fn states(&self) -> Vec<State> {
        self.all().iter().filter_map(|one| one.state()).collect()
    }
}

/// A table of the configuration whose files cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the certificates of {section}")]
pub(crate) struct BadCertificates {
    section: String,
    source: TlsError,
}

impl BadCertificates {
    pub(crate) const fn new(section: String, source: TlsError) -> Self {
        Self { section, source }
    }
}

/// Reads every file of certificates that a configuration names, and says which cannot be used; keeps nothing.
pub(crate) fn examine(config: &Config) -> Vec<BadCertificates> {
    let own = [("proxy.tls", &config.proxy.tls), ("admin.tls", &config.admin.tls)];
    let own = own.into_iter().filter_map(|(section, files)| {
        let files = ServerFiles::new(section, files.clone()?);
        Some((section.to_owned(), files.examine()))
    });
    let routes = config.routes.iter().filter(|route| speaks_tls(route));
    let routes = routes.map(|route| (name_route(&route.name), UpstreamFiles::of(route).examine()));
    own.chain(routes)
        .filter_map(|(section, examined)| Some(BadCertificates::new(section, examined.err()?)))
        .collect()
}

/// As problems name a route.
pub(crate) fn name_route(name: &str) -> String {
    format!("route `{name}`")
}

fn speaks_tls(route: &Route) -> bool {
    route.upstream.as_http().is_some_and(|url| url.scheme == Scheme::Https)
}

/// The cryptography of all sides: rustls with ring, whose defaults are TLS 1.2 and 1.3 and no weak suite.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
