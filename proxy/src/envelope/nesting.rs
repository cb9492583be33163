//! How deeply a body is nested, found before anything that recurses can see it.

/// As deep as `serde_json` follows by default, and less than every other parser of a known server (the Python SDK's: 200).
pub(super) const MAX_DEPTH: usize = 128;

/// Whether there are more open brackets at a time than this. Of what is not JSON the answer means nothing.
pub(super) fn is_deeper_than(body: &[u8], limit: usize) -> bool {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = body.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = string_end(body, at + 1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
        at += 1;
    }
    false
}

/// Where a string ends whose first quote is before `at`.
fn string_end(body: &[u8], mut at: usize) -> usize {
    while let Some(found) = body.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if body.get(at) == Some(&b'"') {
            return at;
        }
        at += 2;
    }
    body.len()
}

#[cfg(test)]
mod tests {
    use super::is_deeper_than;

    #[test]
    fn brackets_in_strings_are_not_depth() {
        let deep = |text: &str| is_deeper_than(text.as_bytes(), 2);
        assert!(deep("[[[") && deep(r#"{"a":[{"#) && deep(r#"["\\",[["#));
        assert!(!deep("[[]][[]]") && !deep(r#"["[[[[",{"\"[[[":"\\"}]"#) && !deep("") && !deep("\"[[["));
        assert!(!deep("\"\\"));
    }
}
