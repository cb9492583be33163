//! What a browser says about where a request comes from, and the cookies it brings. A page of another site may send
//! requests here; what changes something is only for our own pages, and for what is no browser.

use crate::gate;
use http::{HeaderMap, Uri, header};

/// Whether a request comes from a page of this very origin, or from no page.
pub(super) fn is_own(headers: &HeaderMap, uri: &Uri) -> bool {
    // Every browser of today sends it where the connection can be trusted; no page can set it.
    if let Some(site) = headers.get("sec-fetch-site") {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let own = gate::authority_of(uri, headers);
    origins.next().is_none()
        && matches!((authority, own), (Some((_, page)), Some(own)) if page.eq_ignore_ascii_case(own))
}

/// The values of all cookies with this name (RFC 6265, 5.4): there may be several.
pub(super) fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(known, _)| *known == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_pages_of_this_origin_and_programs_are_our_own() {
        let host = ("host", "meter.example:7301");
        for (told, is_ours) in [
            (vec![host], true),
            (vec![host, ("origin", "https://meter.example:7301")], true),
            (vec![host, ("origin", "http://METER.example:7301")], true),
            (vec![host, ("origin", "https://meter.example")], false),
            (vec![host, ("origin", "https://evil.example")], false),
            (vec![host, ("origin", "null")], false),
            (vec![("origin", "https://evil.example")], false),
            (vec![host, ("origin", "https://meter.example:7301"), ("origin", "https://evil.example")], false),
            (vec![host, ("sec-fetch-site", "same-origin"), ("origin", "https://front.example")], true),
            (vec![host, ("sec-fetch-site", "none")], true),
            (vec![host, ("sec-fetch-site", "same-site")], false),
            (vec![host, ("sec-fetch-site", "cross-site")], false),
            (vec![host, ("sec-fetch-site", "cross-site"), ("origin", "https://meter.example:7301")], false),
        ] {
            let mut all = HeaderMap::new();
            told.iter().for_each(|pair| all.extend(headers(&[*pair])));
            let mut appended = HeaderMap::new();
            for (name, value) in &told {
                appended.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_own(&appended, &Uri::from_static("/login")), is_ours, "{told:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let headers = headers(&[("cookie", "a=1; mcpmeter-1=x; mcpmeter-10=y;mcpmeter-1=z; b")]);
        assert_eq!(cookies(&headers, "mcpmeter-1").collect::<Vec<_>>(), ["x", "z"]);
        assert_eq!(cookies(&headers, "c").count(), 0);
    }
}
