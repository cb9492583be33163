//! Addresses to listen on: numbers only. A host name may mean several addresses, and another one tomorrow.

use std::net::{Ipv4Addr, SocketAddr};

use super::found::Found;
use super::section::{Reading, Section};
use crate::Problem;

/// Stands for an address that was invalid; it is loopback and collides with none, so nothing else complains.
const PLACEHOLDER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Reads the key `listen`.
pub(super) fn read_listen(section: &mut Section<'_, '_>, default: SocketAddr) -> SocketAddr {
    match section.read("listen", decode_address) {
        Reading::Absent => default,
        Reading::Invalid => PLACEHOLDER,
        Reading::Valid(address) => address,
    }
}

fn decode_address(found: &Found<'_>) -> Result<SocketAddr, Problem> {
    let text = found.as_text()?;
    text.parse().map_err(|_| {
        Problem::new("value-invalid", "it is not an IP address with a port")
            .label("expected \"IP:PORT\"")
            .help(suggest_address(text))
    })
}

fn suggest_address(text: &str) -> String {
    let port = text.rsplit_once(':').map_or(text, |(_, port)| port).parse::<u16>();
    let host = if text.starts_with(':') || text.starts_with('*') { "0.0.0.0" } else { "127.0.0.1" };
    match port {
        Ok(port) => format!("host names are not looked up here; write \"{host}:{port}\""),
        Err(_) => "write it like \"127.0.0.1:7300\" or \"[::1]:7300\"".to_owned(),
    }
}

/// Whether two listeners cannot both exist. Port 0 takes a free one; an unspecified address takes them all.
pub(super) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_ip
}
