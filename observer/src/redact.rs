//! What must not be kept is taken out here, before a text becomes part of a record (promise 5).
//!
//! Credentials in the forms that turn up in error messages and user agents: behind authorization schemes and the names
//! of fields that hold nothing else, well-known token prefixes, JSON Web Tokens, and of URLs user names with passwords
//! and queries. What is not recognised stays, so texts are capped as well, and bodies are never kept at all.

mod document;
mod rules;

use crate::call::Text;
pub(crate) use document::keep_document;
use rules::mask;

/// No secret is known that is shorter, its scheme and its user name included.
const MIN_SECRET: usize = 12;

/// A text as a record may keep it: secrets masked, at most `cap` bytes, cut at a whole character.
pub(crate) fn keep(text: &str, cap: usize) -> Text {
    // Most texts are the names of tools and versions.
    if text.len() < MIN_SECRET.min(cap) && !text.contains('@') {
        return text.into();
    }
    let masked = mask(text);
    masked[..masked.floor_char_boundary(cap)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_the_rest_stays() {
        for (text, expected) in [
            (
                "bad header: Authorization: Bearer abc.def-123456",
                "bad header: Authorization: Bearer [redacted]",
            ),
            ("key \"sk-proj-0123456789abcdef\" is unknown", "key \"[redacted]\" is unknown"),
            ("token=ghp_0123456789abcdef0123", "token=[redacted]"),
            ("`ghp_0123456789abcdef0123`", "`[redacted]`"),
            ("x-api-key:sk-0123456789abcdef", "x-api-key:[redacted]"),
            ("[sk-0123456789abcdef, AKIAIOSFODNN7EXAMPLE]", "[[redacted], [redacted]]"),
            ("{\"m\":\"line\\nghp_0123456789abcdef0123\"}", "{\"m\":\"line\\n[redacted]\"}"),
            ("cannot reach https://u:p@db.internal/x?y", "cannot reach https://[redacted]@db.internal/x?y"),
            (
                "postgres://u:p@ss@h/db, redis://:hunter2@h:1",
                "postgres://[redacted]@h/db, redis://[redacted]@h:1",
            ),
            (
                "{\"q\":\"jdbc:postgresql:\\/\\/u:hunter@h\"}",
                "{\"q\":\"jdbc:postgresql:\\/\\/[redacted]@h\"}",
            ),
            (
                "see https://a.example/cb?access_token=s3cret&x=1,2 or ask",
                "see https://a.example/cb?[redacted] or ask",
            ),
            (
                "\"https://u:p@a/b?code=1&state=2\" (/messages?sessionId=s1)",
                "\"https://[redacted]@a/b?[redacted]\" (/messages?[redacted])",
            ),
            ("what? a=b, c=d", "what? a=b, c=d"),
            ("eyJhbGciOiJIUzI1NiJ9.e30.x expired", "[redacted] expired"),
            ("basic training for a bearer of news", "basic [redacted] for a bearer of news"),
            ("Authorization: Token abcdef123456", "Authorization: Token [redacted]"),
            ("{\"Authorization\":\"abcdef123456\"}", "{\"Authorization\":\"[redacted]\"}"),
            (
                "proxy-authorization=Digest username=\"Mufasa\", nonce=\"9\"; x",
                "proxy-authorization=Digest [redacted]; x",
            ),
            ("Bearer\\u0020sEcReTtOkEn0123456", "Bearer\\u0020[redacted]"),
            (
                "password=hunter2; client_secret: 'abcdef1'",
                "password=[redacted]; client_secret: '[redacted]'",
            ),
            ("Set-Cookie: sid=1; Path=/\nnext line", "Set-Cookie: [redacted]\nnext line"),
            ("nothing secret: ask-me-anything", "nothing secret: ask-me-anything"),
            ("authorization failed: the password is wrong", "authorization failed: the password is wrong"),
            ("Größe: ghp_0123456789abcdefß", "Größe: [redacted]ß"),
        ] {
            assert_eq!(&*keep(text, 2048), expected);
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_whole_character() {
        assert_eq!(&*keep("aää", 4), "aä");
        assert_eq!(keep(&"x ".repeat(4000), 2048).len(), 2048);
    }
}
