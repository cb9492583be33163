//! From a body to a line: a program reads messages that end with a line break.

use bytes::Bytes;

/// One line of a body that is JSON, of the same meaning and length. Line breaks can only be blanks in JSON: inside a
/// string they are escaped. `None` if it is no JSON, or none of JSON-RPC.
pub(super) fn to_line(body: Bytes) -> Option<Bytes> {
    let body = if body.starts_with(b"\xef\xbb\xbf") { body.slice(3..) } else { body };
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if !matches!(first, b'{' | b'[') {
        return None;
    }
    serde_json::from_str::<serde::de::IgnoredAny>(str::from_utf8(&body).ok()?).ok()?;
    if memchr::memchr2(b'\n', b'\r', &body).is_none() {
        return Some(body);
    }
    let mut line = Vec::from(body);
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    Some(line.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(body: &'static [u8]) -> Option<Vec<u8>> {
        to_line(Bytes::from_static(body)).map(|line| line.to_vec())
    }

    #[test]
    fn a_pretty_printed_body_becomes_a_line_of_the_same_length() {
        assert_eq!(line(b"{\r\n \"a\": \"\\n\"\n}").as_deref(), Some(&b"{   \"a\": \"\\n\" }"[..]));
        assert_eq!(line(b"\xef\xbb\xbf{}").as_deref(), Some(&b"{}"[..]));
        assert_eq!(line(b" [ ]").as_deref(), Some(&b" [ ]"[..]));
    }

    #[test]
    fn what_is_no_json_never_reaches_a_program() {
        for body in
            [&b""[..], b" ", b"1", b"\"a\"", b"{", b"{}{}", b"{\"a\":\"\n\"}", b"{\"a\":\"\xff\"}", b"null"]
        {
            assert_eq!(line(body), None, "{body:?}");
        }
    }
}
