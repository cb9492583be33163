//! A changed configuration, taken over while traffic goes on: on SIGHUP, or when the file has changed. It is
//! checked first; an invalid one changes nothing and says why.

use crate::{
    admin::Entrance, admission::Admission, bodies, client_ip::AddressPolicy, clock::Clock, route::Servers,
    router::Routes, tls::Certificate,
};
use arc_swap::ArcSwap;
use mcpmeter_config::{Config, Flag, Problems, Setting, Source};
use mcpmeter_journal::{Journal, chain};
use std::{
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tracing::{error, info, warn};

/// How often the file is looked at. Looking costs one system call; a watch would miss the link that
/// Kubernetes swaps under a mounted file.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// Where a configuration comes from, so that it can be read again.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigOrigin {
    pub(crate) file: PathBuf,
    /// What a file would say, where the command line says it all.
    pub(crate) text: Option<String>,
    /// The command line's settings: the flag, the key it sets, the value.
    pub(crate) flags: Vec<(&'static str, &'static str, String)>,
    /// The file's state before it was first read: a change since then is one that has to be taken over.
    pub(crate) seen: Option<Stamp>,
}

impl ConfigOrigin {
    /// Reads it, or says everything that is wrong with it.
    pub(crate) fn load(&self) -> Result<Config, Problems> {
        self.read_with(mcpmeter_config::load)
    }

    /// The values that are in force, and who gave them, or everything that is wrong.
    pub(crate) fn settings(&self) -> Result<Vec<Setting>, Problems> {
        self.read_with(mcpmeter_config::settings)
    }

    fn read_with<T>(&self, read: fn(&Source<'_>) -> Result<T, Problems>) -> Result<T, Problems> {
        let flags: Vec<_> = self.flags.iter().map(|(name, key, value)| Flag { name, key, value }).collect();
        let environment = &mcpmeter_config::process_environment();
        match &self.text {
            Some(text) => read(&Source { path: None, text, environment, flags: &flags }),
            None => {
                let text = &mcpmeter_config::read_text(&self.file)?;
                read(&Source { path: Some(&self.file), text, environment, flags: &flags })
            }
        }
    }
}

/// What a reload can change in the running proxy.
pub(crate) struct Reloader {
    pub(crate) origin: ConfigOrigin,
    pub(crate) current: Config,
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    pub(crate) addresses: Arc<ArcSwap<AddressPolicy>>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) entrance: Entrance,
    pub(crate) servers: Servers,
    pub(crate) admission: Arc<ArcSwap<Admission>>,
    pub(crate) journal: Journal,
    pub(crate) clock: Clock,
    pub(crate) seen: Option<Stamp>,
}

/// What tells one state of a file from another. Follows links, as Kubernetes and certbot exchange them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
    /// When it was last changed in any way, rights included; nobody can set it.
    changed: (i64, i64),
}

/// The file's state now; absent while it cannot be read.
pub(crate) fn stamp(file: &std::path::Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    Some(Stamp { modified: metadata.modified().ok(), len: metadata.len(), inode: metadata.ino(), changed })
}

/// Says what is valid, and hardly what anybody wants.
pub(crate) fn warn_of(config: &Config) {
    mcpmeter_config::warnings(config).iter().for_each(|warning| warn!("{warning}"));
}

impl Reloader {
    /// Takes the file over if it has changed since it was last looked at, and certificates that have. Whether it had.
    pub(crate) fn reload_if_changed(&mut self) -> bool {
        let now = stamp(&self.origin.file);
        let has_changed = now.is_some() && now != self.seen;
        if has_changed {
            self.reload();
        } else {
            self.servers.certificates.renew_changed();
        }
        has_changed
    }

    /// Takes the configuration over, or keeps the old one and says why.
    pub(crate) fn reload(&mut self) {
        self.seen = stamp(&self.origin.file);
        let config = match self.origin.load() {
            Ok(config) => config,
            Err(problems) => {
                return error!(
                    "the configuration was not changed, because the new one is invalid:\n{problems}"
                );
            }
        };
        let routes = match Routes::build(&config, &self.routes.load(), &self.servers) {
            Ok(routes) => routes,
            Err(problem) => {
                return error!(problem = chain(&problem), "the configuration was not changed");
            }
        };
        self.journal.seal_bodies_with(bodies::keys(&config.record));
        self.renew_certificates(&config);
        self.entrance.access.exchange_token(config.admin.token.as_ref());
        let changes = mcpmeter_config::changes(&self.current, &config);
        self.routes.store(Arc::new(routes));
        let admission = Admission::build(&config, Some(&self.admission.load()), self.clock);
        self.admission.store(Arc::new(admission));
        self.addresses.store(Arc::new(AddressPolicy::of(&config)));
        for change in &changes.restart {
            warn!(key = %change, "this change takes effect at the next start");
        }
        warn_of(&config);
        info!(changed = %changes.live.join(", "), "configuration reloaded");
        self.current = config;
    }

    /// Files under other names, and files that have changed, whether or not they have come to rest.
    fn renew_certificates(&self, config: &Config) {
        let ports = [
            (&self.certificate, "proxy.tls", &config.proxy.tls),
            (&self.entrance.certificate, "admin.tls", &config.admin.tls),
        ];
        for (certificate, section, files) in ports {
            if let (Some(certificate), Some(files)) = (certificate, files) {
                certificate.use_files(section, files);
            }
        }
        self.servers.certificates.renew_all();
    }
}
