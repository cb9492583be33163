//! What happens to headers on their way: the hop-by-hop ones end here (RFC 9110, 7.6.1), `Host` becomes the
//! upstream's, and nothing else is added, dropped or reordered.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers that a peer cannot have dropped by naming them in `Connection`: they are end-to-end, and without
/// them a request would lose its credentials, its session or its meaning.
fn is_protected(name: &str) -> bool {
    let starts =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    starts("mcp-")
        || starts("content-")
        || starts("accept")
        || name.eq_ignore_ascii_case("authorization")
        || name.eq_ignore_ascii_case("host")
}

/// Makes a request's headers the upstream's: `host` replaces the client's unless that is to be preserved.
pub(crate) fn prepare_request(headers: &mut HeaderMap, host: Option<&HeaderValue>) {
    let trailers = headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    strip_hop_by_hop(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // hyper answers the client itself, as soon as the upstream's connection takes the body.
    headers.remove(EXPECT);
    if let Some(host) = host {
        headers.insert(HOST, host.clone());
    }
}

/// Makes a response's headers the client's.
pub(crate) fn prepare_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        for name in named_in_connection(headers) {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

fn named_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(str::trim);
    names.filter(|name| !is_protected(name)).filter_map(|name| name.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn hop_by_hop_headers_end_here_and_credentials_survive() {
        let mut map = headers(&[
            ("connection", "close, Authorization, x-hop, Mcp-Session-Id"),
            ("keep-alive", "timeout=5"),
            ("authorization", "Bearer t"),
            ("mcp-session-id", "s"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("host", "proxy"),
            ("x-end", "2"),
        ]);
        prepare_request(&mut map, Some(&HeaderValue::from_static("up:1")));
        let expected = headers(&[
            ("authorization", "Bearer t"),
            ("mcp-session-id", "s"),
            ("te", "trailers"),
            ("host", "up:1"),
            ("x-end", "2"),
        ]);
        assert_eq!(map, expected);
    }

    #[test]
    fn a_preserved_host_stays() {
        let mut map = headers(&[("host", "proxy")]);
        prepare_request(&mut map, None);
        assert_eq!(map["host"], "proxy");
    }
}
