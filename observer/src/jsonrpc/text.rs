//! JSON string escapes, read leniently: what cannot be decoded becomes U+FFFD, and NUL is dropped because
//! no database keeps it.

use std::borrow::Cow;

/// The text of a JSON string's inside: escapes undone, made valid UTF-8, without NUL.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, str> {
    match unescape_bytes(raw) {
        Cow::Borrowed(raw) => sanitise(raw),
        Cow::Owned(bytes) => Cow::Owned(sanitise(&bytes).into_owned()),
    }
}

/// The bytes of a JSON string's inside: escapes undone, and nothing else.
pub(super) fn unescape_bytes(raw: &[u8]) -> Cow<'_, [u8]> {
    match memchr::memchr(b'\\', raw) {
        None => Cow::Borrowed(raw),
        Some(_) => Cow::Owned(decode(raw, &mut false)),
    }
}

/// The same for ids, where no two different ids may become one: undecodable input stays as written.
pub(super) fn unescape_exact(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut lossy = false;
    let bytes = decode(raw, &mut lossy);
    if lossy { Cow::Borrowed(raw) } else { Cow::Owned(bytes) }
}

/// Valid UTF-8 without NUL, copied only where something had to change.
pub(super) fn sanitise(raw: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(raw) {
        Ok(text) if memchr::memchr(0, raw).is_none() => Cow::Borrowed(text),
        _ => Cow::Owned(String::from_utf8_lossy(raw).replace('\0', "")),
    }
}

fn decode(raw: &[u8], lossy: &mut bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = decode_escape(&rest[at + 1..], &mut out, lossy);
    }
    out.extend_from_slice(rest);
    out
}

/// Decodes what follows a backslash; returns what is left behind it.
fn decode_escape<'a>(rest: &'a [u8], out: &mut Vec<u8>, lossy: &mut bool) -> &'a [u8] {
    let Some((&escape, rest)) = rest.split_first() else {
        return rest;
    };
    let plain = match escape {
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return decode_unicode(rest, out, lossy),
        other => other,
    };
    out.push(plain);
    rest
}

fn decode_unicode<'a>(rest: &'a [u8], out: &mut Vec<u8>, lossy: &mut bool) -> &'a [u8] {
    let (unit, mut rest) = match hex4(rest) {
        Some(unit) => (unit, &rest[4..]),
        None => {
            *lossy = true;
            (u32::from(u16::MAX), rest)
        }
    };
    let mut code = unit;
    if (0xd800..0xdc00).contains(&unit)
        && let Some(low) = rest.strip_prefix(b"\\u").and_then(hex4)
        && (0xdc00..0xe000).contains(&low)
    {
        code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        rest = &rest[6..];
    }
    let character = char::from_u32(code).unwrap_or_else(|| {
        *lossy = true;
        char::REPLACEMENT_CHARACTER
    });
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    rest
}

fn hex4(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.get(..4)?;
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape(br#"a\n\"\u00e4\ud83d\ude00\/"#), "a\n\"ä😀/");
    }

    #[test]
    fn what_cannot_be_decoded_is_replaced_and_never_panics() {
        assert_eq!(unescape(br"\ud800x"), "\u{fffd}x");
        assert_eq!(unescape(br"\u12"), "\u{ffff}12");
        assert_eq!(unescape(b"\\"), "");
        assert_eq!(unescape(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn nul_is_dropped_however_it_is_written() {
        assert_eq!(unescape(b"a\\u0000b"), "ab");
        assert_eq!(unescape(b"a\0b"), "ab");
    }
}
