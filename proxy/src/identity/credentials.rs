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

/// What servers take for the space behind the scheme.
const SPACE: [char; 2] = [' ', '\t'];
/// How many words are looked at where several are.
const MAX_WORDS: usize = 4;

/// A token in `Authorization`, where it counts, so that there must not be another credential.
pub(super) fn token(headers: &HeaderMap) -> Presented<'_> {
    match (bearer(headers), only(headers, &X_API_KEY)) {
        (bearer @ (Presented::Nothing | Presented::Unreadable), _) | (bearer, Presented::Nothing) => bearer,
        (bearer, other) if bearer == other => bearer,
        _ => Presented::Unreadable,
    }
}

/// A key in `X-API-Key` or, as a token, in `Authorization`, where it counts, so that there must not be another one.
pub(super) fn key(headers: &HeaderMap) -> Presented<'_> {
    match only(headers, &X_API_KEY) {
        Presented::Nothing => bearer(headers),
        _ => match token(headers) {
            Presented::Nothing => only(headers, &X_API_KEY),
            both => both,
        },
    }
}

/// What stands for credentials that nobody checks here: the token in `Authorization`, or the key.
pub(super) fn foremost(headers: &HeaderMap) -> Presented<'_> {
    match bearer(headers) {
        Presented::Nothing => only(headers, &X_API_KEY),
        found => found,
    }
}

/// Everything that some server might take for a JSON Web Token, the most likely first: of credentials that pass through
/// another one judges, and the one who reads along must not be put off by a second header or a comma.
pub(super) fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = [header::AUTHORIZATION, X_API_KEY].into_iter().flat_map(|name| headers.get_all(name));
    let words =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split([' ', '\t', ',']));
    words.filter(|word| word.bytes().filter(|byte| *byte == b'.').count() == 2).take(MAX_WORDS)
}

/// A token in `Authorization`.
fn bearer(headers: &HeaderMap) -> Presented<'_> {
    match only(headers, &header::AUTHORIZATION) {
        Presented::Token(value) => match value.split_once(SPACE) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                let token = token.trim_matches(SPACE);
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
            ("Bearer\tabc", Presented::Token("abc")),
            ("Bearer \t abc\t", Presented::Token("abc")),
            ("Bearer\ta\tb", Presented::Unreadable),
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
        assert_eq!(key(&headers(&both[..1])), Presented::Token("a"));
        assert_eq!(key(&headers(&both[1..])), Presented::Token("b"));
        assert_eq!(token(&headers(&both[1..])), Presented::Nothing);
        let basic = [("authorization", "Basic YTpi"), both[1]];
        assert_eq!(key(&headers(&basic)), Presented::Token("b"), "for somebody else");
    }

    #[test]
    fn of_two_credentials_nobody_knows_which_one_counts() {
        let both = headers(&[("authorization", "Bearer a"), ("x-api-key", "b")]);
        assert_eq!((token(&both), key(&both)), (Presented::Unreadable, Presented::Unreadable));
        assert_eq!(foremost(&both), Presented::Token("a"), "where neither counts");
        let twice = headers(&[("authorization", "Bearer a"), ("x-api-key", "a")]);
        assert_eq!((token(&twice), key(&twice)), (Presented::Token("a"), Presented::Token("a")));
    }

    #[test]
    fn whatever_may_be_a_token_is_found() {
        let found = |pairs: &[(&'static str, &'static str)]| -> Vec<String> {
            tokens(&headers(pairs)).map(str::to_owned).collect()
        };
        for value in ["Bearer a.b.c", "Bearer\ta.b.c", "a.b.c", "Bearer a.b.c, x", "Bearer x a.b.c"] {
            assert_eq!(found(&[("authorization", value)]), ["a.b.c"], "{value}");
        }
        let all =
            [("x-api-key", "g.h.i"), ("authorization", "Bearer a.b.c"), ("authorization", "Bearer d.e.f")];
        assert_eq!(found(&all), ["a.b.c", "d.e.f", "g.h.i"]);
        assert_eq!(found(&[("authorization", "a.b.c,a.b.c,a.b.c,a.b.c,a.b.c,a.b.c")]).len(), MAX_WORDS);
    }
}
