//! From a request's host and path to its route. The path is taken as it was written: nothing is decoded,
//! normalised or resolved.

use crate::{
    auth, bodies,
    identity::Authenticator,
    keyed_hash::KeyedHash,
    process_meter::{Meter, Use},
    redaction,
    route::{Route, Servers, Target},
    upstream::HeadLimits,
};
use http::{Uri, uri::PathAndQuery};
use mcpmeter_config as config;
use mcpmeter_observer::{BodyRule, Instance};
use std::{collections::HashMap, io, sync::Arc};

/// All routes, by what leads to them. Never changed; a reload makes another one.
#[derive(Default)]
pub(crate) struct Routes {
    by_prefix: HashMap<Box<str>, Arc<Route>>,
    by_host: HashMap<Box<str>, Arc<Route>>,
    /// Instances of earlier tables in which calls are still open, or may yet be.
    retired: Vec<Arc<Instance>>,
    /// Host names that a loopback listener accepts beside the loopback names.
    public_hosts: Vec<String>,
}

impl Routes {
    /// Builds the table. What an earlier table already has for the same route is taken over: its sessions
    /// and, if the way to the upstream is the same, its connections.
    pub(crate) fn build(config: &config::Config, earlier: &Self, servers: &Servers) -> io::Result<Self> {
        let mut routes = Self { public_hosts: config.proxy.public_hosts.clone(), ..Self::default() };
        let hash = |key| Arc::new(KeyedHash::lasting(key, "bearer token"));
        servers.bearer_hash.store(config.privacy.hash_key.as_ref().map(hash));
        let heads = HeadLimits { fields: config.proxy.max_headers, bytes: config.proxy.max_header_bytes };
        for wanted in &config.routes {
            let known = earlier.find(wanted);
            let route = match known.filter(|known| known.config == *wanted) {
                Some(same) => Arc::clone(same),
                None => Arc::new(Route::build(wanted, known.map(Arc::as_ref), heads, servers)?),
            };
            match &wanted.host {
                Some(host) => routes.by_host.insert(host.as_str().into(), route),
                None => routes.by_prefix.insert(wanted.name.as_str().into(), route),
            };
        }
        routes.retired = earlier.leave_behind(&routes);
        let redactor = redaction::redactor(&config.privacy);
        routes.instances().for_each(|instance| instance.redact_with(Arc::clone(&redactor)));
        // Who is not served any more keeps nothing more either.
        routes.retired.iter().for_each(|instance| instance.keep_bodies(BodyRule::default()));
        for route in routes.all() {
            route.instance.keep_bodies(bodies::rule(route.config.bodies, &config.record));
        }
        Ok(routes)
    }

    /// The instances that the next table no longer has, as long as calls are open in them or an exchange still
    /// holds them: their calls have to end in records, too.
    fn leave_behind(&self, next: &Self) -> Vec<Arc<Instance>> {
        let stays =
            |instance: &Arc<Instance>| next.all().any(|route| route.instance.is_same_server(instance));
        // One reference is this table's own.
        let is_busy = |instance: &Arc<Instance>| Arc::strong_count(instance) > 1 || instance.has_open();
        self.instances().filter(|instance| !stays(instance) && is_busy(instance)).map(Arc::clone).collect()
    }

    /// Everything that is observed: the routes' instances, and those that earlier routes left behind.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.all().map(|route| &route.instance).chain(&self.retired)
    }

    /// The meters of the routes with this instance.
    pub(crate) fn meters_of<'a>(&'a self, instance: &'a Arc<Instance>) -> impl Iterator<Item = &'a Meter> {
        let of_instance = move |route: &&Arc<Route>| Arc::ptr_eq(&route.instance, instance);
        self.all().filter(of_instance).map(|route| &*route.meter)
    }

    /// What the servers of all routes have come to, as far as it is known, by instance. Servers that several routes
    /// lead to are told for each.
    pub(crate) fn uses(&self) -> Vec<(Arc<str>, Use)> {
        let used = |route: &Arc<Route>| {
            Some((Arc::clone(&route.instance.identity().instance_id), route.meter.so_far()?))
        };
        self.all().filter_map(used).collect()
    }

    fn find(&self, wanted: &config::Route) -> Option<&Arc<Route>> {
        match &wanted.host {
            Some(host) => self.by_host.get(host.as_str()),
            None => self.by_prefix.get(wanted.name.as_str()),
        }
    }

    /// The route of a request, and what its target means there.
    pub(crate) fn match_route<'a>(
        &self,
        host: Option<&str>,
        uri: &'a Uri,
    ) -> Option<(&Arc<Route>, Target<'a>)> {
        let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        if !self.by_host.is_empty()
            && let Some(route) = host.and_then(|host| self.by_host.get(host.to_ascii_lowercase().as_str()))
        {
            return Some((route, route.understand(target)));
        }
        if let Some((name, behind)) = auth::split_document(target)
            && let Some((route, inside)) = self.match_prefix(behind)
        {
            return Some((route, Target::Document { whole: target, name, inside }));
        }
        let (route, inside) = self.match_prefix(target)?;
        Some((route, Target::Inside(inside)))
    }

    /// The route that a path begins with, and what follows it.
    fn match_prefix<'a>(&self, path: &'a str) -> Option<(&Arc<Route>, &'a str)> {
        let inside = path.strip_prefix('/')?;
        let end = inside.find(['/', '?']).unwrap_or(inside.len());
        let route = self.by_prefix.get(&inside[..end])?;
        Some((route, &inside[end..]))
    }

    /// Whether a host name, without its port, is one of ours.
    pub(crate) fn serves_host(&self, host: &str) -> bool {
        self.by_host.contains_key(host.to_ascii_lowercase().as_str())
            || self.public_hosts.iter().any(|public| public.eq_ignore_ascii_case(host))
    }

    /// Whether callers of some route are known by keys.
    pub(crate) fn want_keys(&self) -> bool {
        self.all().any(|route| matches!(route.config.identity, config::Identity::ApiKey { .. }))
    }

    /// The routes' authenticators that have not read their issuers' keys.
    pub(crate) fn lacking_keys(&self) -> Vec<Arc<Authenticator>> {
        let authenticators = self.all().map(|route| &route.authenticator);
        authenticators.filter(|authenticator| authenticator.lacks_keys()).map(Arc::clone).collect()
    }

    /// All routes, in no order.
    fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_prefix.values().chain(self.by_host.values())
    }

    /// The names of the routes by prefix, for a client that missed them.
    pub(crate) fn prefixes(&self) -> String {
        let mut names: Vec<_> = self.by_prefix.keys().map(|name| format!("/{name}/")).collect();
        names.sort_unstable();
        names.truncate(10);
        names.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Server;

    fn routes(toml: &str) -> Routes {
        let source = config::Source { text: toml, ..config::Source::default() };
        let config = config::load(&source).expect("valid");
        Routes::build(&config, &Routes::default(), &Servers::default()).expect("buildable")
    }

    fn target_of(routes: &Routes, host: Option<&str>, uri: &'static str) -> Option<String> {
        let uri = Uri::from_static(uri);
        let (route, rest) = routes.match_route(host, &uri)?;
        Some(format!("{} {}", route.config.name, route.upstream_target(rest)))
    }

    #[test]
    fn the_first_segment_or_the_host_leads_to_the_route() {
        let routes = routes(
            "[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n\
             [[route]]\nname = \"b\"\nupstream = \"http://127.0.0.1:2/base\"\n\
             [[route]]\nname = \"c\"\nhost = \"c.example\"\nupstream = \"http://127.0.0.1:3\"\n",
        );
        for (host, uri, expected) in [
            (None, "/a/mcp", Some("a /mcp")),
            (None, "/a", Some("a /")),
            (None, "/a/", Some("a /")),
            (None, "/a?x=1", Some("a /?x=1")),
            (None, "/a//x/../%2F?q=%20+&", Some("a //x/../%2F?q=%20+&")),
            (None, "/b/mcp", Some("b /base/mcp")),
            (None, "/b", Some("b /base")),
            (None, "/b?x", Some("b /base?x")),
            (None, "/ab/mcp", None),
            (None, "/A/mcp", None),
            (None, "/", None),
            (None, "*", None),
            (Some("c.example"), "*", Some("c *")),
            (Some("C.example"), "/a/mcp", Some("c /a/mcp")),
            (Some("other"), "/a/mcp", Some("a /mcp")),
        ] {
            assert_eq!(target_of(&routes, host, uri).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn documents_about_authorization_are_found_in_front_of_the_prefix() {
        let table = |auth_rewrite| {
            routes(&format!(
                "[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1/v1\"\nauth_rewrite = \"{auth_rewrite}\"\n\
                 [[route]]\nname = \"c\"\nhost = \"c.example\"\nupstream = \"http://127.0.0.1:3/v1\"\n\
                 auth_rewrite = \"{auth_rewrite}\"\n",
            ))
        };
        const METADATA: &str = "/.well-known/oauth-protected-resource";
        for (host, uri, off, urls) in [
            (
                None,
                "/.well-known/oauth-protected-resource/a/mcp",
                "a /.well-known/oauth-protected-resource/a/mcp",
                "a /.well-known/oauth-protected-resource/v1/mcp",
            ),
            (
                None,
                "/.well-known/oauth-authorization-server/a",
                "a /.well-known/oauth-authorization-server/a",
                "a /.well-known/oauth-authorization-server/v1",
            ),
            (
                None,
                "/.well-known/openid-configuration/a?x",
                "a /.well-known/openid-configuration/a?x",
                "a /.well-known/openid-configuration/v1?x",
            ),
            (
                Some("c.example"),
                "/.well-known/oauth-protected-resource/mcp",
                "c /v1/.well-known/oauth-protected-resource/mcp",
                "c /.well-known/oauth-protected-resource/v1/mcp",
            ),
        ] {
            assert_eq!(target_of(&table("off"), host, uri).as_deref(), Some(off));
            assert_eq!(target_of(&table("urls"), host, uri).as_deref(), Some(urls));
        }
        assert_eq!(target_of(&table("urls"), None, METADATA), None, "whose would it be?");
        assert_eq!(target_of(&table("urls"), None, "/.well-known/oauth-protected-resources/a"), None);
    }

    fn connector_of(route: &Route) -> impl PartialEq + std::fmt::Debug + use<> {
        let Server::Http { connector, .. } = &route.server else { panic!("a server with a URL") };
        connector.id()
    }

    #[test]
    fn a_reload_keeps_sessions_and_connections_of_what_stays() {
        let text = "[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n";
        let before = routes(text);
        let reload = |text: &str| {
            let config = config::load(&config::Source { text, ..config::Source::default() }).expect("valid");
            Routes::build(&config, &before, &Servers::default()).expect("buildable")
        };
        let find = |routes: &Routes| Arc::clone(&routes.by_prefix["a"]);
        assert!(Arc::ptr_eq(&find(&before), &find(&reload(text))));
        let slower = reload(&format!("{text}connect_timeout_ms = 5\n"));
        assert!(Arc::ptr_eq(&find(&before).instance, &find(&slower).instance));
        assert!(Arc::ptr_eq(&find(&before).occupancy, &find(&slower).occupancy));
        assert_ne!(connector_of(&find(&before)), connector_of(&find(&slower)));
    }

    #[test]
    fn an_instance_whose_route_is_gone_stays_while_an_exchange_holds_it() {
        let before = routes("[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n");
        let held = Arc::clone(&before.by_prefix["a"].instance);
        let renamed = "[[route]]\nname = \"b\"\nupstream = \"http://127.0.0.1:1\"\n";
        let reload = |earlier: &Routes| {
            let config =
                config::load(&config::Source { text: renamed, ..config::Source::default() }).expect("valid");
            Routes::build(&config, earlier, &Servers::default()).expect("buildable")
        };
        let after = reload(&before);
        assert!(after.instances().any(|instance| Arc::ptr_eq(instance, &held)));
        drop((before, held));
        assert_eq!(reload(&after).instances().count(), 1);
    }
}
