//! Masks secrets in the text of a file, so that its lines can be shown.
//!
//! Errs on the side of masking: a line shown is in a terminal's history and in a chat soon. Each masked byte
//! becomes one `*`, so that every position in the text holds.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{secret, store};

/// Parts of key names whose values are secret, whether or not we know the key.
const SECRET_WORDS: [&str; 10] = [
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "hash_key",
    "bodies_key",
    "credential",
    "authorization",
];

/// The environment of a program: names are chosen by its maker, so none of them tells that the value is no secret.
const ENVIRONMENT: &str = ".route.env";

/// The words of a program: an option's name tells what its value is.
const COMMAND: &str = ".route.command";

/// The text with secrets masked, of the same length and with the same lines.
pub(super) fn mask_secrets(text: &str, tree: &DeTable<'_>) -> String {
    let mut secrets = find_credentials(text);
    collect_secret_values(text, tree, "", &mut secrets);
    let mut masked = String::with_capacity(text.len());
    for (at, char) in text.char_indices() {
        let hide = char != '\n' && secrets.iter().any(|secret| secret.contains(&at));
        if hide {
            masked.extend(std::iter::repeat_n('*', char.len_utf8()));
        } else {
            masked.push(char);
        }
    }
    masked
}

/// What stands before the `@` of any URL, and all of a PostgreSQL URL: also in comments and broken lines.
fn find_credentials(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, separator) in text.match_indices("://") {
        let start = at + separator.len();
        let end = text[start..].find(['"', '\'', '\n']).map_or(text.len(), |length| start + length);
        if ["postgres", "postgresql"].iter().any(|scheme| ends_with_word(&text[..at], scheme)) {
            found.push(start..end);
        } else if let Some(length) = text[start..end].rfind('@') {
            found.push(start..start + length);
        }
    }
    found
}

fn ends_with_word(text: &str, word: &str) -> bool {
    let tail = text.len().checked_sub(word.len()).and_then(|start| text.get(start..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(word))
}

/// What stands under a key that sounds secret, and a `store.url` that is neither SQLite nor found already.
fn collect_secret_values(text: &str, table: &DeTable<'_>, path: &str, secrets: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let key = key.get_ref().as_ref();
        collect_value(text, value, &format!("{path}.{key}"), sounds_secret(key), secrets);
    }
}

/// A misspelled key is one of the problems for which its line is shown.
fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET_WORDS.iter().any(|word| key.contains(word) || strsim::osa_distance(&key, word) <= 2)
}

fn collect_value(
    text: &str,
    value: &Spanned<DeValue<'_>>,
    path: &str,
    is_secret: bool,
    secrets: &mut Vec<Range<usize>>,
) {
    match value.get_ref() {
        DeValue::Table(table) if is_secret || path == ENVIRONMENT => {
            collect_unreferenced(text, table, path, secrets);
        }
        DeValue::Table(table) => collect_secret_values(text, table, path, secrets),
        DeValue::Array(array) if path == COMMAND => collect_options(text, array, secrets),
        DeValue::Array(array) => {
            array.iter().for_each(|element| collect_value(text, element, path, is_secret, secrets));
        }
        DeValue::String(url)
            if path == ".store.url" && !url.starts_with("sqlite:") && !store::is_postgres(url) =>
        {
            secrets.push(inside_quotes(text, value.span()));
        }
        _ if is_secret => secrets.push(inside_quotes(text, value.span())),
        _ => {}
    }
}

/// What stands in the place of a reference to a secret and is none.
fn collect_unreferenced(text: &str, table: &DeTable<'_>, path: &str, secrets: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let is_reference = match (key.get_ref().as_ref(), value.get_ref()) {
            ("env", DeValue::String(name)) => secret::is_name(name),
            ("file", DeValue::String(_)) => true,
            _ => false,
        };
        collect_value(text, value, path, !is_reference, secrets);
    }
}

/// What follows an option that sounds secret: the next word, or what stands behind its `=`.
fn collect_options(text: &str, words: &DeArray<'_>, secrets: &mut Vec<Range<usize>>) {
    let mut follows = false;
    for word in words {
        let inside = inside_quotes(text, word.span());
        let (option, value) = match text[inside.clone()].split_once('=') {
            Some((option, value)) => (option, Some(inside.end - value.len()..inside.end)),
            None => (&text[inside.clone()], None),
        };
        let is_secret = option.starts_with('-') && sounds_secret(option);
        if follows && !is_secret {
            secrets.push(inside.clone());
        }
        secrets.extend(value.filter(|_| is_secret));
        follows = is_secret && inside.len() == option.len();
    }
}

/// A span without its quotes; an unterminated string has only the first.
fn inside_quotes(text: &str, span: Range<usize>) -> Range<usize> {
    let quotes = ['"', '\''];
    let start = span.start + usize::from(text[span.clone()].starts_with(quotes));
    let end = span.end - usize::from(text[start..span.end].ends_with(quotes));
    start..end
}
