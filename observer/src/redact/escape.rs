//! Texts in which characters are written as escapes: JSON in a string, and URLs. A secret is looked for in what they mean,
//! too.

use std::borrow::Cow;

/// The text as it is meant; `None` if there is no escape in it. What cannot be decoded stays.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut decoded = Cow::Borrowed(text);
    if text.contains("\\u")
        && let Some(plain) = decode_unicode(&decoded)
    {
        decoded = Cow::Owned(plain);
    }
    if text.contains('%')
        && let Some(plain) = decode_percent(&decoded)
    {
        decoded = Cow::Owned(plain);
    }
    match decoded {
        Cow::Owned(plain) => Some(plain),
        Cow::Borrowed(_) => None,
    }
}

/// `\u` and four digits, behind any number of backslashes: JSON in JSON has two of them.
fn decode_unicode(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\u") {
        let (before, behind) = (&rest[..at], &rest[at + 2..]);
        match unit(behind).and_then(|unit| character(unit, &behind[4..])) {
            Some((character, used)) => {
                plain.push_str(before.trim_end_matches('\\'));
                plain.push(character);
                rest = &behind[4 + used..];
            }
            None => {
                plain.push_str(before);
                plain.push_str("\\u");
                rest = behind;
            }
        }
    }
    plain.push_str(rest);
    (plain.len() < text.len()).then_some(plain)
}

fn unit(text: &str) -> Option<u32> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}

/// The character of one or two units, and how much of what is behind the first was used.
fn character(first: u32, behind: &str) -> Option<(char, usize)> {
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first).map(|character| (character, 0));
    }
    let start = behind.len() - behind.trim_start_matches('\\').len();
    let second =
        unit(behind.get(start..)?.strip_prefix('u')?).filter(|second| (0xdc00..0xe000).contains(second))?;
    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    char::from_u32(code).map(|character| (character, start + 5))
}

/// RFC 3986, 2.1; twice, for what was encoded twice.
fn decode_percent(text: &str) -> Option<String> {
    let once = decode_percent_once(text)?;
    Some(decode_percent_once(&once).unwrap_or(once))
}

fn decode_percent_once(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let written = &rest[..escapes_len(rest.as_bytes())];
        if written.is_empty() {
            plain.push('%');
            rest = &rest[1..];
        } else {
            push_decoded(&mut plain, written);
            rest = &rest[written.len()..];
        }
    }
    plain.push_str(rest);
    (plain.len() < text.len()).then_some(plain)
}

/// How far escapes go on one after the other.
fn escapes_len(text: &[u8]) -> usize {
    let is_escape =
        |three: &&[u8]| three[0] == b'%' && three[1].is_ascii_hexdigit() && three[2].is_ascii_hexdigit();
    3 * text.chunks_exact(3).take_while(is_escape).count()
}

/// What escapes mean; those that are not UTF-8 stay.
fn push_decoded(plain: &mut String, written: &str) {
    let byte = |escape: &[u8]| {
        str::from_utf8(&escape[1..]).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok())
    };
    let bytes: Vec<u8> = written.as_bytes().chunks_exact(3).filter_map(byte).collect();
    if let Ok(text) = str::from_utf8(&bytes) {
        return plain.push_str(text);
    }
    for (place, byte) in bytes.iter().enumerate() {
        match byte.is_ascii() {
            true => plain.push(char::from(*byte)),
            false => plain.push_str(&written[3 * place..3 * place + 3]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_and_what_is_none_stays() {
        for (text, plain) in [
            (r"\u0067hp_\\u0031", Some("ghp_1")),
            (r"a\ud83d\ude00\\ud83d\\ude00", Some("a😀😀")),
            (r"\ud83d \u12 \uzzzz", None),
            ("a%40b%3Dc", Some("a@b=c")),
            ("a%2540b", Some("a@b")),
            ("100% of %s %zz", None),
            ("%ff%fe", None),
            ("a%40b%E3%81", Some("a@b%E3%81")),
            ("%E3%81%82%40%ff", Some("あ@%ff")),
            ("%E3%81%82", Some("あ")),
        ] {
            assert_eq!(decode(text).as_deref(), plain, "{text}");
        }
    }
}
