//! What happens to headers on their way: the hop-by-hop ones end here (RFC 9110, 7.6.1), `Host` becomes the
//! upstream's, and nothing else is added, dropped or reordered.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING},
};

/// What concerns one connection only. `Expect` is among it because hyper answers the client itself, as soon as
/// the upstream's connection takes the body.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
    )
}

/// Headers that a peer cannot have dropped by naming them in `Connection`: they are end-to-end, and without
/// them a request would lose its credentials, its session or its meaning.
fn is_protected(name: &str) -> bool {
    let starts =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    const NAMES: [&str; 9] = [
        "authorization",
        "host",
        "cookie",
        "forwarded",
        "origin",
        "traceparent",
        "tracestate",
        "x-api-key",
        "x-real-ip",
    ];
    ["mcp-", "content-", "accept", "x-forwarded-"].iter().any(|prefix| starts(prefix))
        || NAMES.iter().any(|protected| name.eq_ignore_ascii_case(protected))
}

/// Whether a body comes in a transfer coding that is no framing, or chunked more than once. It ends at the next hop, so
/// whoever passes the body on has to undo it (RFC 9112, 6.1); we do not, and could not tell the receiver.
pub(crate) fn has_unknown_coding(headers: &HeaderMap) -> bool {
    let codings = headers
        .get_all(TRANSFER_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let mut chunked = 0;
    for coding in codings {
        match coding {
            _ if coding.eq_ignore_ascii_case(b"chunked") => chunked += 1,
            _ if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") => {}
            _ => return true,
        }
    }
    chunked > 1
}

/// Makes a request's headers the upstream's: `host` replaces the client's unless that is to be preserved. What says who
/// calls (`told`) is end-to-end, too: else the server would not learn what the row says.
pub(crate) fn prepare_request(headers: &mut HeaderMap, host: Option<&HeaderValue>, told: &[HeaderName]) {
    strip_hop_by_hop(headers, told);
    if let Some(host) = host {
        headers.insert(HOST, host.clone());
    }
}

/// Makes a response's headers the client's.
pub(crate) fn prepare_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers, &[]);
}

fn strip_hop_by_hop(headers: &mut HeaderMap, kept: &[HeaderName]) {
    let mut named = named_in_connection(headers);
    named.retain(|name| !kept.contains(name));
    // Where both are given, the length is wrong (RFC 9112, 6.3), and obeying it would cut the body.
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    let ends_here = |name: &HeaderName, value: &HeaderValue| {
        let is_hop = is_hop_by_hop(name) || named.contains(name) || (chunked && name == CONTENT_LENGTH);
        is_hop && !(name == TE && value.as_bytes().eq_ignore_ascii_case(b"trailers"))
    };
    drop_those(headers, ends_here);
}

/// Drops headers and keeps the order of the others.
pub(crate) fn drop_those(headers: &mut HeaderMap, is_one: impl Fn(&HeaderName, &HeaderValue) -> bool) {
    if !headers.iter().any(|(name, value)| is_one(name, value)) {
        return;
    }
    // `HeaderMap::remove` would move the last header into the gap; the order is kept by building anew.
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in &*headers {
        if !is_one(name, value) {
            kept.append(name, value.clone());
        }
    }
    *headers = kept;
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
            ("connection", "close, Authorization, x-hop, Mcp-Session-Id, X-User"),
            ("keep-alive", "timeout=5"),
            ("authorization", "Bearer t"),
            ("mcp-session-id", "s"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("host", "proxy"),
            ("x-user", "ann"),
            ("x-end", "2"),
        ]);
        let told = [HeaderName::from_static("x-user")];
        prepare_request(&mut map, Some(&HeaderValue::from_static("up:1")), &told);
        let expected = headers(&[
            ("authorization", "Bearer t"),
            ("mcp-session-id", "s"),
            ("te", "trailers"),
            ("host", "up:1"),
            ("x-user", "ann"),
            ("x-end", "2"),
        ]);
        let in_order = |map: &HeaderMap| {
            map.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
        };
        assert_eq!(in_order(&map), in_order(&expected));
    }

    #[test]
    fn a_length_beside_a_transfer_coding_is_dropped() {
        let mut map = headers(&[("content-length", "5"), ("transfer-encoding", "chunked"), ("x", "1")]);
        prepare_response(&mut map);
        assert_eq!(map, headers(&[("x", "1")]));
        let mut map = headers(&[("content-length", "5")]);
        prepare_response(&mut map);
        assert_eq!(map["content-length"], "5");
    }

    #[test]
    fn a_preserved_host_stays() {
        let mut map = headers(&[("host", "proxy")]);
        prepare_request(&mut map, None, &[]);
        assert_eq!(map["host"], "proxy");
    }
}
