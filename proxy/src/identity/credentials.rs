//! The credentials of a request, where they stand (RFC 6750, 2.1; never in the URL: RFC 9700, 4.3.2).

use super::X_API_KEY;
use http::{HeaderMap, HeaderName, header};

/// What a caller presents.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    /// It presents nothing, or nothing of this kind.
    Nothing,
    /// A token or a key.
    Token(&'a str),
    /// Several, or what cannot be read: nobody would know which one counts.
    Unreadable,
}

/// A token in `Authorization`.
pub(super) fn bearer(headers: &HeaderMap) -> Presented<'_> {
    match only(headers, &header::AUTHORIZATION) {
        Presented::Token(value) => match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                let token = token.trim_matches(' ');
                if token.is_empty() || token.contains([' ', ',', '\t']) {
                    Presented::Unreadable
                } else {
                    Presented::Token(token)
                }
            }
            // Another scheme is another kind.
            _ => Presented::Nothing,
        },
        other => other,
    }
}

/// A key in `X-API-Key` or, as a token, in `Authorization`.
pub(super) fn key(headers: &HeaderMap) -> Presented<'_> {
    match only(headers, &X_API_KEY) {
        Presented::Nothing => bearer(headers),
        found => found,
    }
}

/// The value of a header that must not come twice.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Presented<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Presented::Nothing,
        (Some(value), None) => value.to_str().map_or(Presented::Unreadable, Presented::Token),
        (Some(_), Some(_)) => Presented::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_token_stands_alone_behind_its_scheme() {
        for (value, expected) in [
            ("Bearer abc", Presented::Token("abc")),
            ("bEARER  abc ", Presented::Token("abc")),
            ("Bearer", Presented::Nothing),
            ("Bearer ", Presented::Unreadable),
            ("Bearer a b", Presented::Unreadable),
            ("Bearer a,Bearer b", Presented::Unreadable),
            ("Basic YTpi", Presented::Nothing),
            ("Bearerabc", Presented::Nothing),
        ] {
            assert_eq!(bearer(&headers(&[("authorization", value)])), expected, "{value}");
        }
        assert_eq!(bearer(&headers(&[])), Presented::Nothing);
    }

    #[test]
    fn of_two_nobody_knows_which_one_counts() {
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer a")];
        assert_eq!(bearer(&headers(&twice)), Presented::Unreadable);
        assert_eq!(key(&headers(&[("x-api-key", "a"), ("x-api-key", "b")])), Presented::Unreadable);
    }

    #[test]
    fn a_key_has_a_header_of_its_own_or_is_a_token() {
        let both = [("authorization", "Bearer a"), ("x-api-key", "b")];
        assert_eq!(key(&headers(&both)), Presented::Token("b"));
        assert_eq!(key(&headers(&both[..1])), Presented::Token("a"));
    }
}
