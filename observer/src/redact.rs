//! What must not be kept is taken out here, before a text becomes part of a record (promise 5).
//!
//! Credentials in the forms that turn up in error messages and user agents: authorization schemes, well-known
//! token prefixes, JSON Web Tokens, and of URLs user names with passwords and queries. What is not recognised stays,
//! so texts are capped as well, and bodies are never kept at all.

use crate::call::Text;

/// What stands in the place of a secret.
const MASK: &str = "[redacted]";
/// Beginnings of tokens that name their issuer. Each must be followed by at least [`MIN_TOKEN`] more bytes.
const PREFIXES: [&str; 12] = [
    "sk-",
    "sk_live_",
    "pk_live_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "eyJ",
];
const MIN_TOKEN: usize = 12;
/// No secret is known that is shorter, its scheme and its user name included.
const MIN_SECRET: usize = 12;
/// Authorization schemes whose next word is the credential (RFC 9110, 11.4).
const SCHEMES: [&str; 3] = ["bearer", "basic", "digest"];

/// A text as a record may keep it: secrets masked, at most `cap` bytes, cut at a whole character.
pub(crate) fn keep(text: &str, cap: usize) -> Text {
    // Most texts are the names of tools and versions.
    if text.len() < MIN_SECRET.min(cap) && !text.contains('@') {
        return text.into();
    }
    let mut kept = String::with_capacity(text.len().min(cap));
    let (mut after_scheme, mut in_query) = (false, false);
    for word in text.split_inclusive(is_separator) {
        let bare = word.trim_end_matches(is_separator);
        let separator = &word[bare.len()..];
        let credential = after_scheme && bare.len() >= 6;
        if in_query {
            // A query goes on behind most separators.
            in_query = matches!(separator, "=" | "," | ";" | "(" | "{" | "}");
            kept.push_str(if in_query { "" } else { separator });
        } else if credential || is_token(bare) {
            kept.push_str(MASK);
            kept.push_str(separator);
        } else if let Some((path, _)) = bare.split_once('?').filter(|_| separator == "=") {
            push_without_userinfo(&mut kept, path);
            kept.push('?');
            kept.push_str(MASK);
            in_query = true;
        } else {
            push_without_userinfo(&mut kept, word);
        }
        after_scheme = if bare.is_empty() { after_scheme } else { is_scheme(bare) };
        if kept.len() >= cap {
            break;
        }
    }
    kept.truncate(kept.floor_char_boundary(cap));
    kept.into()
}

const fn is_separator(character: char) -> bool {
    matches!(
        character,
        ' ' | '\t' | '\n' | '\r' | '"' | '\'' | ',' | ';' | '=' | '(' | ')' | '<' | '>' | '{' | '}'
    )
}

fn is_scheme(word: &str) -> bool {
    let word = word.rsplit(':').next().unwrap_or(word);
    SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

fn is_token(word: &str) -> bool {
    PREFIXES.iter().any(|prefix| word.strip_prefix(prefix).is_some_and(|rest| rest.len() >= MIN_TOKEN))
}

/// `scheme://user:password@host` loses what stands before the `@`.
fn push_without_userinfo(kept: &mut String, word: &str) {
    if let Some((scheme, rest)) = word.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        if let Some(at) = authority.rfind('@') {
            kept.push_str(scheme);
            kept.push_str("://");
            kept.push_str(MASK);
            kept.push_str(&rest[at..]);
            return;
        }
    }
    kept.push_str(word);
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
            ("cannot reach https://u:p@db.internal/x?y", "cannot reach https://[redacted]@db.internal/x?y"),
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
            ("nothing secret: ask-me-anything", "nothing secret: ask-me-anything"),
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
