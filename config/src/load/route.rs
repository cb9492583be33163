//! `[[route]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::command;
use super::found::Found;
use super::host;
use super::identity;
use super::process;
use super::proxy::MAX_CONNECT_TIMEOUT_MS;
use super::record;
use super::section::{Reading, Section};
use crate::{
    AuthRewrite, HttpUpstream, Identity, Place, Problem, Record, Route, Scheme, Upstream, UpstreamError,
};

/// As long as a DNS label, so that a name can become one.
const MAX_NAME_BYTES: usize = 63;

/// More exchanges than one machine can have in flight.
const MAX_EXCHANGES: u64 = 1_000_000;
/// A day.
const MAX_TIMEOUT_MS: u64 = 86_400_000;
/// A year: whoever asks for it wants an end, not a limit.
const MAX_STREAM_TIMEOUT_MS: u64 = 366 * MAX_TIMEOUT_MS;

/// What routes have unless they say otherwise.
pub(super) struct Defaults<'d> {
    pub(super) connect_timeout_ms: u64,
    pub(super) identity: &'d Identity,
    pub(super) record: &'d Record,
}

/// The names and hosts so far, and where the first of each stands.
#[derive(Default)]
struct Taken {
    names: BTreeMap<String, Place>,
    hosts: BTreeMap<String, Place>,
}

pub(super) fn read_routes(
    root: &mut Section<'_, '_>,
    defaults: &Defaults<'_>,
    is_required: bool,
) -> Vec<Route> {
    let tables = match root.read("route", Found::as_tables) {
        Reading::Valid(tables) if !tables.is_empty() => tables,
        Reading::Invalid => return Vec::new(),
        _ => {
            if is_required {
                root.report(describe_no_route());
            }
            return Vec::new();
        }
    };
    let mut taken = Taken::default();
    let mut routes = Vec::new();
    for element in tables {
        let section = root.element("route", element);
        routes.extend(section.and_then(|section| read_route(section, defaults, &mut taken)));
    }
    routes
}

fn describe_no_route() -> Problem {
    Problem::new("route-missing", "there is no route, so there is nothing to proxy")
        .help("add one:\n[[route]]\nname = \"everything\"\nupstream = \"http://127.0.0.1:3001\"")
}

/// Reads everything before it gives up, so that all problems of a route are found.
fn read_route(mut section: Section<'_, '_>, defaults: &Defaults<'_>, taken: &mut Taken) -> Option<Route> {
    let name = read_name(&mut section, &mut taken.names);
    let host = read_host(&mut section, &mut taken.hosts);
    let upstream = read_upstream(&mut section);
    let instance_id = section.text("instance_id");
    let user_id = section.text("user_id");
    let organization_id = section.text("organization_id");
    let connect_timeout_ms =
        section.integer("connect_timeout_ms", defaults.connect_timeout_ms, 1..=MAX_CONNECT_TIMEOUT_MS);
    let max_exchanges = section.optional_integer("max_exchanges", 1..=MAX_EXCHANGES);
    let max_exchanges = max_exchanges.and_then(|number| u32::try_from(number).ok());
    let first_byte_timeout_ms = section.optional_integer("first_byte_timeout_ms", 1..=MAX_TIMEOUT_MS);
    let total_timeout_ms = section.optional_integer("total_timeout_ms", 1..=MAX_TIMEOUT_MS);
    let stream_timeout_ms = section.optional_integer("stream_timeout_ms", 1..=MAX_STREAM_TIMEOUT_MS);
    let preserve_host = section.boolean("preserve_host", false);
    let rewrite_endpoint = section.boolean("rewrite_endpoint", true);
    let rewrite_location = section.boolean("rewrite_location", true);
    let choices = [("off", AuthRewrite::Off), ("urls", AuthRewrite::Urls)];
    let auth_rewrite = section.choice("auth_rewrite", AuthRewrite::Off, &choices);
    let [ca_file, client_cert_file, client_key_file] = read_tls_files(&mut section, upstream.as_ref());
    let process = process::read_process(&mut section);
    let identity = identity::read_route_identity(&mut section, defaults.identity);
    let bodies = record::read_route_bodies(&mut section, defaults.record);
    if let (Some(Upstream::Stdio(_)), true) = (&upstream, identity.upstream_authorization().is_some()) {
        report_idle_authorization(&mut section);
    }
    section.finish();
    let name = name?;
    Some(Route {
        instance_id: instance_id.unwrap_or_else(|| name.clone()),
        name,
        host,
        upstream: upstream?,
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
    })
}

fn read_name(section: &mut Section<'_, '_>, taken: &mut BTreeMap<String, Place>) -> Option<String> {
    let name = section.require("name", decode_name)?;
    let place = section.place_of("route.name");
    if let Some(first) = taken.get(&name) {
        let problem = Problem::new("route-duplicate-name", format!("two routes are named `{name}`"))
            .at(place)
            .label("the second")
            .related(first, "the first");
        section.report(problem.help(format!("give it its own name, e.g. \"{name}-2\"")));
    } else {
        taken.insert(name.clone(), place);
    }
    Some(name)
}

fn decode_name(found: &Found<'_>) -> Result<String, Problem> {
    let name = found.as_full_text()?;
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if name.len() <= MAX_NAME_BYTES && name.bytes().all(valid) && !name.starts_with(['-', '_']) {
        return Ok(name.to_owned());
    }
    Err(Problem::new("value-invalid", "it cannot stand in a path").label("not a name").help(format!(
        "lower-case letters, digits, `-` and `_`, at most {MAX_NAME_BYTES}, the first a letter or a digit"
    )))
}

fn read_host(section: &mut Section<'_, '_>, taken: &mut BTreeMap<String, Place>) -> Option<String> {
    let host = section.read("host", host::decode_host).valid()?;
    let place = section.place_of("route.host");
    if let Some(first) = taken.get(&host) {
        let problem = Problem::new("route-duplicate-host", format!("two routes have the host `{host}`"))
            .at(place)
            .label("can never match")
            .related(first, "always matches first");
        section.report(problem.help("leave `host` out to serve it under its name as a path"));
    } else {
        taken.insert(host.clone(), place);
    }
    Some(host)
}

/// Keys that say nothing to a server that is a program.
const OF_HTTP: [&str; 10] = [
    "connect_timeout_ms",
    "preserve_host",
    "rewrite_endpoint",
    "rewrite_location",
    "auth_rewrite",
    "ca_file",
    "client_cert_file",
    "client_key_file",
    "process",
    "first_byte_timeout_ms",
];

/// Exactly one of `upstream` and `command`.
fn read_upstream(section: &mut Section<'_, '_>) -> Option<Upstream> {
    let upstream = section.read("upstream", decode_upstream);
    let command = command::read_command(section);
    match (upstream, command) {
        (Reading::Absent, Reading::Absent) => {
            section.report_missing("upstream");
            None
        }
        (Reading::Valid(_), Reading::Valid(_)) => {
            report_both(section);
            None
        }
        (Reading::Absent, Reading::Valid(command)) => {
            report_idle(section, &OF_HTTP, "a server that is a program");
            Some(Upstream::Stdio(command))
        }
        (Reading::Valid(upstream), Reading::Absent) => {
            report_idle(section, &command::KEYS, "a server with a URL");
            Some(Upstream::Http(upstream))
        }
        _ => None,
    }
}

/// A key that does nothing is a mistake: somebody believes that it does something.
fn report_idle(section: &mut Section<'_, '_>, keys: &[&'static str], server: &str) {
    for key in keys {
        if !section.has(key) {
            continue;
        }
        let problem = Problem::new("key-unused", format!("`route.{key}` does nothing for {server}"))
            .at(section.place_in_file(key))
            .label("does nothing here");
        section.report(problem.help("take it out"));
    }
}

fn report_both(section: &mut Section<'_, '_>) {
    let (command, upstream) = (section.place_of("route.command"), section.place_of("route.upstream"));
    section.report(
        Problem::new("route-two-upstreams", "a route has either `upstream` or `command`, not both")
            .at(command)
            .label("one too many")
            .related(&upstream, "the other"),
    );
}

fn decode_upstream(found: &Found<'_>) -> Result<HttpUpstream, Problem> {
    found.as_full_text()?.parse().map_err(|error: UpstreamError| {
        let problem = Problem::new("value-invalid", error.to_string()).label("not the URL of an upstream");
        match error {
            UpstreamError::UserInfo => {
                problem.help("the client's own credentials are forwarded; none are added")
            }
            UpstreamError::Host => problem.help("a name outside ASCII is written as xn--…"),
            _ => problem.help("write it like \"http://127.0.0.1:3001\" or \"https://host/base/path\""),
        }
    })
}

/// Whom to trust, and what to show: `ca_file`, `client_cert_file`, `client_key_file`.
fn read_tls_files(section: &mut Section<'_, '_>, upstream: Option<&Upstream>) -> [Option<PathBuf>; 3] {
    const KEYS: [&str; 3] = ["ca_file", "client_cert_file", "client_key_file"];
    let readings = KEYS.map(|key| section.read(key, Found::as_path));
    let [_, cert_file, key_file] = &readings;
    match (cert_file.is_absent(), key_file.is_absent()) {
        (false, true) => section.report_missing("client_key_file"),
        (true, false) => section.report_missing("client_cert_file"),
        _ => {}
    }
    let files = readings.map(Reading::valid);
    let is_plain = upstream.and_then(Upstream::as_http).is_some_and(|url| url.scheme == Scheme::Http);
    for (key, _) in KEYS.iter().zip(&files).filter(|(_, file)| is_plain && file.is_some()) {
        report_idle_tls_file(section, key);
    }
    files
}

fn report_idle_tls_file(section: &mut Section<'_, '_>, key: &str) {
    let (place, upstream) = (section.place_of(&format!("route.{key}")), section.place_of("route.upstream"));
    let label = if key == "ca_file" { "trusted by nobody" } else { "shown to nobody" };
    let code = if key == "ca_file" { "ca-file-unused" } else { "client-certificate-unused" };
    section.report(
        Problem::new(code, format!("`{key}` does nothing for an upstream without TLS"))
            .at(place)
            .label(label)
            .related(&upstream, "not https"),
    );
}

fn report_idle_authorization(section: &mut Section<'_, '_>) {
    let message =
        "`upstream_authorization` does nothing for a server that is a program: nobody sends it headers";
    let problem = Problem::new("key-unused", message).at(section.place_of("route.command"));
    section.report(problem.label("a program").help("give the program what it needs in `env`"));
}
