//! Who may ask at all, before anything reaches an upstream.
//!
//! `Host` is rewritten for the upstream, so the upstream's own check against DNS rebinding cannot see it any
//! more. A listener on loopback therefore makes the check itself: only loopback names, the routes' own hosts
//! and `proxy.public_hosts` pass (WIRE.md 3.1). `Origin` is left to the upstream, unless that is a program: then we are the
//! HTTP server, and check it.

use crate::router::Routes;
use http::{HeaderMap, Uri, header};
use std::net::IpAddr;

/// The host that a request names, without its port and in lower case only if it was.
pub(crate) fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    authority_of(uri, headers).map(strip_port)
}

/// The same with its port.
pub(crate) fn authority_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    // HTTP/2 and absolute-form requests carry the host in their target, which wins (RFC 9112, 3.2.2).
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        // What is there but cannot be read is nobody's name.
        None => Some(headers.get(header::HOST)?.to_str().unwrap_or_default()),
    }
}

/// The name alone; empty, and so nobody's, if the authority is none.
fn strip_port(authority: &str) -> &str {
    let end = match authority.strip_prefix('[') {
        Some(inside) => inside.find(']').map_or(0, |bracket| bracket + 2),
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    if is_port { host } else { "" }
}

/// Whether a loopback listener serves a request with this host. A request without one (HTTP/1.0) cannot come
/// from a browser and passes.
pub(crate) fn admits(host: Option<&str>, routes: &Routes) -> bool {
    host.is_none_or(|host| is_loopback_name(host) || routes.serves_host(host))
}

/// Whether a page of this origin may speak to a server whose HTTP server we are: on loopback, a page from there or from
/// a name of ours (2025-06-18, basic/transports, "Security Warning"). What is no page has no origin.
pub(crate) fn admits_origin(headers: &HeaderMap, routes: &Routes) -> bool {
    // An image or a frame of another site has no origin, but says that it is one (W3C, Fetch Metadata).
    let is_foreign = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if is_foreign && !headers.contains_key(header::ORIGIN) {
        return false;
    }
    headers.get_all(header::ORIGIN).iter().all(|origin| {
        let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        authority.is_some_and(|(_, authority)| admits(Some(strip_port(authority)), routes))
    })
}

const BELOW_LOCALHOST: &str = ".localhost";

/// `localhost`, names below it, and the loopback addresses.
pub(crate) fn is_loopback_name(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || host
            .len()
            .checked_sub(BELOW_LOCALHOST.len())
            .and_then(|at| host.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(BELOW_LOCALHOST))
}

/// Whether a path leads above where it begins, for whoever resolves its dot segments (RFC 3986, 5.2.4). Read as the most
/// generous of servers would: encoded dots count, empty segments and parameters do not, and beside dots nothing may be read as a
/// slash that is none.
pub(crate) fn climbs(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or(path);
    if !path.contains("..") && !path.contains('%') {
        return false;
    }
    let path = path.to_ascii_lowercase().replace("%2e", ".");
    // What is a separator to one server is part of a name to another, and so is how deep a path is.
    if path.contains("..") && (path.contains("%2f") || path.contains("%5c") || path.contains('\\')) {
        return true;
    }
    let mut depth = 0_usize;
    for segment in path.split('/') {
        match segment.split(';').next() {
            Some("" | ".") | None => {}
            Some("..") => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return true,
            },
            Some(_) => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_path_that_leads_above_its_beginning_is_known_in_every_form() {
        for path in [
            "/..",
            "/../x",
            "/a/../../x",
            "/%2e%2E/x",
            "/.%2e",
            "/a//../..",
            "/..;x=1/y",
            "/a%2f..%2f..",
            "/\\..\\x",
            "/a%2fb/../../x",
            "/a%5cb/../../x",
            "/a\\b/../../x",
        ] {
            assert!(climbs(path), "{path}");
        }
        for path in ["", "/mcp", "/a/../b", "/a/b/../..", "/...", "/..a", "/%20", "/mcp?x=/../..", "/./a"] {
            assert!(!climbs(path), "{path}");
        }
    }

    #[test]
    fn loopback_names_pass_and_others_do_not() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]", "a.localhost", "localhost."]
        {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }

    #[test]
    fn the_port_is_no_part_of_the_host() {
        for (value, host) in [
            ("a.b:80", "a.b"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("a", "a"),
            ("localhost:1@evil.example", ""),
            ("[::1]evil.example", ""),
            ("[::1", ""),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(value))]);
            assert_eq!(host_of(&Uri::from_static("/x"), &headers), Some(host));
        }
    }
}
