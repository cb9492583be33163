//! The two searches that the scanner spends its time in: for the end of a string, and for the next byte that
//! changes the depth.

/// How a string stands at the end of the input.
pub(super) enum StringEnd {
    /// It goes on; `escaped` if the next byte is behind a backslash.
    Open { escaped: bool },
    /// Its quote was found.
    Closed,
}

/// The part of a string that lies in the input.
pub(super) struct StringPart {
    /// Bytes up to the end of the part, its quote included.
    pub(super) used: usize,
    /// Those of them that belong to the string.
    pub(super) inside: usize,
    /// There is a backslash in it, or the one before it was the last byte.
    pub(super) has_escape: bool,
    pub(super) end: StringEnd,
}

/// Finds the closing quote.
pub(super) fn find_string_end(escaped: bool, input: &[u8]) -> StringPart {
    let mut from = usize::from(escaped && !input.is_empty());
    let mut has_escape = escaped;
    while let Some(at) = input.get(from..).and_then(find_quote_or_escape) {
        let at = from + at;
        if input[at] == b'"' {
            return StringPart { used: at + 1, inside: at, has_escape, end: StringEnd::Closed };
        }
        has_escape = true;
        from = at + 2;
    }
    let end = StringEnd::Open { escaped: from > input.len() };
    StringPart { used: input.len(), inside: input.len(), has_escape, end }
}

/// Bytes that are looked at one by one: most keys and strings end sooner than a search by vectors has begun.
const NEAR: usize = 24;

fn find_quote_or_escape(input: &[u8]) -> Option<usize> {
    let (near, far) = input.split_at(input.len().min(NEAR));
    match near.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        Some(at) => Some(at),
        None => memchr::memchr2(b'"', b'\\', far).map(|at| NEAR + at),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_quote_or_backslash_is_found_wherever_it_stands() {
        for length in 0..100 {
            for wanted in [b'"', b'\\'] {
                let mut input = vec![b'a'; length];
                assert_eq!(find_quote_or_escape(&input), None);
                input.push(wanted);
                input.extend([b'"'; 9]);
                assert_eq!(find_quote_or_escape(&input), Some(length));
            }
        }
    }
}
