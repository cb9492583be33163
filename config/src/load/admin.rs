//! `[admin]`.

use std::net::SocketAddr;

use toml::de::DeValue;

use super::found::{Found, Raw};
use super::secret::read_secret;
use super::section::{Reading, Section};
use super::{listen, tls};
use crate::{Admin, Place, Problem, Secret};

/// The shortest token that cannot be guessed, if it is random: 144 bits in Base64. Longer than words people think of.
const MIN_TOKEN_BYTES: usize = 24;
/// A header has to hold it.
const MAX_TOKEN_BYTES: usize = 1_024;

pub(super) fn read_admin(root: &mut Section<'_, '_>, proxy_listen: SocketAddr) -> Admin {
    let default = Admin::default();
    let mut section = root.section("admin");
    let listen = listen::read_listen(&mut section, default.listen);
    let token = section.read("token", decode_token);
    let tls = tls::read_tls(&mut section);
    section.refuse_retired(
        "allow_remote",
        "the port asks who is there instead: set `token = { file = \"path\" }`,\n\
         or `client_ca_file` in [admin.tls]; then it serves any address and any name",
    );
    if listen::collide(listen, proxy_listen) {
        report_collision(&mut section);
    }
    let knows_clients = tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    if matches!(token, Reading::Absent) && !knows_clients && !listen.ip().to_canonical().is_loopback() {
        report_open(&mut section);
    }
    section.finish();
    Admin { listen, token: token.valid(), tls }
}

/// No message here repeats the token, nor what might be one.
fn decode_token(found: &Found<'_>) -> Result<Secret, Problem> {
    let make = "make one with `openssl rand -base64 32`";
    let token = match &found.raw {
        Raw::Toml(DeValue::Table(table)) => read_secret(found, table)?,
        Raw::Text(token) => (*token).to_owned(),
        Raw::Toml(_) => {
            return Err(Problem::new("secret-reference", "a token does not stand in this file")
                .label("not a reference")
                .help("write { env = \"NAME\" } or { file = \"path\" }, or set MCPMETER_ADMIN__TOKEN"));
        }
    };
    if token.len() < MIN_TOKEN_BYTES {
        let message = format!("a token of fewer than {MIN_TOKEN_BYTES} characters could be guessed");
        return Err(Problem::new("value-invalid", message).label("too short").help(make));
    }
    // RFC 6750, 2.1 allows fewer; all of these pass through a header as they are.
    if token.len() > MAX_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("a token is up to {MAX_TOKEN_BYTES} characters of ASCII without spaces");
        return Err(Problem::new("value-invalid", message).label("not a token").help(make));
    }
    Ok(Secret::new(token))
}

/// Points at the address that was written; they cannot both be defaults, because those differ.
fn report_collision(section: &mut Section<'_, '_>) {
    let (own, other) = (section.place_of("admin.listen"), section.place_of("proxy.listen"));
    let problem = Problem::new("listen-collision", "`admin.listen` and `proxy.listen` are the same address")
        .help("give the dashboard its own port, or port 0 for a free one");
    let problem = match own {
        Place::Nowhere => problem.at(other).label("the default of `admin.listen`"),
        own => problem.at(own).label("the address of the proxy").related(&other, "the proxy listens here"),
    };
    section.report(problem);
}

fn report_open(section: &mut Section<'_, '_>) {
    let place = section.place_of("admin.listen");
    let problem = Problem::new(
        "admin-open",
        "`admin.listen` is not a loopback address, and asks nobody who it is",
    )
    .at(place)
    .label("reachable from other machines")
    .help(
        "set `token = { file = \"path\" }` or { env = \"NAME\" }, or `client_ca_file` in [admin.tls],\n\
             or use 127.0.0.1 or [::1] behind a tunnel",
    );
    section.report(problem);
}
