//! The two searches that the scanner spends its time in: for the end of a string, and for the next byte that
//! changes the depth.

/// How a string stands at the end of the input.
pub(super) enum StringEnd {
    /// It goes on; `escaped` if the next byte is behind a backslash.
    Open { escaped: bool },
    /// Its quote was found.
    Closed,
}

/// Finds the closing quote: bytes used, bytes that belong to the string, and how it stands at the end.
pub(super) fn find_string_end(escaped: bool, input: &[u8]) -> (usize, usize, StringEnd) {
    let mut from = usize::from(escaped && !input.is_empty());
    while let Some(at) = input.get(from..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        let at = from + at;
        if input[at] == b'"' {
            return (at + 1, at, StringEnd::Closed);
        }
        from = at + 2;
    }
    (input.len(), input.len(), StringEnd::Open { escaped: from > input.len() })
}

/// The bytes that matter outside strings.
pub(super) const STRUCTURAL: [bool; 256] = {
    let mut table = [false; 256];
    table[b'"' as usize] = true;
    table[b'{' as usize] = true;
    table[b'}' as usize] = true;
    table[b'[' as usize] = true;
    table[b']' as usize] = true;
    table
};
