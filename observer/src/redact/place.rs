//! Where in a text something can begin: what stands beside a secret decides whether it is one.

/// Whether a word begins there: behind no letter and no digit, unless these are the end of an escape.
pub(super) fn is_word_start(text: &[u8], at: usize) -> bool {
    at == 0 || !text[at - 1].is_ascii_alphanumeric() || is_behind_escape(&text[..at])
}

/// Whether the text ends with `\n`, `\u0022`, `%3D` or the code of a colour.
fn is_behind_escape(before: &[u8]) -> bool {
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match before {
        [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f' | b'v'] => true,
        [.., b'%', high, low] if is_hex(&[*high, *low]) => true,
        [.., b'\\', b'u', a, b, c, d] if is_hex(&[*a, *b, *c, *d]) => true,
        [.., b'm'] => is_behind_colour(&before[..before.len() - 1]),
        _ => false,
    }
}

/// ECMA-48, 8.3.117: `ESC [`, numbers and semicolons, `m`.
fn is_behind_colour(before: &[u8]) -> bool {
    let numbers =
        before.iter().rev().take(16).take_while(|byte| byte.is_ascii_digit() || **byte == b';').count();
    before[..before.len() - numbers].ends_with(b"\x1b[")
}

/// The last of a run that begins there, one behind it.
pub(super) fn run_end(text: &[u8], start: usize, is_part: impl Fn(u8) -> bool) -> usize {
    start + text[start..].iter().take_while(|byte| is_part(**byte)).count()
}

/// Where a run that ends there begins, at most `most` bytes before.
pub(super) fn run_start(text: &[u8], end: usize, most: usize, is_part: impl Fn(u8) -> bool) -> usize {
    end - text[..end].iter().rev().take(most).take_while(|byte| is_part(**byte)).count()
}

/// Of a text that was cut somewhere: up to where nothing of it can be the beginning of something that was cut off.
pub(super) fn safe_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_part = |byte: u8| !byte.is_ascii_whitespace() && !b"\"'`<>(){}[],;".contains(&byte);
    let mut end = run_start(bytes, bytes.len(), usize::MAX, is_part);
    // The groups of a number; nothing that has them is longer.
    let groups = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase() || b" -.()+".contains(&byte);
    end = run_start(bytes, end, 48, groups);
    // A password may have what ends a word.
    if let Some(authority) = text[..end].rfind("://")
        && !text[authority + 3..end].contains(['/', '?', '#', ' ', '\n', '"'])
    {
        end = authority;
    }
    text.floor_char_boundary(end.min(bytes.len().saturating_sub(MARGIN)))
}

/// Whatever is not longer has been seen as a whole where it begins before this much of what was cut.
const MARGIN: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_begins_behind_an_escape() {
        for before in ["", " ", "=", "\\n", "\\u0022", "%22", "\x1b[31m", "\x1b[1;31m", "の", "_"] {
            assert!(is_word_start(format!("{before}x").as_bytes(), before.len()), "{before}");
        }
        for before in ["a", "n", "m", "31m", "%g2", "u0022", "9"] {
            assert!(!is_word_start(format!("{before}x").as_bytes(), before.len()), "{before}");
        }
    }
}
