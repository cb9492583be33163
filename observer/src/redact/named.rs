//! Secrets behind a word that says so: the name of a field, in any of the ways to write that, or an authorization scheme.

use super::{
    finding::{Found, Rule},
    opaque::{is_harmless, looks_random, opaque_len},
    value::{self, Separator},
};
use regex::Regex;
use std::sync::LazyLock;

/// What a word says about the value behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It is a secret, if it is a value at all.
    Secret,
    /// It may be one: `token` and `secret` are names of other things, too.
    Perhaps,
    /// An authorization scheme and what belongs to it.
    Authorization,
    /// Cookies.
    Cookie,
    /// The credentials of a scheme.
    Scheme,
    /// The parameters of a scheme.
    Parameters,
}

/// Names by class. A longer name comes before one that it begins with. Case does not matter.
const NAMES: [(Class, &str); 6] = [
    (Class::Authorization, "(?:proxy-)?authorization"),
    (Class::Cookie, "cookie"),
    (Class::Scheme, "bearer|basic|negotiate"),
    (Class::Parameters, "digest|aws4-hmac-sha256|hawk|oauth"),
    (
        Class::Secret,
        "pass[-_ ]?wor[dt]|passwd|pass[-_ ]?phrase|pass[-_ ]?code|kennwort|senha|pwd|pin[-_ ]?code|cvv2?|cvc\
         |identified by|api[-_ ]?key|secret[-_ ]?(?:access[-_ ]?)?key|access[-_ ]?(?:secret|key(?:[-_ ]?id)?)\
         |(?:client|app|consumer|webhook|shared|signing|totp)[-_ ]?secret(?:[-_ ]?key)?|account[-_ ]?key\
         |shared[-_ ]?access[-_ ]?(?:key|signature)|(?:private|encryption|signing|master|license|storage)[-_ ]?key\
         |(?:access|refresh|id|auth|session|security|bearer|oauth2?|api|personal|csrf|xsrf|bot|device)[-_ ]?token\
         |mcp[-_]session[-_]id|connection[-_ ]?string",
    ),
    (
        Class::Perhaps,
        "token|secret|signature|credentials?|session(?:[-_ ]?(?:id|key))?|jwt|otp|sid|sig|pass|pin|nonce",
    ),
];

/// The same beyond ASCII, where there is no case to disregard.
const NAMES_BEYOND_ASCII: &str = "パスワード|ﾊﾟｽﾜｰﾄﾞ|パスフレーズ|暗証番号|アクセストークン|APIキー|シークレットキー|認証トークン\
    |密码|密碼|口令|비밀번호|пароль|Пароль|[Cc]ontrase(?:ñ|n|\u{fffd})a|[Mm]ot de passe";

static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    let names: Vec<_> = NAMES.iter().map(|(_, names)| *names).collect();
    let pattern = format!("(?i-u:{})|{NAMES_BEYOND_ASCII}", names.join("|"));
    Regex::new(&pattern).expect("a pattern of ours")
});

/// The class of each of the names, in their order.
static CLASSES: LazyLock<Vec<(Class, Regex)>> = LazyLock::new(|| {
    let whole = |names| Regex::new(&format!("^(?i-u:{names})$")).expect("a pattern of ours");
    NAMES.iter().map(|(class, names)| (*class, whole(names))).collect()
});

/// Compiles what is compiled once, where nobody waits for it.
pub(super) fn prepare() {
    LazyLock::force(&WORDS);
    LazyLock::force(&CLASSES);
}

fn class_of_word(word: &str) -> Class {
    let of_name = CLASSES.iter().find(|(_, names)| names.is_match(word));
    of_name.map_or(Class::Secret, |(class, _)| *class)
}

/// What the name of a field says about its value.
pub(super) fn class_of_field(name: &str) -> Option<Class> {
    let is_last = |word: &regex::Match<'_>| value::name_end(name, word.end()) == name.len();
    let word = WORDS.find_iter(name).filter(is_last).last()?;
    let class = class_of_word(word.as_str());
    let is_field =
        !matches!(class, Class::Scheme | Class::Parameters) && is_whole(name, word.start(), word.as_str());
    is_field.then_some(class)
}

/// A short name is one only where it is not the end of a longer word, as in `inside` and `bypass`; that of `dbPwd` is none.
fn is_whole(text: &str, at: usize, word: &str) -> bool {
    let is_hump = word.starts_with(|first: char| first.is_ascii_uppercase())
        && text[..at].ends_with(|before: char| before.is_ascii_lowercase());
    word.len() > 4 || is_hump || !text[..at].ends_with(|character: char| character.is_ascii_alphabetic())
}

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    let mut at = 0;
    while let Some(word) = WORDS.find_at(text, at) {
        let behind = word.end();
        let secret = is_whole(text, word.start(), word.as_str())
            .then(|| secret_behind(text, word.start(), behind, class_of_word(word.as_str())))
            .flatten();
        at = behind;
        if let Some(secret) = secret {
            at = at.max(secret.bytes.end);
            found.push(secret);
        }
    }
}

/// The secret behind a word.
fn secret_behind(text: &str, start: usize, end: usize, class: Class) -> Option<Found> {
    match class {
        Class::Scheme => credentials(text, end),
        Class::Parameters => value::parameters(text, end).map(|bytes| Found::new(bytes, Rule::Parameters)),
        Class::Cookie => {
            let (_, at) = value::separator(text, start, end)?;
            let sign = memchr::memchr2(b'=', b'\n', &text.as_bytes()[at..])?;
            let bytes = value::line(text, at);
            bytes.contains(&(at + sign)).then(|| Found::new(bytes, Rule::Cookie))
        }
        Class::Authorization => authorization(text, start, end),
        Class::Secret => {
            let (separator, at) = value::separator(text, start, end)?;
            let bytes = value::read(text, at)?;
            let value = &text[bytes.clone()];
            let is_secret = match separator {
                Separator::Verb => looks_secret_in_prose(value),
                Separator::Sign | Separator::Quote => !is_harmless(value),
            };
            let is_folder = text[start..end].eq_ignore_ascii_case("pwd") && value.starts_with(['/', '~']);
            let behind = &text[bytes.end..];
            let is_generic = behind.starts_with('<')
                && !behind.starts_with("</")
                && value.bytes().all(|byte| byte.is_ascii_alphabetic());
            (is_secret && !is_folder && !is_generic).then(|| Found::new(bytes, Rule::Named))
        }
        Class::Perhaps => {
            let (separator, at) = value::separator(text, start, end)?;
            let bytes = value::read(text, at).filter(|_| separator == Separator::Sign)?;
            let bytes = bytes.start..bytes.start + opaque_len(&text[bytes]);
            looks_random(&text[bytes.clone()]).then(|| Found::new(bytes, Rule::PerhapsNamed))
        }
    }
}

/// In a sentence a word is a secret only if it is no word.
fn looks_secret_in_prose(value: &str) -> bool {
    let ascii = value.split(|character: char| !character.is_ascii()).next().unwrap_or_default();
    let has = |is: fn(&u8) -> bool| ascii.as_bytes().iter().any(is);
    ascii.len() >= 6 && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic) && !is_harmless(value)
}

/// RFC 9110, 11.6.2: a scheme, and then its credentials or parameters. What stands there without a scheme is one, too.
fn authorization(text: &str, start: usize, end: usize) -> Option<Found> {
    let (_, at) = value::separator(text, start, end)?;
    let scheme = text.as_bytes()[at..]
        .iter()
        .take(24)
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-');
    let behind = at + scheme.count();
    if let Some(bytes) = value::parameters(text, behind) {
        return Some(Found::new(bytes, Rule::Parameters));
    }
    let is_scheme = SCHEMES.iter().any(|scheme| text[at..behind].eq_ignore_ascii_case(scheme));
    let word = value::read(text, if is_scheme { value::scheme_gap(text, behind)? } else { at })?;
    if is_scheme || word.start > at || !text[word.end..].starts_with(' ') {
        return (!is_harmless(&text[word.clone()])).then(|| Found::new(word, Rule::Named));
    }
    // A scheme that nobody knows, or a secret already.
    let second = value::read(text, word.end + 1).filter(|second| !is_harmless(&text[second.clone()]));
    let end = second.map_or(word.end, |second| second.end);
    (!is_harmless(&text[word.clone()])).then(|| Found::new(word.start..end, Rule::Named))
}

/// Schemes that are named in a record; of another one nothing is.
const SCHEMES: [&str; 16] = [
    "digest",
    "oauth",
    "hawk",
    "aws4-hmac-sha256",
    "basic",
    "bearer",
    "token",
    "apikey",
    "api-key",
    "key",
    "negotiate",
    "ntlm",
    "dpop",
    "ssws",
    "splunk",
    "geniekey",
];

/// RFC 9110, 11.2: the credentials behind a scheme, told from the prose that the scheme's name may stand in.
fn credentials(text: &str, end: usize) -> Option<Found> {
    let at = value::scheme_gap(text, end)?;
    let bytes = value::token(text, at);
    let value = &text[bytes.clone()];
    let is_word = |piece: &str| piece.bytes().skip(1).all(|byte| byte.is_ascii_lowercase());
    let is_prose = value.split(['-', '/', '.', ',', ':']).all(is_word) && value.len() < 24;
    // `Bearer realm=…` is a challenge: nobody's credentials.
    let is_challenge =
        ["realm=", "error=", "scope=", "resource_metadata="].iter().any(|name| value.starts_with(name));
    (value.len() >= 6 && !is_prose && !is_challenge && !is_harmless(value))
        .then(|| Found::new(bytes, Rule::Scheme))
}
