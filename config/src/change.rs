//! What a new configuration changes: at once, or only after a restart.
//!
//! Names keys, never values. Every struct is taken apart in full, so that a new key cannot be forgotten.

use std::collections::BTreeMap;

use crate::{Admin, Config, Log, Policy, Privacy, Proxy, Record, Route, Store, Tls, Upstream};

/// The keys that differ, as a person would name them: `proxy.listen`, ``route `crm` added``.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In effect as soon as the new configuration is.
    pub live: Vec<String>,
    /// In effect only after a restart; until then the old value is.
    pub restart: Vec<String>,
}

impl Changes {
    /// Whether nothing differs. Certificates may still have new content under their old names.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }

    fn live(&mut self, key: &str, same: bool) {
        if !same {
            self.live.push(key.to_owned());
        }
    }

    fn restart(&mut self, key: &str, same: bool) {
        if !same {
            self.restart.push(key.to_owned());
        }
    }
}

/// Compares two configurations.
pub fn changes(old: &Config, new: &Config) -> Changes {
    // The identity of all routes shows in each of them.
    let Config { proxy, admin, store, privacy, record, identity: _, log, policy, limits, quotas, routes } =
        old;
    let mut changes = Changes::default();
    compare_proxy(&mut changes, proxy, &new.proxy);
    compare_admin(&mut changes, admin, &new.admin);
    compare_store(&mut changes, store, &new.store);
    let Privacy { client_ip, hash_key, hash_rotation, redact, keep } = privacy;
    changes.live("privacy.client_ip", *client_ip == new.privacy.client_ip);
    changes.live("privacy.hash_key", *hash_key == new.privacy.hash_key);
    changes.live("privacy.hash_rotation", *hash_rotation == new.privacy.hash_rotation);
    changes.live("privacy.redact", *redact == new.privacy.redact);
    changes.live("privacy.keep", *keep == new.privacy.keep);
    compare_record(&mut changes, record, &new.record);
    let Log { level, format } = log;
    changes.restart("log.level", *level == new.log.level);
    changes.restart("log.format", *format == new.log.format);
    compare_policy(&mut changes, policy, &new.policy);
    changes.live("limit", *limits == new.limits);
    changes.live("quota", *quotas == new.quotas);
    compare_routes(&mut changes, routes, &new.routes);
    changes
}

fn compare_policy(changes: &mut Changes, old: &Policy, new: &Policy) {
    let Policy { default, max_body_bytes, max_held_bytes, body_timeout_ms, rules } = old;
    changes.live("policy.default", *default == new.default);
    changes.live("policy.max_body_bytes", *max_body_bytes == new.max_body_bytes);
    changes.live("policy.max_held_bytes", *max_held_bytes == new.max_held_bytes);
    changes.live("policy.body_timeout_ms", *body_timeout_ms == new.body_timeout_ms);
    changes.live("rule", *rules == new.rules);
}

/// Of which calls they are kept shows in each route.
fn compare_record(changes: &mut Changes, old: &Record, new: &Record) {
    let Record { bodies: _, bodies_max_bytes, bodies_retention_days, bodies_key } = old;
    changes.live("record.bodies_max_bytes", *bodies_max_bytes == new.bodies_max_bytes);
    changes.restart("record.bodies_retention_days", *bodies_retention_days == new.bodies_retention_days);
    changes.live("record.bodies_key", *bodies_key == new.bodies_key);
}

fn compare_proxy(changes: &mut Changes, old: &Proxy, new: &Proxy) {
    let Proxy {
        listen,
        public_hosts,
        workers,
        runtime,
        drain_timeout_ms,
        connect_timeout_ms,
        max_connections,
        request_head_timeout_ms,
        max_headers,
        max_header_bytes,
        trusted_proxies,
        forwarded_hops,
        forwarded_header,
        tls,
    } = old;
    changes.restart("proxy.listen", *listen == new.listen);
    changes.live("proxy.public_hosts", *public_hosts == new.public_hosts);
    changes.restart("proxy.workers", *workers == new.workers);
    changes.restart("proxy.runtime", *runtime == new.runtime);
    changes.live("proxy.drain_timeout_ms", *drain_timeout_ms == new.drain_timeout_ms);
    changes.live("proxy.connect_timeout_ms", *connect_timeout_ms == new.connect_timeout_ms);
    changes.restart("proxy.max_connections", *max_connections == new.max_connections);
    changes.restart("proxy.request_head_timeout_ms", *request_head_timeout_ms == new.request_head_timeout_ms);
    changes.restart("proxy.max_headers", *max_headers == new.max_headers);
    changes.restart("proxy.max_header_bytes", *max_header_bytes == new.max_header_bytes);
    changes.live("proxy.trusted_proxies", *trusted_proxies == new.trusted_proxies);
    changes.live("proxy.forwarded_hops", *forwarded_hops == new.forwarded_hops);
    changes.live("proxy.forwarded_header", *forwarded_header == new.forwarded_header);
    compare_tls(changes, "proxy.tls", tls.as_ref(), new.tls.as_ref());
}

/// What is in the files is read again at every reload. Whether a port speaks TLS at all is settled when it is opened.
fn compare_tls(changes: &mut Changes, section: &str, old: Option<&Tls>, new: Option<&Tls>) {
    let (Some(Tls { cert_file, key_file, client_ca_file, client_auth }), Some(new)) = (old, new) else {
        changes.restart(section, old == new);
        return;
    };
    changes.live(&format!("{section}.cert_file"), *cert_file == new.cert_file);
    changes.live(&format!("{section}.key_file"), *key_file == new.key_file);
    let is_same = *client_ca_file == new.client_ca_file;
    // Who was kept out stays out as long as the port is open.
    match (client_ca_file, &new.client_ca_file) {
        (Some(_), Some(_)) => changes.live(&format!("{section}.client_ca_file"), is_same),
        _ => changes.restart(&format!("{section}.client_ca_file"), is_same),
    }
    changes.restart(&format!("{section}.client_auth"), *client_auth == new.client_auth);
}

fn compare_admin(changes: &mut Changes, old: &Admin, new: &Admin) {
    let Admin { listen, token, tls } = old;
    changes.restart("admin.listen", *listen == new.listen);
    let is_same = *token == new.token;
    // Whether there has to be one depends on the address, and that stays.
    match (token, &new.token) {
        (Some(_), Some(_)) => changes.live("admin.token", is_same),
        _ => changes.restart("admin.token", is_same),
    }
    compare_tls(changes, "admin.tls", tls.as_ref(), new.tls.as_ref());
}

fn compare_store(changes: &mut Changes, old: &Store, new: &Store) {
    let Store {
        url,
        outbox,
        migrate,
        queue_mib,
        queue_directory,
        outbox_max_mib,
        retention_days,
        compress_after_days,
        sqlite_max_mib,
        flush_timeout_ms,
    } = old;
    changes.restart("store.url", *url == new.url);
    changes.restart("store.outbox", *outbox == new.outbox);
    changes.restart("store.migrate", *migrate == new.migrate);
    changes.restart("store.queue_mib", *queue_mib == new.queue_mib);
    changes.restart("store.queue_directory", *queue_directory == new.queue_directory);
    changes.restart("store.outbox_max_mib", *outbox_max_mib == new.outbox_max_mib);
    changes.restart("store.retention_days", *retention_days == new.retention_days);
    changes.restart("store.compress_after_days", *compress_after_days == new.compress_after_days);
    changes.restart("store.sqlite_max_mib", *sqlite_max_mib == new.sqlite_max_mib);
    changes.restart("store.flush_timeout_ms", *flush_timeout_ms == new.flush_timeout_ms);
}

/// A renamed route is one removed and one added: names are what identifies them. Their order means nothing.
fn compare_routes(changes: &mut Changes, old: &[Route], new: &[Route]) {
    let by_name = |routes| -> BTreeMap<&str, &Route> {
        let routes: &[Route] = routes;
        routes.iter().map(|route| (route.name.as_str(), route)).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    for (name, route) in &old {
        match new.get(name) {
            None => changes.live.push(format!("route `{name}` removed")),
            Some(new) if new != route => {
                changes
                    .live
                    .push(format!("route `{name}` changed ({})", differing_keys(route, new).join(", ")));
            }
            Some(_) => {}
        }
    }
    let added = new.keys().filter(|name| !old.contains_key(*name));
    changes.live.extend(added.map(|name| format!("route `{name}` added")));
}

fn differing_keys(old: &Route, new: &Route) -> Vec<&'static str> {
    let Route {
        name: _,
        host,
        upstream,
        instance_id,
        user_id,
        organization_id,
        connect_timeout_ms,
        max_exchanges,
        first_byte_timeout_ms,
        total_timeout_ms,
        stream_timeout_ms,
        preserve_host,
        rewrite_endpoint,
        rewrite_location,
        auth_rewrite,
        ca_file,
        client_cert_file,
        client_key_file,
        process,
        identity,
        bodies,
    } = old;
    let keys = [
        ("host", *host == new.host),
        (upstream_key(upstream, &new.upstream), *upstream == new.upstream),
        ("instance_id", *instance_id == new.instance_id),
        ("user_id", *user_id == new.user_id),
        ("organization_id", *organization_id == new.organization_id),
        ("connect_timeout_ms", *connect_timeout_ms == new.connect_timeout_ms),
        ("max_exchanges", *max_exchanges == new.max_exchanges),
        ("first_byte_timeout_ms", *first_byte_timeout_ms == new.first_byte_timeout_ms),
        ("total_timeout_ms", *total_timeout_ms == new.total_timeout_ms),
        ("stream_timeout_ms", *stream_timeout_ms == new.stream_timeout_ms),
        ("preserve_host", *preserve_host == new.preserve_host),
        ("rewrite_endpoint", *rewrite_endpoint == new.rewrite_endpoint),
        ("rewrite_location", *rewrite_location == new.rewrite_location),
        ("auth_rewrite", *auth_rewrite == new.auth_rewrite),
        ("ca_file", *ca_file == new.ca_file),
        ("client_cert_file", *client_cert_file == new.client_cert_file),
        ("client_key_file", *client_key_file == new.client_key_file),
        ("process", *process == new.process),
        ("identity", *identity == new.identity),
        ("record.bodies", *bodies == new.bodies),
    ];
    keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}

/// Everything about a command goes by its name: it is started anew whatever of it has changed.
const fn upstream_key(old: &Upstream, new: &Upstream) -> &'static str {
    match (old, new) {
        (Upstream::Stdio(_), Upstream::Stdio(_)) => "command",
        _ => "upstream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Secret, Source, StoreUrl, load};

    fn config(text: &str) -> Config {
        load(&Source { text, ..Source::default() }).unwrap()
    }

    const ROUTE: &str = "[[route]]\nname = \"a\"\nupstream = \"http://h\"\n";

    #[test]
    fn equal_configurations_change_nothing() {
        assert!(changes(&config(ROUTE), &config(ROUTE)).is_empty());
    }

    #[test]
    fn timeouts_hosts_and_privacy_are_live_and_sockets_store_and_log_are_not() {
        let new = config(&format!(
            "[proxy]\nlisten = \"127.0.0.1:1\"\npublic_hosts = [\"h\"]\nworkers = 2\nruntime = \"shared\"\n\
             drain_timeout_ms = 1\nmax_headers = 99\ntrusted_proxies = [\"10.0.0.0/8\"]\n\
             forwarded_hops = 2\nforwarded_header = \"forwarded\"\n\
             [admin]\nlisten = \"127.0.0.1:2\"\n[store]\nqueue_mib = 20\n\
             [privacy]\nclient_ip = \"off\"\nhash_rotation = \"day\"\nkeep = [\"email\"]\n\
             redact = [{{ name = \"a\", pattern = \"b\" }}]\n[log]\nlevel = \"debug\"\n{ROUTE}"
        ));
        let changes = changes(&config(ROUTE), &new);
        let live = [
            "proxy.public_hosts",
            "proxy.drain_timeout_ms",
            "proxy.trusted_proxies",
            "proxy.forwarded_hops",
            "proxy.forwarded_header",
            "privacy.client_ip",
            "privacy.hash_rotation",
            "privacy.redact",
            "privacy.keep",
        ];
        let restart = [
            "proxy.listen",
            "proxy.workers",
            "proxy.runtime",
            "proxy.max_headers",
            "admin.listen",
            "store.queue_mib",
            "log.level",
        ];
        assert_eq!(changes.live, live);
        assert_eq!(changes.restart, restart);
    }

    #[test]
    fn routes_are_live_and_told_apart_by_name() {
        let text = ROUTE.replace("http://h", "http://other") + &ROUTE.replace("\"a\"", "\"b\"");
        let (old, new) = (config(ROUTE), config(&text));
        assert_eq!(changes(&old, &new).live, ["route `a` changed (upstream)", "route `b` added"]);
        assert_eq!(changes(&new, &old).live, ["route `a` changed (upstream)", "route `b` removed"]);
        let mut reordered = new.clone();
        reordered.routes.reverse();
        assert!(changes(&new, &reordered).is_empty());
    }

    #[test]
    fn the_default_connect_timeout_changes_the_routes_that_use_it() {
        let new = config(&format!("[proxy]\nconnect_timeout_ms = 5\n{ROUTE}"));
        let live = ["proxy.connect_timeout_ms", "route `a` changed (connect_timeout_ms)"];
        assert_eq!(changes(&config(ROUTE), &new).live, live);
    }

    #[test]
    fn certificates_under_new_names_are_live_and_tls_itself_is_not() {
        for section in ["proxy", "admin"] {
            let tls = |keys: &str| config(&format!("[{section}.tls]\nkey_file = \"k\"\n{keys}\n{ROUTE}"));
            let (old, new) = (tls("cert_file = \"a\""), tls("cert_file = \"b\"\nclient_ca_file = \"c\""));
            let changed = changes(&old, &new);
            assert_eq!(changed.live, [format!("{section}.tls.cert_file")]);
            assert_eq!(changed.restart, [format!("{section}.tls.client_ca_file")]);
            let newer = tls("cert_file = \"b\"\nclient_ca_file = \"d\"\nclient_auth = \"optional\"");
            let changed = changes(&new, &newer);
            assert_eq!(changed.live, [format!("{section}.tls.client_ca_file")]);
            assert_eq!(changed.restart, [format!("{section}.tls.client_auth")]);
            assert_eq!(changes(&config(ROUTE), &old).restart, [format!("{section}.tls")]);
        }
    }

    #[test]
    fn a_token_can_be_exchanged_but_not_taken_away_while_it_runs() {
        let with = |token: Option<&str>| {
            let mut config = config(ROUTE);
            config.admin.token = token.map(Secret::new);
            config
        };
        assert_eq!(changes(&with(Some("a")), &with(Some("b"))).live, ["admin.token"]);
        for (old, new) in [(Some("a"), None), (None, Some("a"))] {
            let changes = changes(&with(old), &with(new));
            assert_eq!((changes.restart, changes.live.len()), (vec!["admin.token".to_owned()], 0));
        }
    }

    #[test]
    fn a_new_password_is_a_change_that_does_not_show_it() {
        let mut new = config(ROUTE);
        new.store.url = StoreUrl::Postgres(Secret::new("postgres://u:geheim@h/d"));
        let changes = changes(&config(ROUTE), &new);
        assert_eq!(changes.restart, ["store.url"]);
        assert!(!format!("{changes:?}").contains("geheim"));
    }
}
