//! Secrets in URLs: who asks, what a query or fragment hands over, and URLs that are secrets themselves. The rest of a URL
//! stays.

use super::{
    finding::{Found, Rule},
    opaque::{is_harmless, is_opaque, looks_random},
    place::run_end,
};
use memchr::memchr_iter;
use regex::Regex;
use std::sync::LazyLock;

/// Parameters whose value is a secret, whatever it is.
const SECRET: [&str; 43] = [
    "access_key",
    "access_token",
    "accesstoken",
    "api-key",
    "api_key",
    "apikey",
    "api_token",
    "assertion",
    "auth",
    "auth_token",
    "authorization",
    "authtoken",
    "client_assertion",
    "client_secret",
    "code_verifier",
    "credential",
    "credentials",
    "device_code",
    "hmac",
    "id_token",
    "jwt",
    "passphrase",
    "passwd",
    "password",
    "private_token",
    "pwd",
    "refresh_token",
    "samlresponse",
    "secret",
    "session",
    "session_id",
    "session_token",
    "sessionid",
    "sessiontoken",
    "shared_secret",
    "sid",
    "sig",
    "signature",
    "subscription-key",
    "ticket",
    "token",
    "user_token",
    "x-api-key",
];
/// Parameters whose value is one where it looks like it.
const PERHAPS: [&str; 10] = ["c", "code", "hash", "k", "key", "magic", "otp", "p", "pass", "state"];
/// Parameters of pre-signed URLs.
const SIGNED: [&str; 3] = ["x-amz-", "x-goog-", "x-ms-"];

/// Hosts and paths behind which the path is the secret.
static WEBHOOKS: LazyLock<Regex> = LazyLock::new(|| Regex::new(HOSTS).expect("a pattern of ours"));

const HOSTS: &str = r"hooks\.slack\.com/|discord\.com/api/webhooks/|discordapp\.com/api/webhooks/|\.webhook\.office\.com/|hooks\.zapier\.com/hooks/|open\.feishu\.cn/open-apis/bot/|hooks\.chime\.aws/|maker\.ifttt\.com/";

/// Compiles what is compiled once, where nobody waits for it.
pub(super) fn prepare() {
    LazyLock::force(&WEBHOOKS);
}

/// How far behind the end of an authority a password is looked for that ought to have been escaped.
const MAX_PASSWORD: usize = 256;

/// RFC 3986, 3.2.1: before the last @ of the authority. JSON may have its slashes escaped.
pub(super) fn find_users(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    let mut searched = 0;
    for colon in memchr_iter(b':', bytes) {
        let behind = run_end(bytes, colon + 1, |byte| matches!(byte, b'/' | b'\\'));
        let is_authority =
            behind > colon + 2 && bytes[colon + 1..behind].iter().filter(|byte| **byte == b'/').count() >= 2;
        if !is_authority || colon < searched {
            continue;
        }
        let end = authority_end(bytes, behind);
        searched = end;
        let Some(at) = memchr::memrchr(b'@', &bytes[behind..end]) else { continue };
        let user = &text[behind..behind + at];
        if !matches!(user, "" | "git" | "[redacted]") {
            found.push(Found::new(behind..behind + at, Rule::UrlUser));
        }
    }
}

/// The end of an authority. One whose port is none is a user, whose password has what ought to be escaped in it.
fn authority_end(bytes: &[u8], start: usize) -> usize {
    let is_word = |byte: u8| !byte.is_ascii_whitespace() && !b"\"'`<>\\".contains(&byte);
    let end = run_end(bytes, start, |byte| is_word(byte) && !b"/?#".contains(&byte));
    let authority = &bytes[start..end];
    let colon = memchr::memchr(b':', authority);
    let has_port = colon.is_none_or(|colon| {
        authority.starts_with(b"[") || authority[colon + 1..].iter().all(u8::is_ascii_digit)
    });
    if has_port || authority.contains(&b'@') {
        return end;
    }
    let word = run_end(&bytes[..bytes.len().min(end + MAX_PASSWORD)], end, is_word);
    memchr::memrchr(b'@', &bytes[start..word]).map_or(end, |at| start + at + 1)
}

/// RFC 3986, 3.4 and 3.5: `name=value` behind `?`, `&` or `#`.
pub(super) fn find_parameters(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    let mut searched = 0;
    for sign in memchr_iter(b'=', bytes) {
        if sign < searched {
            continue;
        }
        let is_name =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'[' | b']');
        let name = bytes[..sign].iter().rev().take(64).take_while(|byte| is_name(byte)).count();
        let start = sign - name;
        let is_parameter =
            bytes[..start].ends_with(b"&amp;") || matches!(bytes[..start].last(), Some(b'?' | b'&' | b'#'));
        if name == 0 || !is_parameter {
            continue;
        }
        let is_value = |byte: u8| !byte.is_ascii_whitespace() && !b"\"'`<>&#)\\".contains(&byte);
        let end = run_end(bytes, sign + 1, is_value);
        searched = end;
        let value = text[sign + 1..end].trim_end_matches(['.', ',', ';', ':', ']', '}']);
        if is_secret(&text[start..sign], value) {
            found.push(Found::new(sign + 1..sign + 1 + value.len(), Rule::UrlParameter));
        }
    }
}

fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is = |names: &[&str]| names.contains(&name.as_str());
    if value.is_empty() || value.starts_with("[redacted") {
        return false;
    }
    let ends = ["_token", "-token", "_secret", "-secret", "_password", "apikey", "_sig", "-signature"];
    if is(&SECRET) || ends.iter().any(|end| name.ends_with(end)) {
        return !is_harmless(value);
    }
    if SIGNED.iter().any(|start| name.starts_with(start)) {
        return ["signature", "credential", "token"].iter().any(|end| name.ends_with(end));
    }
    (is(&PERHAPS) && looks_random(value)) || is_opaque(value)
}

/// URLs that whoever knows them may post to.
pub(super) fn find_webhooks(text: &str, found: &mut Vec<Found>) {
    let mut at = 0;
    while let Some(host) = WEBHOOKS.find_at(text, at) {
        let end = run_end(text.as_bytes(), host.end(), |byte| {
            !byte.is_ascii_whitespace() && !b"\"'`<>)\\,".contains(&byte)
        });
        if end > host.end() && !text[host.end()..].starts_with("[redacted") {
            found.push(Found::new(host.end()..end, Rule::Webhook));
        }
        at = end;
    }
}
