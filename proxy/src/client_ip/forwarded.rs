//! What proxies in front of this one say about whose request they bring (`X-Forwarded-For`, and `Forwarded` of
//! RFC 7239), and how much of it is believed. Pure. Never changes a header: they go on as they came.
//!
//! Whoever sends a request may have written anything into these headers; every proxy adds the address that it has seen
//! behind what is there. So they are read from the end, and only as long as the one who wrote the entry is trusted: the
//! peer of the connection wrote the last, the last is who wrote the one before. Nothing left of the first address that
//! is not trusted is even looked at, and neither is anything beyond the configured number of entries.

use http::{HeaderMap, HeaderName, header};
use mcpmeter_config::{ForwardedHeader, IpNet, Proxy};
use std::net::{IpAddr, Ipv6Addr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who is believed.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    proxies: Vec<IpNet>,
    hops: usize,
    header: ForwardedHeader,
}

impl Trust {
    pub(crate) fn of(proxy: &Proxy) -> Self {
        Self {
            proxies: proxy.trusted_proxies.clone(),
            hops: proxy.forwarded_hops,
            header: proxy.forwarded_header,
        }
    }

    /// The address of whoever made the request: the peer's, if that is no trusted proxy or says nothing. `None` if a trusted
    /// proxy brings what cannot be understood: somebody has made the request, and it was not the proxy. Taking it for the
    /// proxy's own would let any client be the proxy by spoiling a header. In its own family, as the peer's has to be.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        if !self.trusts(peer) {
            return Some(peer);
        }
        let told = |name: HeaderName, node: fn(&[u8]) -> Option<IpAddr>| {
            headers.contains_key(&name).then(|| self.walk(peer, entries(headers, name).map(node)))
        };
        let list = || told(X_FORWARDED_FOR, of_list_entry);
        let pairs = || told(header::FORWARDED, of_pairs);
        match self.header {
            // The other header alone: it is a client's, or the proxy writes another one than was said.
            ForwardedHeader::XForwardedFor => {
                list().unwrap_or_else(|| own_request(peer, headers, &header::FORWARDED))
            }
            ForwardedHeader::Forwarded => {
                pairs().unwrap_or_else(|| own_request(peer, headers, &X_FORWARDED_FOR))
            }
            ForwardedHeader::Any => match (list(), pairs()) {
                (Some(one), Some(other)) if one != other => None,
                (one, other) => one.or(other).unwrap_or(Some(peer)),
            },
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// From the last entry on: up to one that is not trusted, or is one too many. One that cannot be read hides the client.
    fn walk(&self, peer: IpAddr, entries: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut client = peer;
        for entry in entries.take(self.hops) {
            client = entry?;
            if !self.trusts(client) {
                break;
            }
        }
        Some(client)
    }
}

/// Of a request that a proxy brings for nobody, its own address; `other` is the header that it should not have.
fn own_request(peer: IpAddr, headers: &HeaderMap, other: &HeaderName) -> Option<IpAddr> {
    (!headers.contains_key(other)).then_some(peer)
}

/// The entries of all headers of the name, the last first; empty ones are none (RFC 9110, 5.6.1.2).
fn entries(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter().rev();
    lines.flat_map(|line| FromTheEnd { rest: Some(line.as_bytes()) }).filter(|entry| !entry.is_empty())
}

/// The entries of a line from the last to the first. Only a comma outside of quotes separates. Quotes are told from the
/// end, so that one that a client has left open in front of the proxies' entries spoils none of these.
struct FromTheEnd<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for FromTheEnd<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut quoted = false;
        for (place, byte) in rest.iter().enumerate().rev() {
            match byte {
                b'"' if place == 0 || rest[place - 1] != b'\\' => quoted = !quoted,
                b',' if !quoted => {
                    self.rest = Some(&rest[..place]);
                    return Some(rest[place + 1..].trim_ascii());
                }
                _ => {}
            }
        }
        self.rest = None;
        Some(rest.trim_ascii())
    }
}

/// An entry of `X-Forwarded-For`. The header has no specification: brackets and ports are seen as well as neither.
fn of_list_entry(entry: &[u8]) -> Option<IpAddr> {
    of_node(std::str::from_utf8(entry).ok()?)
}

/// The `for` of an entry of `Forwarded`: `for=192.0.2.60;proto=http;by=203.0.113.43`. Exactly one.
fn of_pairs(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?;
    let (mut node, mut quoted) = (None, false);
    let pairs = entry.split(|character| {
        quoted ^= character == '"';
        character == ';' && !quoted
    });
    for pair in pairs {
        let (name, value) = pair.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") && node.replace(value.trim()).is_some() {
            return None;
        }
    }
    let node = node?;
    // What needs a backslash in quotes is no address.
    of_node(node.strip_prefix('"').map_or(Some(node), |node| node.strip_suffix('"'))?)
}

/// An address with or without a port. `unknown` and names such as `_hidden` are none.
fn of_node(node: &str) -> Option<IpAddr> {
    let (address, port) = match node.strip_prefix('[') {
        Some(inside) => {
            let (address, behind) = inside.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.into(), behind)
        }
        None => match node.parse::<IpAddr>() {
            Ok(address) => (address, ""),
            Err(_) => {
                let (address, _) = node.split_once(':')?;
                (IpAddr::V4(address.parse().ok()?), &node[address.len()..])
            }
        },
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then(|| address.to_canonical())
}

/// Digits, or a name with an underscore in front (RFC 7239, 6).
fn is_port(port: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match port.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(is_name),
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests;
