//! E-mail addresses, told from everything else that has an @: packages with their versions, remotes of git, units of
//! systemd, pictures for two resolutions.

use super::{
    finding::{Found, Rule},
    place::run_start,
};

/// RFC 5321, 4.5.3.1.1 and 4.5.3.1.2.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 255;

/// What ends the names of files and units, and no domain.
const NO_DOMAINS: [&str; 40] = [
    "alpha", "beta", "canary", "cjs", "conf", "css", "dev0", "device", "dll", "exe", "gif", "html", "jar",
    "jpeg", "jpg", "js", "json", "jsx", "lib", "local0", "lock", "mjs", "mount", "next", "png", "rc",
    "scope", "service", "slice", "snap", "socket", "svg", "swap", "target", "timer", "toml", "ts", "tsx",
    "webp", "yaml",
];

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    let mut over = 0;
    for at in signs(text) {
        if let Some((start, end)) = address_at(text, at)
            && start >= over
        {
            found.push(Found::new(start..end, Rule::Email));
            over = end;
        }
    }
}

/// Where an @ stands, in its wide form too.
fn signs(text: &str) -> impl Iterator<Item = usize> {
    let wide =
        memchr::memchr_iter(WIDE[0], text.as_bytes()).filter(|at| text.as_bytes()[*at..].starts_with(WIDE));
    memchr::memchr_iter(b'@', text.as_bytes()).chain(wide)
}

/// U+FF20.
const WIDE: &[u8] = "＠".as_bytes();

fn address_at(text: &str, at: usize) -> Option<(usize, usize)> {
    let behind = at + text[at..].chars().next().map_or(1, char::len_utf8);
    let local = text[..at]
        .char_indices()
        .rev()
        .take(MAX_LOCAL)
        .take_while(|(_, character)| is_local(*character))
        .last();
    let start = local?.0;
    let start = at - text[start..at].trim_start_matches(['.', '-', '\'', '%', '+', '/', '=']).len();
    let domain = &text[behind..behind + domain_len(text, behind)];
    let domain = valid_domain(domain)?;
    let local = &text[start..at];
    if is_in_authority(text.as_bytes(), start) {
        return None;
    }
    let is_package = domain
        .split('.')
        .take(2)
        .all(|label| label.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit()));
    let is_picture =
        domain.starts_with(|first: char| first.is_ascii_digit()) && domain[1..].starts_with("x.");
    (!local.is_empty() && local != "git" && !is_package && !is_picture)
        .then_some((start, behind + domain.len()))
}

/// Whether it is the user and the host of a URL, of which only the user is a secret.
fn is_in_authority(bytes: &[u8], start: usize) -> bool {
    let is_part = |byte: u8| !byte.is_ascii_whitespace() && !b"/?#\"'`<>\\".contains(&byte);
    let before = &bytes[..run_start(bytes, start, 256, is_part)];
    before.ends_with(b"://") || before.ends_with(b":\\/\\/")
}

const fn is_local(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(character, '.' | '_' | '%' | '+' | '-' | '\'')
        || is_latin(character)
}

/// Letters of European names, and what was left of one that could not be read.
const fn is_latin(character: char) -> bool {
    matches!(character, '\u{c0}'..='\u{24f}' | '\u{fffd}')
}

fn domain_len(text: &str, start: usize) -> usize {
    let is_part = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '.' | '-') || is_latin(character)
    };
    let domain = text[start..].chars().take(MAX_DOMAIN).take_while(|character| is_part(*character));
    domain.map(char::len_utf8).sum()
}

/// As much of it as is a domain: at least two labels, of which the last is no number.
fn valid_domain(mut domain: &str) -> Option<&str> {
    loop {
        domain = domain.trim_end_matches(['.', '-']);
        let (rest, last) = domain.rsplit_once('.')?;
        let is_top = last.len() >= 2
            && (last.bytes().all(|byte| byte.is_ascii_alphabetic()) || last.starts_with("xn--"));
        if is_top && !rest.is_empty() && !domain.contains("..") {
            return (!NO_DOMAINS.contains(&last.to_ascii_lowercase().as_str())).then_some(domain);
        }
        domain = rest;
    }
}
