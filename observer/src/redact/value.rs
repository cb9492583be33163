//! Where the value of a named field stands: behind which signs, in which quotes, and how far it goes.
//!
//! Values end late rather than early: what is masked with a secret can be missed, the end of a password cannot be.

use std::ops::Range;

/// What stands between a name and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Separator {
    /// `=`, `:`, `=>`, `>`, or the space behind a flag.
    Sign,
    /// Nothing but the quote of the value.
    Quote,
    /// A verb.
    Verb,
}

/// Blanks that may stand on either side of a sign.
const MAX_BLANKS: usize = 8;

/// Signs, the longest first.
const SIGNS: [&str; 12] = ["=>", ":=", "==", "->", "=", ":", "：", "＝", "%3D", "%3A", "&gt;", "↦"];
const VERBS: [&str; 7] = ["is ", "was ", "は", "が", "to ", "provided: ", "given: "];

/// What names go on with and are still the same: `passwords`, `password2`, `passwordHash`.
const SUFFIXES: [&str; 9] =
    ["hash", "value", "text", "confirmation", "confirm", "new", "old", "digest", "raw"];

/// The end of a name whose word ends there.
pub(super) fn name_end(text: &str, word_end: usize) -> usize {
    let bytes = text.as_bytes();
    let mut end = word_end;
    end += usize::from(bytes.get(end).is_some_and(|byte| byte.eq_ignore_ascii_case(&b's')));
    let rest = &text[end..];
    let name = rest.strip_prefix(['-', '_']).unwrap_or(rest);
    let is_suffix =
        |suffix: &&&str| name.get(..suffix.len()).is_some_and(|start| start.eq_ignore_ascii_case(suffix));
    if let Some(suffix) = SUFFIXES.iter().find(is_suffix) {
        end += rest.len() - name.len() + suffix.len();
    }
    end + bytes[end..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count()
}

/// What separates a name, whose word stands there, from its value, and where that begins.
pub(super) fn separator(text: &str, start: usize, word_end: usize) -> Option<(Separator, usize)> {
    let name_end = name_end(text, word_end);
    let is_flag = text[..start].ends_with("--") || text[..start].ends_with(" -");
    let end = skip_closing(text, name_end);
    let at = skip_blanks(text, end);
    let rest = &text[at..];
    // A path of code, and no name.
    if rest.starts_with("::") {
        return None;
    }
    if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        let at = at + sign.len();
        // `**Password:** …` in Markdown.
        return Some((
            Separator::Sign,
            skip_blanks(text, at + text[at..].len() - text[at..].trim_start_matches("**").len()),
        ));
    }
    if rest.starts_with('>') && at == name_end {
        return Some((Separator::Sign, at + 1));
    }
    if let Some(verb) = VERBS.iter().find(|verb| rest.starts_with(**verb))
        && (at > end || !verb.is_ascii())
    {
        return Some((Separator::Verb, skip_blanks(text, at + verb.len())));
    }
    let opens = rest.starts_with(['"', '\'', '`', '「', '『']);
    match () {
        () if is_flag && at > end && at == end + 1 => Some((Separator::Sign, at)),
        () if opens && (at > end || !rest.is_ascii()) && end == name_end => Some((Separator::Quote, at)),
        () => None,
    }
}

/// Behind what closes a name: its quote, an index's bracket.
fn skip_closing(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let closed = rest.trim_start_matches('\\');
    let closed = closed.strip_prefix(['"', '\'', '`', '」', '*']).unwrap_or(if closed.len() < rest.len() {
        rest
    } else {
        closed
    });
    let closed = closed.strip_prefix("%22").unwrap_or(closed);
    let closed = closed.strip_prefix("&quot;").unwrap_or(closed);
    let closed = closed.strip_prefix([']', ')']).unwrap_or(closed);
    at + rest.len() - closed.strip_prefix('*').unwrap_or(closed).len()
}

fn skip_blanks(text: &str, at: usize) -> usize {
    let is_blank = |character: char| matches!(character, ' ' | '\t' | '\u{a0}' | '\u{3000}');
    let blanks = text[at..].chars().take(MAX_BLANKS).take_while(|character| is_blank(*character));
    at + blanks.map(char::len_utf8).sum::<usize>()
}

/// The value that begins there, without its quotes; `None` if there is none.
pub(super) fn read(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = &text[at..];
    let unescaped = rest.trim_start_matches('\\');
    let escapes = rest.len() - unescaped.len();
    // `"`, and `"&quot;"`, and Python's `b'…'`.
    let has_prefix = unescaped.starts_with(['b', 'f', 'r', 'u']) && unescaped[1..].starts_with(['"', '\'']);
    let skipped = escapes + usize::from(has_prefix);
    let open = rest[skipped..].chars().next()?;
    let bytes = match open {
        '"' | '\'' | '`' => quoted(text, at + skipped + 1, open, escapes),
        '「' | '『' => until(text, at + skipped + open.len_utf8(), ['」', '』', '\n']),
        _ => match rest.strip_prefix("&quot;").or_else(|| rest.strip_prefix("%22")) {
            Some(inside) => {
                let start = at + rest.len() - inside.len();
                let end = inside.find("&quot;").or_else(|| inside.find("%22")).unwrap_or(inside.len());
                start..start + end
            }
            None => bare(text, at),
        },
    };
    (!bytes.is_empty()).then_some(bytes)
}

/// Up to the quote that is escaped as the opening one was; without one, to the end of the line.
fn quoted(text: &str, start: usize, quote: char, escapes: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let mut at = start;
    let mut backslashes = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => backslashes += 1,
            b'\n' => break,
            byte if *byte == quote as u8 && backslashes <= escapes => return start..at - backslashes,
            _ => backslashes = 0,
        }
        at += 1;
    }
    start..at
}

fn until<const N: usize>(text: &str, start: usize, ends: [char; N]) -> Range<usize> {
    start..start + text[start..].find(ends).unwrap_or(text.len() - start)
}

/// A value without quotes: up to a blank or a quote, or to what separates it from another field.
fn bare(text: &str, start: usize) -> Range<usize> {
    let rest = &text[start..];
    if rest.starts_with(['(', '[', '{']) {
        return start..start;
    }
    let mut end = rest.len();
    for (at, character) in rest.char_indices() {
        let behind = &rest[at + character.len_utf8()..];
        let ends = match character {
            ' ' | '\t' | '\r' | '\n' | '"' | '\'' | '`' | '<' | '\u{3000}' | '、' | '。' | '」' | '』'
            | '）' | '】' => true,
            '\\' => behind.starts_with(['n', 'r', 't', '"', '\'', '\\']),
            ',' | ';' | '&' | '|' => begins_field(behind),
            _ => false,
        };
        if ends {
            end = at;
            break;
        }
    }
    let value = rest[..end].trim_end_matches(['.', ',', ';', ':', ')', ']', '}', '>']);
    start..start + value.len()
}

/// Whether nothing, a blank or another name follows.
fn begins_field(behind: &str) -> bool {
    let is_name =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'"' | b'\'' | b'\\');
    let name = behind.bytes().take(48).take_while(is_name).count();
    behind.starts_with([' ', '\t', '\n', '\r'])
        || behind.is_empty()
        || (name > 0 && behind[name..].trim_start_matches(' ').starts_with(['=', ':']))
}

/// The rest of the line, or of the quotes that it stands in. Values in it may have quotes of their own.
pub(super) fn line(text: &str, start: usize) -> Range<usize> {
    let rest = &text[start..];
    let start = start + rest.len() - rest.trim_start_matches(['"', '\'', '\\', '[']).len();
    let bytes = text.as_bytes();
    let (mut at, mut is_inside) = (start, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\r' | b'\n' => break,
            b'\\' if matches!(bytes.get(at + 1), Some(b'n' | b'r')) => break,
            b'"' if is_inside || text[..at].trim_end_matches('\\').ends_with('=') => is_inside = !is_inside,
            b'"' | b'\'' => break,
            _ => {}
        }
        at += 1;
    }
    start..start + text[start..at].trim_end_matches('\\').len()
}

/// What stands between a scheme's name and its credentials.
pub(super) fn scheme_gap(text: &str, end: usize) -> Option<usize> {
    let rest = &text[end..];
    let gap = rest.trim_start_matches([' ', '\t', ':', '=', '+']);
    let gap = ["%20", "\\u0020", "&nbsp;"].iter().find_map(|space| gap.strip_prefix(space)).unwrap_or(gap);
    (gap.len() < rest.len()).then(|| end + rest.len() - gap.len())
}

/// Credentials: no blanks, quotes or brackets.
pub(super) fn token(text: &str, start: usize) -> Range<usize> {
    let rest = &text[start..];
    let end = rest.find([
        ' ', '\t', '\r', '\n', '"', '\'', '`', ',', ';', '&', '<', '>', '(', ')', '{', '}', '[', ']', '|',
        '\\',
    ]);
    let value = &rest[..end.unwrap_or(rest.len())];
    start..start + value.trim_end_matches('.').len()
}

/// RFC 9110, 11.2: `name=value, name="value"`, as far as it goes; at least one of them.
pub(super) fn parameters(text: &str, end: usize) -> Option<Range<usize>> {
    let start = scheme_gap(text, end)?;
    let first = &text[start..];
    let is_first =
        |name: &&str| first.get(..name.len()).is_some_and(|first| first.eq_ignore_ascii_case(name));
    if !OF_CREDENTIALS.iter().any(is_first) {
        return None;
    }
    let bytes = text.as_bytes();
    let (mut at, mut over) = (start, start);
    loop {
        let name = bytes[at..]
            .iter()
            .take(64)
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"_-*".contains(byte))
            .count();
        if name == 0 || bytes.get(at + name) != Some(&b'=') {
            break;
        }
        at += name + 1;
        let rest = &text[at..];
        let quote = rest.trim_start_matches('\\');
        at = if quote.starts_with('"') {
            let escapes = rest.len() - quote.len();
            let inside = quoted(text, at + escapes + 1, '"', escapes);
            let closing = text[inside.end..].trim_start_matches('\\');
            text.len() - closing.strip_prefix('"').unwrap_or(closing).len()
        } else {
            let stop = rest.find([' ', ',', '"', '\'', '\r', '\n']).unwrap_or(rest.len());
            at + stop
        };
        over = at;
        let gap = text[at..].trim_start_matches([',', ' ']);
        at = text.len() - gap.len();
    }
    (over > start).then_some(start..over)
}

/// The parameters that credentials begin with; a challenge has others, and what is in it is nobody's secret.
const OF_CREDENTIALS: [&str; 14] = [
    "username",
    "credential",
    "response",
    "nonce",
    "cnonce",
    "uri",
    "opaque",
    "qop",
    "id",
    "mac",
    "ts",
    "oauth_",
    "signature",
    "token",
];
