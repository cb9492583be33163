//! Which values look like secrets, and which stand behind the name of one and are none: prose, placeholders, code.

use std::{collections::HashSet, sync::LazyLock};

/// Words of messages about secrets. A value that is made of nothing else is a remark.
static REMARKS: LazyLock<HashSet<&str>> = LazyLock::new(|| WORDS.split(' ').collect());

const WORDS: &str = "a abgelaufen able absent access account after again all already also an and any api are array as at auth \
    authentication authorization available bad basic be bearer because been before blank bool boolean both \
    but by bytes can cannot change changed characters check configured confirm confirmation contain contains \
    correct correcta could create created credentials current default defined denied did different digit \
    digits disabled disallowed do does doesn doesnt don either empty enabled encrypted ensure enter \
    erforderlich error es est exceeds exist exists expected expirado expired expires expiry failed failure \
    falsch false fehlend fehlt field for forbidden format found from get given had has hashed have header \
    hidden if in incorrect incorrecta incorrecte insufficient int into invalid invalide is isn issued ist it \
    its key kurz lang later least leer length less letter long longer lowercase malformed manquant masked \
    match matched matches max maximum may min minimum mismatch missing more muss must n new nicht nil no \
    none not null number numbers object obligatoire obligatoria obligatorio of ok old omitted on one only \
    option optional or parameter parameters passed password please present previous property provide \
    provided read received redacted refresh rejected removed requerida requerido request required requires \
    requis requise reset reuse reused revoked s same see set setting short should sign signature space \
    spaces special specified str string supplied support supported t than that the this to token tokens too \
    true try type unauthorized unchanged undefined unexpected ungültig unknown unset unsupported uppercase \
    usage use used user using valid validation value verification verified verify válida was wasn weak were \
    when whitespace will with within without won wrong yes you your zero zu";

/// What code reads a secret from.
const SOURCES: [&str; 24] = [
    "args.",
    "body.",
    "config.",
    "configuration.",
    "context.",
    "ctx.",
    "data.",
    "env.",
    "environ.",
    "event.",
    "input.",
    "json.",
    "options.",
    "opts.",
    "os.environ",
    "os.getenv",
    "params.",
    "process.env",
    "props.",
    "req.",
    "request.",
    "self.",
    "settings.",
    "this.",
];

/// Nobody remarks more than this on a secret, in bytes.
const MAX_REMARK: usize = 256;

/// Whether a value behind a secret's name is none: a remark, a placeholder, a piece of code, a path.
pub(super) fn is_harmless(value: &str) -> bool {
    let value = value.trim_matches([' ', '\t', '.', ',', ':', ';', '!', '?']);
    value.len() <= MAX_REMARK
        && (is_placeholder(value)
            || is_remark(value)
            || is_code(value)
            || is_path(value)
            || is_prose_beyond_ascii(value))
}

fn is_placeholder(value: &str) -> bool {
    let Some(first) = value.chars().next() else { return true };
    let is_variable =
        |name: &str| name.contains('_') && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let is_short_number = value.len() <= 2 && value.bytes().all(|byte| byte.is_ascii_digit());
    let is_one_character = matches!(first, '*' | '•' | 'x' | 'X' | '.' | '#' | '-' | '_' | '?')
        && value.chars().all(|character| character == first);
    is_one_character
        || is_short_number
        || value.starts_with("[redacted")
        || ["${", "{{", "$(", "%s", "%v", "%d", "{}", "<"].iter().any(|start| value.starts_with(start))
        || value.eq_ignore_ascii_case("n/a")
        || is_variable(value.strip_prefix('$').unwrap_or(value))
}

fn is_remark(value: &str) -> bool {
    let words = value.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.clone().any(|word| word.chars().count() > 1)
        && words.clone().all(|word| {
            let is_number = word.len() <= 3 && word.bytes().all(|byte| byte.is_ascii_digit());
            is_number || REMARKS.contains(word.to_lowercase().as_str())
        })
}

/// A way to a value, or an expression with nothing but names in it: `getpass()`, `Optional[str]`.
fn is_code(value: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.');
    let is_part = |byte: u8| is_name(byte) || b"()[], ?!".contains(&byte);
    let from_source = SOURCES.iter().any(|source| value.starts_with(source));
    let is_expression = value.contains(['(', '[']) && value.bytes().next().is_some_and(is_name);
    (from_source || is_expression) && value.bytes().all(is_part)
}

/// The path of a file. Where letters of both cases are mixed it could be random.
fn is_path(value: &str) -> bool {
    let starts = ["/", "./", "../", "~/"].iter().any(|start| value.starts_with(start));
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/._-~".contains(&byte);
    starts && value.bytes().all(is_part)
}

/// Japanese goes on where other scripts have a space; a secret is written in ASCII, also in its wide form.
fn is_prose_beyond_ascii(value: &str) -> bool {
    let is_script =
        |character: char| character >= '\u{2e80}' && !('\u{ff01}'..='\u{ff5e}').contains(&character);
    let start: &str = value.split(is_script).next().unwrap_or_default();
    start.len() < value.len() && start.len() <= 3 && start.bytes().all(|byte| byte.is_ascii_digit())
}

/// Of what begins with characters that random values are made of, how far they go.
pub(super) fn opaque_len(value: &str) -> usize {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:~+=%|".contains(byte);
    let len = value.bytes().take_while(is_part).count();
    value[..len].trim_end_matches(['.', ':']).len()
}

/// Whether a value looks as if nobody had thought of it: letters and digits in one long piece.
pub(super) fn looks_random(value: &str) -> bool {
    let is_separator = |byte: &u8| matches!(byte, b'-' | b'_' | b'.' | b'/' | b':' | b'~' | b'+');
    let value = value.trim_end_matches(['?', '!', '.', ',', ':', ';']);
    if value.len() > MAX_REMARK {
        return !value.contains([' ', '\n']);
    }
    value.len() >= 8
        && opaque_len(value) == value.len()
        && value.as_bytes().split(is_separator).any(is_random_piece)
}

fn is_random_piece(piece: &[u8]) -> bool {
    let count = |is: fn(&u8) -> bool| piece.iter().filter(|byte| is(byte)).count();
    let (digits, lower, upper) =
        (count(u8::is_ascii_digit), count(u8::is_ascii_lowercase), count(u8::is_ascii_uppercase));
    match piece.len() {
        0..8 => false,
        8..20 => digits > 0 && lower + upper > 0,
        _ => (digits > 0 && lower + upper > 0) || (lower > 2 && upper > 2),
    }
}

/// Whether letters of both cases and digits are mixed in a long piece: what is opaque without a name that says so.
pub(super) fn is_opaque(value: &str) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(byte);
    // What is escaped would be read as digits and letters.
    let pieces = value
        .split('%')
        .enumerate()
        .map(|(at, piece)| if at == 0 { piece } else { piece.get(2..).unwrap_or("") });
    let pieces: Vec<&str> = pieces.collect();
    let count = |is: fn(&u8) -> bool| pieces.iter().flat_map(|piece| piece.bytes()).filter(is).count();
    let has_long =
        |piece: &&str| piece.as_bytes().split(|byte| b"-_.~/".contains(byte)).any(|part| part.len() >= 12);
    value.len() >= 20
        && pieces.iter().all(|piece| piece.bytes().all(|byte| is_part(&byte)))
        && [u8::is_ascii_digit, u8::is_ascii_lowercase, u8::is_ascii_uppercase]
            .into_iter()
            .all(|is| count(is) > 1)
        && pieces.iter().any(has_long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_placeholders_code_and_paths_are_no_secrets() {
        for value in [
            "required",
            "must be at least 8 characters",
            "****",
            "xxxx",
            "${DB_PASSWORD}",
            "$DB_PASSWORD",
            "OPENAI_API_KEY",
            "process.env.DB_PASSWORD",
            "os.getenv(",
            "getPassword()",
            "hash(password)",
            "/run/secrets/db",
            "8",
            "YES",
            "[redacted]",
            "8文字以上",
            "必須です",
            "<your key>",
            "this.options.apiKey",
        ] {
            assert!(is_harmless(value), "{value}");
        }
        for value in
            ["hunter2", "correct horse", "$2b$12$abc", "/Ab3/x", "１２３４", "os.environ9", "letmein", "a(1"]
        {
            assert!(!is_harmless(value), "{value}");
        }
    }

    #[test]
    fn random_values_are_told_from_names() {
        for value in ["550e8400-e29b-41d4-a716-446655440000", "abc123def456", "AbCdEfGhIjKlMnOpQrStUv"] {
            assert!(looks_random(value), "{value}");
        }
        for value in ["my-app-secret-v2", "4096", "db-credentials", "default/tls", "12345678", "1.2.3.4:8080"]
        {
            assert!(!looks_random(value), "{value}");
        }
    }
}
