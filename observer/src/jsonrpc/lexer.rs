//! The two searches that the scanner spends its time in: for the end of a string, and for the end of a container that is
//! passed over. Both look at 64 bytes at a time, one bit for each, the first byte's bit the lowest, so that what they cost
//! depends on the length of the input and hardly on what stands in it: JSON inside a JSON string is half escapes.

use wide::u8x16;

/// Bytes that are looked at together.
const BLOCK: usize = 64;
/// Most keys and strings end within so many bytes, which are looked at first.
const NEAR: usize = 16;

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

impl StringPart {
    const fn closed(at: usize, has_escape: bool) -> Self {
        Self { used: at + 1, inside: at, has_escape, end: StringEnd::Closed }
    }
}

/// Finds the closing quote. The first byte is behind a backslash if `escaped`.
pub(super) fn find_string_end(escaped: bool, input: &[u8]) -> StringPart {
    if let Some(near) = input.first_chunk().filter(|_| !escaped) {
        let at = find_quote_or_backslash(near);
        if at < NEAR && near[at] == b'"' {
            return StringPart::closed(at, false);
        }
    }
    let (mut escape, mut has_escape) = (Escape { pending: escaped }, escaped);
    for (number, bytes) in input.chunks(BLOCK).enumerate() {
        let block = Block::of_string(bytes);
        let ends = block.quotes & !escape.find_escaped(block.backslashes, bytes.len());
        if ends != 0 {
            let at = ends.trailing_zeros();
            has_escape |= block.backslashes & ((1 << at) - 1) != 0;
            return StringPart::closed(number * BLOCK + at as usize, has_escape);
        }
        has_escape |= block.backslashes != 0;
    }
    let end = StringEnd::Open { escaped: escape.pending };
    StringPart { used: input.len(), inside: input.len(), has_escape, end }
}

/// Its place, or [`NEAR`].
fn find_quote_or_backslash(near: &[u8; NEAR]) -> usize {
    let bytes = u8x16::new(*near);
    let found = bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\'));
    (found.to_bitmask() | 1 << NEAR).trailing_zeros() as usize
}

/// A container that is passed over, from behind its opening bracket on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passing {
    /// Brackets that are open; 0 at its end.
    pub(super) depth: u32,
    inside_string: bool,
    escape: Escape,
}

impl Passing {
    pub(super) const BEGIN: Self = Self { depth: 1, inside_string: false, escape: Escape { pending: false } };

    /// Passes over as much of the input as belongs to it, and says how many bytes that are.
    pub(super) fn pass(&mut self, input: &[u8]) -> usize {
        for (number, bytes) in input.chunks(BLOCK).enumerate() {
            let mut block = Block::of_container(bytes);
            // Outside a string, where it is not JSON, a backslash hides a bracket too.
            let escaped = self.escape.find_escaped(block.backslashes, bytes.len());
            // From each opening quote up to its closing one.
            let strings =
                parity_so_far(block.quotes & !escaped) ^ if self.inside_string { u64::MAX } else { 0 };
            self.inside_string = strings >> (BLOCK - 1) == 1;
            block.opening &= !(strings | escaped);
            block.closing &= !(strings | escaped);
            if let Some(end) = self.count_brackets(&block) {
                return number * BLOCK + end;
            }
        }
        input.len()
    }

    /// The number of bytes up to the end of the container, if that is in the block.
    fn count_brackets(&mut self, block: &Block) -> Option<usize> {
        let (opening, closing) = (block.opening.count_ones(), block.closing.count_ones());
        if closing < self.depth {
            self.depth = (self.depth - closing).saturating_add(opening);
            return None;
        }
        let mut brackets = block.opening | block.closing;
        while brackets != 0 {
            let at = brackets.trailing_zeros();
            if block.opening >> at & 1 == 1 {
                self.depth += 1;
            } else {
                self.depth -= 1;
                if self.depth == 0 {
                    return Some(at as usize + 1);
                }
            }
            brackets &= brackets - 1;
        }
        None
    }
}

/// What stands where in a block.
#[derive(Default)]
struct Block {
    quotes: u64,
    backslashes: u64,
    /// `{` and `[`.
    opening: u64,
    /// `}` and `]`.
    closing: u64,
}

impl Block {
    /// What matters inside a string.
    fn of_string(bytes: &[u8]) -> Self {
        let mut block = Self::default();
        for_each_part(bytes, |part, shift| {
            block.quotes |= find_all(part, b'"') << shift;
            block.backslashes |= find_all(part, b'\\') << shift;
        });
        block
    }

    /// What matters inside a container. Square and curly brackets are a bit apart, and nothing else is.
    fn of_container(bytes: &[u8]) -> Self {
        let mut block = Self::default();
        for_each_part(bytes, |part, shift| {
            block.quotes |= find_all(part, b'"') << shift;
            block.backslashes |= find_all(part, b'\\') << shift;
            let curly = part | u8x16::splat(b'{' ^ b'[');
            block.opening |= find_all(curly, b'{') << shift;
            block.closing |= find_all(curly, b'}') << shift;
        });
        block
    }
}

/// Takes up to 64 bytes in parts of 16, zeros behind them.
#[inline(always)]
fn for_each_part(bytes: &[u8], mut look: impl FnMut(u8x16, u32)) {
    let mut padded = [0; BLOCK];
    let whole = bytes.first_chunk().unwrap_or_else(|| {
        padded[..bytes.len()].copy_from_slice(bytes);
        &padded
    });
    for (part, shift) in whole.as_chunks().0.iter().zip((0..).step_by(NEAR)) {
        look(u8x16::new(*part), shift);
    }
}

#[inline(always)]
fn find_all(part: u8x16, wanted: u8) -> u64 {
    part.simd_eq(u8x16::splat(wanted)).to_bitmask().into()
}

/// Whether an odd number of bits is set up to and with each place.
const fn parity_so_far(mut bits: u64) -> u64 {
    let mut distance = 1;
    while distance < BLOCK {
        bits ^= bits << distance;
        distance *= 2;
    }
    bits
}

/// Which bytes stand behind a backslash that is not escaped itself.
#[derive(Debug, Clone, Copy)]
struct Escape {
    /// The next byte does.
    pending: bool,
}

impl Escape {
    /// Those of the block, of which only so many bytes are input.
    fn find_escaped(&mut self, backslashes: u64, bytes: usize) -> u64 {
        let first = u64::from(std::mem::take(&mut self.pending));
        let alone = backslashes & !first;
        // Of backslashes in a row every second is escaped. Nearly all stand alone.
        let (mut escaped, mut rest) = (first, alone);
        if alone & alone << 1 == 0 {
            escaped |= alone << 1;
            self.pending = alone >> (BLOCK - 1) == 1;
        } else {
            while rest != 0 {
                let at = rest.trailing_zeros();
                let next = 1_u64.checked_shl(at + 1).unwrap_or(0);
                self.pending = next == 0;
                escaped |= next;
                rest &= (rest - 1) & !next;
            }
        }
        if bytes < BLOCK {
            self.pending = escaped >> bytes & 1 == 1;
        }
        escaped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All texts of this length over these bytes would be too many: enough of them, the same in every run.
    fn texts(alphabet: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 33) as usize % below
        };
        (0..4_000).map(move |_| {
            let length = next(200);
            let plain = next(40);
            let byte = |_| if next(40) < plain { b'a' } else { alphabet[next(alphabet.len())] };
            (0..length).map(byte).collect()
        })
    }

    fn byte_by_byte(mut escaped: bool, input: &[u8]) -> (usize, bool, bool) {
        for (at, byte) in input.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => return (at, true, escaped),
                _ => {}
            }
        }
        (input.len(), false, escaped)
    }

    #[test]
    fn a_string_ends_where_it_ends_byte_by_byte() {
        for text in texts(b"\\\\\\\"") {
            for first in [false, true] {
                let part = find_string_end(first, &text);
                let (closed, escaped) = match part.end {
                    StringEnd::Closed => (true, false),
                    StringEnd::Open { escaped } => (false, escaped),
                };
                let shown = String::from_utf8_lossy(&text);
                assert_eq!((part.inside, closed, escaped), byte_by_byte(first, &text), "{first} {shown}");
                assert_eq!(part.used, part.inside + usize::from(closed), "{shown}");
                let has_escape = first || text[..part.inside].contains(&b'\\');
                assert_eq!(part.has_escape, has_escape, "{shown}");
            }
        }
    }

    fn pass_byte_by_byte(input: &[u8]) -> Option<usize> {
        let (mut depth, mut at) = (1, 0);
        while at < input.len() {
            match input[at] {
                b'"' => {
                    let (inside, ..) = byte_by_byte(false, &input[at + 1..]);
                    at += inside + 1;
                }
                b'\\' => at += 1,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }

    #[test]
    fn a_container_ends_where_it_ends_byte_by_byte_in_any_chunking() {
        let mut ended = 0;
        for text in texts(b"{[}]\"\"\\") {
            let expected = pass_byte_by_byte(&text);
            for chunk in [1, 7, 64, 65, 200] {
                let (mut passing, mut used) = (Passing::BEGIN, 0);
                for part in text.chunks(chunk) {
                    used += passing.pass(part);
                    if passing.depth == 0 {
                        break;
                    }
                }
                let end = (passing.depth == 0).then_some(used);
                assert_eq!(end, expected, "{chunk} {}", String::from_utf8_lossy(&text));
            }
            ended += usize::from(expected.is_some());
        }
        assert!((400..3_600).contains(&ended), "both cases have to come: {ended}");
    }
}
