//! `[identity]`, and `[route.identity]`, which takes its place for one route as a whole.

use std::net::IpAddr;

use http::{HeaderName, header};
use ipnet::IpNet;

use super::found::{Found, Raw};
use super::network;
use super::secret::read_secret;
use super::section::{Reading, Section};
use crate::{Algorithm, HttpUpstream, Identity, Jwks, Problem, Scheme, Secret, Tokens};
use toml::de::DeValue;

/// The word of `mode`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    None,
    Passthrough,
    ApiKey,
    Jwt,
    Header,
}

/// Every key but `mode`, and the modes in which it says something.
const KEYS: [(&str, &[Mode]); 13] = [
    ("issuer", TOKENS),
    ("jwks", TOKENS),
    ("jwks_ca_file", TOKENS),
    ("audience", TOKENS),
    ("algorithms", TOKENS),
    ("user_claim", TOKENS),
    ("organization_claim", TOKENS),
    ("resource", &[Mode::Jwt]),
    ("scopes", &[Mode::Jwt]),
    ("upstream_authorization", &[Mode::ApiKey, Mode::Jwt]),
    ("user_header", &[Mode::Header]),
    ("organization_header", &[Mode::Header]),
    ("networks", &[Mode::Header]),
];
const TOKENS: &[Mode] = &[Mode::Passthrough, Mode::Jwt];

/// The identity of all routes that have none of their own.
pub(super) fn read_identity(root: &mut Section<'_, '_>) -> Identity {
    read_table(root.section("identity"))
}

/// The one of a route.
pub(super) fn read_route_identity(route: &mut Section<'_, '_>, general: &Identity) -> Identity {
    let section = route.section("identity");
    if section.is_present() { read_table(section) } else { general.clone() }
}

/// Reads everything before it gives up, so that all problems are found.
fn read_table(mut section: Section<'_, '_>) -> Identity {
    let words = [
        ("passthrough", Mode::Passthrough),
        ("none", Mode::None),
        ("api_key", Mode::ApiKey),
        ("jwt", Mode::Jwt),
        ("header", Mode::Header),
    ];
    let mode = section.choice("mode", Mode::Passthrough, &words);
    let keys = Keys::read(&mut section);
    let word = words.iter().find(|(_, of)| *of == mode).map_or("", |(word, _)| word);
    for (key, modes) in KEYS {
        if modes.contains(&mode) || !section.has(key) {
            continue;
        }
        let problem = Problem::new("key-unused", format!("`{key}` does nothing with mode = \"{word}\""));
        let problem = problem.at(section.place_in_file(key)).label("does nothing here");
        section.report(problem.help(match key {
            "issuer" | "jwks" => "take it out, or write mode = \"jwt\"",
            _ => "take it out, or change the mode",
        }));
    }
    let identity = keys.into_identity(mode, &mut section);
    section.finish();
    identity.unwrap_or_default()
}

/// What stands there, whatever the mode.
struct Keys {
    issuer: Option<String>,
    jwks: Option<Jwks>,
    audience: Option<Vec<String>>,
    algorithms: Vec<Algorithm>,
    user_claim: String,
    organization_claim: Option<String>,
    resource: Option<String>,
    scopes: Vec<String>,
    upstream_authorization: Option<Secret>,
    user_header: Option<HeaderName>,
    organization_header: Option<HeaderName>,
    networks: Option<Vec<IpNet>>,
}

impl Keys {
    fn read(section: &mut Section<'_, '_>) -> Self {
        let text = |found: &Found<'_>| found.as_full_text().map(str::to_owned);
        let ca_file = section.path("jwks_ca_file");
        let jwks = section.read("jwks", decode_jwks).valid();
        Self {
            issuer: section.text("issuer"),
            jwks: jwks.map(|jwks| match jwks {
                Jwks::Url { url, .. } => Jwks::Url { url, ca_file },
                file @ Jwks::File(_) => file,
            }),
            audience: section.each("audience", text).valid(),
            algorithms: read_algorithms(section),
            user_claim: section.text("user_claim").unwrap_or_else(|| "sub".to_owned()),
            organization_claim: section.text("organization_claim"),
            resource: section.text("resource"),
            scopes: section.each("scopes", text).valid().unwrap_or_default(),
            upstream_authorization: section.read("upstream_authorization", decode_secret).valid(),
            user_header: section.read("user_header", decode_header).valid(),
            organization_header: section.read("organization_header", decode_header).valid(),
            networks: section.each("networks", network::decode_network).valid(),
        }
    }

    fn into_identity(self, mode: Mode, section: &mut Section<'_, '_>) -> Option<Identity> {
        let speaks_of_tokens = ["issuer", "jwks"].iter().any(|key| section.has(key)) || self.issuer.is_some();
        Some(match mode {
            Mode::None => Identity::None,
            Mode::ApiKey => Identity::ApiKey { upstream_authorization: self.upstream_authorization },
            Mode::Header => {
                let user = present(section, "user_header", self.user_header);
                let networks = filled(section, "networks", self.networks)?;
                Identity::Header { user: user?, organization: self.organization_header, networks }
            }
            Mode::Passthrough if !speaks_of_tokens => Identity::Passthrough { tokens: None },
            Mode::Passthrough => Identity::Passthrough { tokens: Some(self.into_tokens(section)?.0) },
            Mode::Jwt => {
                let (tokens, Self { resource, scopes, upstream_authorization, .. }) =
                    self.into_tokens(section)?;
                Identity::Jwt { tokens, resource, scopes, upstream_authorization }
            }
        })
    }

    /// What makes a token valid, and what is left.
    fn into_tokens(mut self, section: &mut Section<'_, '_>) -> Option<(Tokens, Self)> {
        let issuer = present(section, "issuer", self.issuer.take());
        let jwks = present(section, "jwks", self.jwks.take());
        if !section.has("audience") {
            self.audience = self.resource.clone().map(|resource| vec![resource]);
        }
        let audience = filled(section, "audience", self.audience.take())?;
        let tokens = Tokens {
            issuer: issuer?,
            audience,
            jwks: jwks?,
            algorithms: std::mem::take(&mut self.algorithms),
            user_claim: std::mem::take(&mut self.user_claim),
            organization_claim: self.organization_claim.take(),
        };
        Some((tokens, self))
    }
}

/// The value of a key that the mode needs. That one is invalid has been reported already.
fn present<T>(section: &mut Section<'_, '_>, key: &str, value: Option<T>) -> Option<T> {
    if value.is_none() && !section.has(key) {
        section.report_missing(key);
    }
    value
}

/// The entries of a list that the mode needs. An empty one is a mistake, and must not let everybody in.
fn filled<T>(section: &mut Section<'_, '_>, key: &str, list: Option<Vec<T>>) -> Option<Vec<T>> {
    let list = present(section, key, list)?;
    if list.is_empty() {
        let message = format!("invalid `identity.{key}`: it is empty");
        let problem = Problem::new("value-invalid", message).at(section.place_in_file(key));
        section.report(problem.help("name at least one, or choose another `mode`"));
        return None;
    }
    Some(list)
}

fn read_algorithms(section: &mut Section<'_, '_>) -> Vec<Algorithm> {
    match section.each("algorithms", |found| found.as_choice(&Algorithm::ALL)) {
        Reading::Valid(none) if none.is_empty() => {
            let message = "invalid `identity.algorithms`: it is empty, so no token would be valid";
            let problem = Problem::new("value-invalid", message).at(section.place_in_file("algorithms"));
            section.report(problem.help("leave it out for the usual ones"));
            none
        }
        Reading::Valid(algorithms) => algorithms,
        Reading::Absent | Reading::Invalid => Algorithm::USUAL.to_vec(),
    }
}

fn decode_jwks(found: &Found<'_>) -> Result<Jwks, Problem> {
    let text = found.as_full_text()?;
    if !text.contains("://") {
        return Ok(Jwks::File(found.as_path()?));
    }
    let invalid = |reason: String| {
        Problem::new("value-invalid", reason)
            .label("not where keys can come from")
            .help("write it like \"https://login.example.com/jwks.json\", or name a file")
    };
    let url: HttpUpstream = text.parse().map_err(|error: crate::UpstreamError| invalid(error.to_string()))?;
    let is_loopback =
        url.host == "localhost" || url.host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
    if url.scheme == Scheme::Http && !is_loopback {
        return Err(invalid("whoever is on the way could exchange the keys: it has to be https".to_owned()));
    }
    Ok(Jwks::Url { url, ca_file: None })
}

/// The value of a header, which is a secret.
fn decode_secret(found: &Found<'_>) -> Result<Secret, Problem> {
    let text = match found.raw {
        Raw::Toml(DeValue::Table(table)) => read_secret(found, table)?,
        _ => found.as_full_text()?.to_owned(),
    };
    if http::HeaderValue::from_str(&text).is_err() {
        return Err(
            Problem::new("value-invalid", "it cannot be the value of a header").label("not a header's value")
        );
    }
    Ok(Secret::new(text))
}

/// Headers that clients write themselves: whoever believed them would believe anybody.
const CLIENTS_OWN: [HeaderName; 9] = [
    header::HOST,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::USER_AGENT,
    header::ORIGIN,
    header::REFERER,
    header::ACCEPT,
    header::CONTENT_TYPE,
];

fn decode_header(found: &Found<'_>) -> Result<HeaderName, Problem> {
    let name: HeaderName = found.as_full_text()?.parse().map_err(|_| {
        Problem::new("value-invalid", "it is not the name of a header")
            .help("for example \"X-Forwarded-User\"")
    })?;
    if CLIENTS_OWN.contains(&name) {
        return Err(Problem::new(
            "value-invalid",
            "clients write this header, so it does not say who they are",
        )
        .label("no proxy's word")
        .help("name a header that your proxy sets and never passes on, such as \"X-Forwarded-User\""));
    }
    Ok(name)
}
