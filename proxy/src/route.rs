//! One way to one server: what a route's configuration makes of it, what a target means there, and what of it outlives a
//! reload.

use crate::{
    auth, gate,
    identity::{Authenticator, BearerHash},
    key_ring::KeyRing,
    occupancy::{Occupancy, Place},
    process_meter::{Meter, Meters},
    stdio,
    tap::Tap,
    time_limit::is_stream,
    tls::{BadCertificates, Certificates, UpstreamFiles, name_route},
    upstream::{self, Connector, HeadLimits},
};
use http::{HeaderValue, request::Parts};
use mcpmeter_config as config;
use mcpmeter_observer::{Failure, Identity, Instance, Mount};
use std::{io, sync::Arc, time::Duration};

/// One way to one upstream.
pub(crate) struct Route {
    /// As it was configured.
    pub(crate) config: config::Route,
    /// What is observed of it, kept over reloads that leave the identity alone.
    pub(crate) instance: Arc<Instance>,
    pub(crate) server: Server,
    /// Who is let in. Kept over reloads that leave it alone, with the keys that it has read.
    pub(crate) authenticator: Arc<Authenticator>,
    /// What its calls cost, kept over reloads.
    pub(crate) meter: Arc<Meter>,
    /// The exchanges at this moment, kept over reloads.
    pub(crate) occupancy: Arc<Occupancy>,
}

/// What is behind a route.
pub(crate) enum Server {
    /// A server that speaks HTTP.
    Http {
        connector: Connector,
        /// What `Host` says to it; absent if the client's is preserved.
        host: Option<HeaderValue>,
    },
    /// A server that is a program.
    Stdio(stdio::Server),
}

/// What all routes' servers have in common. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Servers {
    /// Where programs run.
    pub(crate) programs: stdio::Host,
    /// What servers cost.
    pub(crate) meters: Meters,
    /// Who may call them, where that is told by keys.
    pub(crate) keys: Arc<KeyRing>,
    /// By what credentials of others are told apart.
    pub(crate) bearer_hash: BearerHash,
    /// What they are shown, and what our own ports show.
    pub(crate) certificates: Certificates,
}

impl Servers {
    fn meter_of(&self, route: &config::Route) -> Meter {
        match &route.upstream {
            config::Upstream::Http(url) => self.meters.of_http(url, route.process.as_ref()),
            config::Upstream::Stdio(_) => self.meters.of_programs(),
        }
    }
}

/// A request's target as its route understands it. All parts are as they were written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// What lies behind the route's prefix.
    Inside(&'a str),
    /// A document about authorization, whose name comes before the prefix.
    Document { whole: &'a str, name: &'a str, inside: &'a str },
    /// The server as a whole (`OPTIONS *`).
    Server,
}

impl Server {
    fn http(
        wanted: &config::Route,
        url: &config::HttpUpstream,
        heads: HeadLimits,
        certificates: &Certificates,
    ) -> io::Result<Self> {
        let refuse = |error| io::Error::other(BadCertificates::new(name_route(&wanted.name), error));
        let tls = match url.scheme {
            config::Scheme::Http => None,
            config::Scheme::Https => Some(certificates.reach(&UpstreamFiles::of(wanted)).map_err(refuse)?),
        };
        let timeout = Duration::from_millis(wanted.connect_timeout_ms);
        let host = HeaderValue::from_str(&url.authority).map_err(io::Error::other)?;
        let connector = Connector::new(url, tls, timeout, heads)?;
        Ok(Self::Http { connector, host: (!wanted.preserve_host).then_some(host) })
    }
}

impl Route {
    /// Room for an exchange. A stream needs none: it may last for ever, and would take the room of calls.
    pub(crate) fn enter(&self, parts: &Parts) -> Result<Option<Place>, Failure> {
        match self.config.max_exchanges {
            Some(limit) if !is_stream(parts) => {
                self.occupancy.enter(limit).map(Some).ok_or_else(|| upstream::no_room(limit))
            }
            _ => Ok(None),
        }
    }

    /// `known` is what an earlier table has in its place.
    pub(crate) fn build(
        wanted: &config::Route,
        known: Option<&Self>,
        heads: HeadLimits,
        servers: &Servers,
    ) -> io::Result<Self> {
        let identity = Identity {
            instance_id: wanted.instance_id.as_str().into(),
            user_id: wanted.user_id.as_deref().map(Into::into),
            organization_id: wanted.organization_id.as_deref().map(Into::into),
        };
        let (origin, base_path) = match &wanted.upstream {
            config::Upstream::Http(url) => {
                (format!("{}://{}", url.scheme.as_str(), url.authority), url.base_path.clone())
            }
            // Where its `endpoint` event is resolved; nobody sees it.
            config::Upstream::Stdio(_) => ("http://localhost".to_owned(), String::new()),
        };
        let mount = Mount {
            origin,
            base_path,
            prefix: if wanted.host.is_some() { String::new() } else { format!("/{}", wanted.name) },
        };
        // Clients go on where they are, whoever they belong to from now on.
        let is_of_its_kind =
            |known: &&Self| known.config.upstream.as_http().is_some() == wanted.upstream.as_http().is_some();
        let kept = known
            .filter(is_of_its_kind)
            .map(|known| &known.instance)
            .filter(|instance| *instance.mount() == mount);
        let instance = match kept {
            Some(instance) if *instance.identity() == identity => Arc::clone(instance),
            Some(instance) => Arc::new(instance.succeed(identity)),
            None if wanted.upstream.as_http().is_none() => Arc::new(Instance::new_stdio(identity, mount)),
            None => Arc::new(Instance::new(identity, mount)),
        };
        let kept = known.filter(|known| {
            known.config.upstream == wanted.upstream && known.config.process == wanted.process
        });
        let meter = kept.map(|known| Arc::clone(&known.meter));
        let meter = meter.unwrap_or_else(|| Arc::new(servers.meter_of(wanted)));
        let server = match &wanted.upstream {
            config::Upstream::Http(url) => Server::http(wanted, url, heads, &servers.certificates)?,
            config::Upstream::Stdio(command) => {
                Server::Stdio(stdio::Server::new(&wanted.name, command, &servers.programs, &meter))
            }
        };
        let same = known.filter(|known| known.config.identity == wanted.identity);
        let authenticator = same.map(|known| Arc::clone(&known.authenticator));
        Ok(Self {
            server,
            authenticator: authenticator.unwrap_or_else(|| {
                Arc::new(Authenticator::of(&wanted.identity, &servers.keys, &servers.bearer_hash))
            }),
            meter,
            instance,
            occupancy: known.map(|known| Arc::clone(&known.occupancy)).unwrap_or_default(),
            config: wanted.clone(),
        })
    }

    /// What works on an exchange's calls is told to its tap, if anybody knows.
    pub(crate) fn begin_metering(&self, tap: &Tap) {
        let tree = self.meter.tree();
        if tree.is_some() || matches!(self.server, Server::Stdio(_)) {
            tap.tell(|exchange, _| exchange.watch_opened());
        }
        if let Some(processes) = tree {
            tap.meter(Arc::clone(processes));
        }
    }

    /// Whether a target leads out of the part of the upstream that the route has been given.
    pub(crate) fn is_left_by(&self, target: Target<'_>) -> bool {
        let (Target::Inside(inside) | Target::Document { inside, .. }) = target else { return false };
        !self.base_path().is_empty() && gate::climbs(inside)
    }

    /// What a target means to a route that has a host of its own.
    pub(crate) fn understand<'a>(&self, target: &'a str) -> Target<'a> {
        match auth::split_document(target) {
            _ if target == "*" => Target::Server,
            // Whoever knows the clients' URLs has its documents where they look for them.
            Some((name, inside))
                if self.config.auth_rewrite == config::AuthRewrite::Urls
                    || self.config.identity.is_required() =>
            {
                Target::Document { whole: target, name, inside }
            }
            _ => Target::Inside(target),
        }
    }

    fn base_path(&self) -> &str {
        self.config.upstream.as_http().map_or("", |url| url.base_path.as_str())
    }

    /// Path and query as the upstream is asked for them.
    pub(crate) fn upstream_target(&self, target: Target<'_>) -> String {
        let rest = match (target, self.config.auth_rewrite) {
            (Target::Inside(rest), _) => rest,
            (Target::Server, _) => return "*".to_owned(),
            // It was told the clients' URL, and has put the document where that leads.
            (Target::Document { whole, .. }, config::AuthRewrite::Off) => return whole.to_owned(),
            (Target::Document { name, inside, .. }, config::AuthRewrite::Urls) => {
                return [name, self.base_path(), inside].concat();
            }
        };
        let base = self.base_path();
        let is_whole =
            rest.starts_with('/') || (!base.is_empty() && (rest.is_empty() || rest.starts_with('?')));
        // Of exactly the length that is needed: a URI made of it takes the memory over.
        [base, if is_whole { "" } else { "/" }, rest].concat()
    }

    /// Whether the stream of a legacy client may need its endpoint changed: it may name the server's own origin,
    /// or lie outside of the base path.
    pub(crate) const fn patches_endpoint(&self) -> bool {
        self.config.rewrite_endpoint
    }
}
