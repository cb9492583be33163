//! The forms of secrets, as a table: what is recognised, and what is left of it.

use regex::Regex;
use std::{borrow::Cow, sync::LazyLock};

/// A pattern and what replaces it. The classes are ASCII; a character beyond it ends a token and belongs to a value.
type Rule = (&'static str, &'static str);

/// A value up to where it can end in text, JSON, URLs and logs.
macro_rules! value {
    () => {
        r#"[^ \t\r\n"'`,;&<>(){}\[\]|\\]{6,}"#
    };
}

/// Between the name of a field and its value, in any of the ways to write that, quoted or not.
macro_rules! is {
    () => {
        r#"\\?["']?[ \t]*[:=][ \t]*\\?["']?"#
    };
}

/// In the order in which they are applied.
const RULES: [Rule; 8] = [
    // RFC 3986, 3.2.1: before the last @ of the authority. JSON may have its slashes escaped.
    (r#"(:(?:\\?/){2})[^ \t\r\n/?#"'`<>\\]*@"#, "${1}[redacted]@"),
    // RFC 3986, 3.4, if it has a value.
    (r#"\?[^ \t\r\n"'`<>)=?]+=[^ \t\r\n"'`<>)]*"#, "?[redacted]"),
    (concat!(r"(?i-u:\b)((?i-u:set-)?(?i-u:cookie)", is!(), r#")[^\r\n"']+"#), "${1}[redacted]"),
    // RFC 9110, 11.4: a scheme with parameters, and one with a token. Then any scheme behind the field's name.
    (r#"((?i-u:\bdigest) )(?:[A-Za-z]+=(?:"[^"]*"|[^ ,;"]+)(?:, ?)?)+"#, "${1}[redacted]"),
    (concat!(r"((?i-u:\b(?:bearer|basic|digest))(?:[ \t]+|\\u0020|%20))", value!()), "${1}[redacted]"),
    (
        concat!("((?i-u:authorization)", is!(), r"(?:[A-Za-z-]{1,16} )?)(?:\[redacted\]|", value!(), ")"),
        "${1}[redacted]",
    ),
    (
        concat!(
            "((?i-u:api[-_]?key|passw(?:or)?d|passphrase|private[-_]key|(?:client|access)[-_]?secret",
            "|(?:access|refresh|id|auth)[-_]token)",
            is!(),
            ")",
            value!()
        ),
        "${1}[redacted]",
    ),
    // Tokens that name their issuer by their beginning.
    (
        concat!(
            r"(^|[^A-Za-z0-9]|\\[nrt])(?:sk-|[spr]k_(?:live|test)_|gh[opsru]_|github_pat_|glpat-|xox[abeoprs]-|AKIA|ASIA|AIza|npm_|hf_|eyJ)",
            "[A-Za-z0-9_./+=~-]{12,}"
        ),
        "${1}[redacted]",
    ),
];

struct Compiled {
    /// Whether any of them matches at all.
    any: Regex,
    rules: Vec<(Regex, &'static str)>,
}

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let compile = |pattern: &str| Regex::new(pattern).expect("a pattern of ours");
    let all: Vec<_> = RULES.iter().map(|(pattern, _)| format!("(?:{pattern})")).collect();
    Compiled {
        any: compile(&all.join("|")),
        rules: RULES.iter().map(|(pattern, mask)| (compile(pattern), *mask)).collect(),
    }
});

/// A text with every secret that is recognised replaced by a mask. Takes time in proportion to its length.
pub(super) fn mask(text: &str) -> Cow<'_, str> {
    let Compiled { any, rules } = &*COMPILED;
    if !any.is_match(text) {
        return Cow::Borrowed(text);
    }
    let mut masked = text.to_owned();
    for (rule, mask) in rules {
        if let Cow::Owned(replaced) = rule.replace_all(&masked, *mask) {
            masked = replaced;
        }
    }
    Cow::Owned(masked)
}

/// Whether a field of this name holds nothing but a secret.
pub(super) fn names_secret(name: &str) -> bool {
    // What follows is what the rules know behind such a name.
    mask(&format!("{name}=xxxxxxxx")).ends_with("=[redacted]")
}
