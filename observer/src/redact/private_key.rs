//! Private keys in PEM (RFC 7468) and in the forms of OpenSSH, PGP and PuTTY: from the first line to the last, or to the
//! end of the text.

use super::finding::{Found, Rule};
use memchr::memmem::Finder;
use std::sync::LazyLock;

static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("PRIVATE KEY"));
static PUTTY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("PuTTY-User-Key-File"));
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
/// Longer than the words that name any kind of key.
const MAX_LABEL: usize = 40;

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    let mut at = 0;
    for name in NAME.find_iter(text.as_bytes()) {
        if name < at {
            continue;
        }
        let label = &text[text.floor_char_boundary(name.saturating_sub(MAX_LABEL))..name];
        if let Some(begin) = label.rfind(BEGIN) {
            let end = end_of_key(text, name);
            found.push(Found::new(name - label.len() + begin..end, Rule::PrivateKey));
            at = end;
        } else if label.contains(END) {
            // How it began was lost.
            let end = end_of_line(text, name);
            found.push(Found::new(0..end, Rule::PrivateKey));
            at = end;
        }
    }
    if let Some(putty) = PUTTY.find(text.as_bytes()) {
        found.push(Found::new(putty..text.len(), Rule::PrivateKey));
    }
}

fn end_of_key(text: &str, start: usize) -> usize {
    match text[start..].find(END) {
        Some(end) => end_of_line(text, start + end + END.len()),
        None => text.len(),
    }
}

/// Behind the hyphens of the last line.
fn end_of_line(text: &str, start: usize) -> usize {
    let end = text[start..].find("-----").map_or(text.len(), |hyphens| start + hyphens);
    text.len() - text[end..].trim_start_matches('-').len()
}

/// Whether a document has a piece of a private key, so that more of it may stand in its other strings.
pub(super) fn is_split(text: &str) -> bool {
    NAME.find(text.as_bytes()).is_some() && (text.contains(BEGIN) || text.contains(END))
}

/// Whether a string can be a line of a key's body.
pub(super) fn is_body(text: &str) -> bool {
    let text = text.trim();
    text.len() >= 16
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}
