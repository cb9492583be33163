//! `[privacy]`.

use toml::de::{DeArray, DeValue};

use super::found::{Found, Raw};
use super::secret::read_secret;
use super::section::{Reading, Section};
use crate::{ClientIp, HashRotation, Personal, Privacy, Problem, Secret, SecretPattern, secret_pattern};

/// Shorter keys can be guessed; a hash of 128 bits would promise more than it keeps.
const LEAST_KEY_BYTES: usize = 16;
/// The most patterns: each is looked for in every text.
const MAX_PATTERNS: usize = 64;
/// The longest name of a pattern, and the longest pattern, in bytes.
const MAX_NAME: usize = 32;
const MAX_PATTERN: usize = 1024;

const KINDS: [(&str, Personal); 5] = [
    ("email", Personal::Email),
    ("phone", Personal::Phone),
    ("card", Personal::Card),
    ("my_number", Personal::MyNumber),
    ("iban", Personal::Iban),
];

pub(super) fn read_privacy(root: &mut Section<'_, '_>) -> Privacy {
    let default = Privacy::default();
    let mut section = root.section("privacy");
    let choices = [
        ("prefix", ClientIp::Prefix),
        ("off", ClientIp::Off),
        ("hash", ClientIp::Hash),
        ("full", ClientIp::Full),
    ];
    let rotations =
        [("day", HashRotation::Day), ("month", HashRotation::Month), ("never", HashRotation::Never)];
    let client_ip = section.choice("client_ip", default.client_ip, &choices);
    let hash_key = section.read("hash_key", decode_key);
    if client_ip == ClientIp::Hash && hash_key.is_absent() {
        report_missing_key(&mut section);
    }
    let privacy = Privacy {
        client_ip,
        hash_key: hash_key.valid(),
        hash_rotation: section.choice("hash_rotation", default.hash_rotation, &rotations),
        redact: read_patterns(&mut section),
        keep: section.each("keep", |found| found.as_choice(&KINDS)).valid().unwrap_or(default.keep),
    };
    section.finish();
    privacy
}

fn read_patterns(section: &mut Section<'_, '_>) -> Vec<SecretPattern> {
    let Reading::Valid(tables) = section.read("redact", as_tables) else { return Vec::new() };
    let mut patterns = Vec::new();
    for table in tables {
        let Some(mut table) = section.element("redact", table) else { continue };
        let (name, regex) = (table.require("name", decode_name), table.require("pattern", decode_pattern));
        table.finish();
        patterns.extend(name.zip(regex).map(|(name, regex)| SecretPattern { name, regex }));
    }
    patterns
}

fn as_tables<'a>(found: &Found<'a>) -> Result<&'a DeArray<'a>, Problem> {
    match found.raw {
        Raw::Toml(DeValue::Array(tables)) if tables.len() <= MAX_PATTERNS => Ok(tables),
        Raw::Toml(DeValue::Array(_)) => {
            Err(Problem::new("value-range", format!("it has more than {MAX_PATTERNS} patterns"))
                .label("too many")
                .help("join some of them: \"first|second\""))
        }
        _ => Err(found.expected("an array of tables").help(HELP)),
    }
}

const HELP: &str = r"write [{ name = 'employee', pattern = 'E-\d{6}' }]";

fn decode_name(found: &Found<'_>) -> Result<String, Problem> {
    let name = found.as_full_text()?;
    let valid = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | ' ');
    if name.len() <= MAX_NAME && name.chars().all(valid) {
        return Ok(name.to_owned());
    }
    Err(Problem::new("value-invalid", "it cannot stand in the place of a text")
        .label("not a name")
        .help(format!("letters, digits, `-`, `_` and spaces, at most {MAX_NAME} bytes")))
}

fn decode_pattern(found: &Found<'_>) -> Result<regex::Regex, Problem> {
    let pattern = found.as_full_text()?;
    let compiled = match pattern.len() {
        0..=MAX_PATTERN => secret_pattern::compile(pattern),
        _ => Err(format!("it is longer than {MAX_PATTERN} bytes")),
    };
    compiled.map_err(|reason| {
        Problem::new("value-invalid", reason)
            .label("not a pattern that can be used")
            .help(r"the syntax is that of https://docs.rs/regex; in '…' a backslash needs no second one")
    })
}

fn report_missing_key(section: &mut Section<'_, '_>) {
    let problem = Problem::new("key-missing", "`privacy.client_ip` is \"hash\", and there is no key for it")
        .at(section.place_of("privacy.client_ip"))
        .label("needs `hash_key`")
        .help(
            "make one with `openssl rand -base64 32 > hash.key` and write hash_key = { file = \"hash.key\" }; \
             all proxies of one database need the same",
        );
    section.report(problem);
}

/// No message here repeats the key. In the file it would be read by everybody who may read the rest.
fn decode_key(found: &Found<'_>) -> Result<Secret, Problem> {
    let key = match &found.raw {
        Raw::Toml(DeValue::Table(table)) => read_secret(found, table)?,
        Raw::Text(text) => (*text).to_owned(),
        Raw::Toml(_) => {
            return Err(found
                .expected("{ env = \"NAME\" } or { file = \"path\" }")
                .help("the key itself does not belong into this file"));
        }
    };
    if key.len() < LEAST_KEY_BYTES {
        return Err(Problem::new("value-invalid", format!("the key has less than {LEAST_KEY_BYTES} bytes"))
            .label("too short")
            .help("make one with: openssl rand -base64 32"));
    }
    Ok(Secret::new(key))
}
