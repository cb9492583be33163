//! Numbers that belong to people: of cards, of persons, of phones. Digits are gathered in groups as they are written, also
//! in their wide form; what each kind wants of them tells it from ids, instants, versions and measurements.

mod identity;
mod phone;

use super::{
    finding::Found,
    place::{is_word_start, run_start},
};

/// No number that is looked for has fewer digits.
pub(super) const MIN_DIGITS: usize = 9;

/// What stands between two groups of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// Nothing is before the first group.
    None,
    Space,
    Hyphen,
    Dot,
    /// A parenthesis, with or without a space or a hyphen.
    Parenthesis,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    /// The bytes of the text.
    start: usize,
    end: usize,
    /// The place of its first digit among those of the run.
    first: usize,
    len: usize,
    /// What is before it.
    gap: Gap,
}

/// Groups with nothing but gaps between them.
struct Run<'a> {
    text: &'a [u8],
    groups: Vec<Group>,
    digits: Vec<u8>,
}

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    if !has_digits(bytes) {
        return;
    }
    let mut run = Run { text: bytes, groups: Vec::new(), digits: Vec::new() };
    let mut at = 0;
    while at < bytes.len() {
        if digit_at(bytes, at).is_none() {
            at += 1;
            continue;
        }
        at = run.read(at);
        if run.digits.len() >= MIN_DIGITS {
            run.find(found);
        }
    }
}

fn has_digits(bytes: &[u8]) -> bool {
    let mut digits = bytes.iter().filter(|byte| byte.is_ascii_digit() || **byte == WIDE[0]);
    digits.nth(MIN_DIGITS - 1).is_some()
}

/// U+FF10 to U+FF19 begin with these bytes.
const WIDE: [u8; 2] = [0xef, 0xbc];

/// The digit that stands there, and its length.
fn digit_at(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    match bytes.get(at..)? {
        [digit @ b'0'..=b'9', ..] => Some((digit - b'0', 1)),
        [0xef, 0xbc, digit @ 0x90..=0x99, ..] => Some((digit - 0x90, 3)),
        _ => None,
    }
}

/// What can stand in a gap, and its length.
fn gap_at(bytes: &[u8], at: usize) -> Option<(Gap, usize)> {
    match bytes.get(at..)? {
        [b' ', ..] => Some((Gap::Space, 1)),
        [b'-', ..] => Some((Gap::Hyphen, 1)),
        [b'.', ..] => Some((Gap::Dot, 1)),
        [b'(' | b')', ..] => Some((Gap::Parenthesis, 1)),
        // No-break and ideographic space.
        [0xc2, 0xa0, ..] => Some((Gap::Space, 2)),
        [0xe3, 0x80, 0x80, ..] => Some((Gap::Space, 3)),
        // U+2010 to U+2015, the minus, the wide hyphen, and the sound mark that is typed for it.
        [0xe2, 0x80, 0x90..=0x95, ..]
        | [0xe2, 0x88, 0x92, ..]
        | [0xef, 0xbc, 0x8d, ..]
        | [0xe3, 0x83, 0xbc, ..] => Some((Gap::Hyphen, 3)),
        [0xef, 0xbc, 0x88 | 0x89, ..] => Some((Gap::Parenthesis, 3)),
        _ => None,
    }
}

impl Run<'_> {
    /// Reads the run that begins there; returns its end.
    fn read(&mut self, start: usize) -> usize {
        self.groups.clear();
        self.digits.clear();
        let (mut at, mut gap) = (start, Gap::None);
        loop {
            let (first, begin) = (self.digits.len(), at);
            while let Some((digit, len)) = digit_at(self.text, at) {
                self.digits.push(digit);
                at += len;
            }
            self.groups.push(Group { start: begin, end: at, first, len: self.digits.len() - first, gap });
            match self.gap_before_digit(at) {
                Some((next, behind)) => (gap, at) = (next, behind),
                None => return at,
            }
        }
    }

    /// The gap that begins there, if a digit follows it.
    fn gap_before_digit(&self, start: usize) -> Option<(Gap, usize)> {
        let (mut gap, mut at) = gap_at(self.text, start)?;
        at += start;
        let mut signs = 1;
        while digit_at(self.text, at).is_none() {
            let (next, len) = gap_at(self.text, at)?;
            signs += 1;
            at += len;
            let is_plain = |gap: Gap| matches!(gap, Gap::Space | Gap::Hyphen);
            gap = match (gap, next) {
                (Gap::Parenthesis, next) if is_plain(next) || next == Gap::Parenthesis => Gap::Parenthesis,
                (gap, Gap::Parenthesis) if is_plain(gap) => Gap::Parenthesis,
                _ => return None,
            };
            if signs > 3 {
                return None;
            }
        }
        Some((gap, at))
    }

    fn find(&self, found: &mut Vec<Found>) {
        let mut at = 0;
        while at < self.groups.len() {
            let finders = [Self::identity_at, Self::phone_at];
            match finders.iter().find_map(|find| find(self, at)) {
                Some((last, rule)) => {
                    found.push(Found::new(self.groups[at].start..self.groups[last].end, rule));
                    at = last + 1;
                }
                None => at += 1,
            }
        }
    }

    /// The digits of some groups.
    fn digits_of(&self, first: usize, last: usize) -> &[u8] {
        let (from, last) = (self.groups[first].first, &self.groups[last]);
        &self.digits[from..last.first + last.len]
    }

    /// The gaps inside of some groups.
    fn gaps_of(&self, first: usize, last: usize) -> impl Iterator<Item = Gap> {
        self.groups[first + 1..=last].iter().map(|group| group.gap)
    }

    /// The one gap inside of some groups; `None` if there are several kinds.
    fn only_gap(&self, first: usize, last: usize) -> Option<Gap> {
        let mut gaps = self.gaps_of(first, last);
        let gap = gaps.next().unwrap_or(Gap::None);
        gaps.all(|other| other == gap).then_some(gap)
    }

    fn has_lens(&self, first: usize, lens: &[usize]) -> bool {
        let groups = self.groups[first..].iter().map(|group| group.len);
        self.groups.len() - first >= lens.len() && groups.zip(lens).all(|(len, wanted)| len == *wanted)
    }

    /// Whether a letter stands right before or behind, or the digits belong to a UUID.
    fn is_inside_word(&self, first: usize, last: usize) -> bool {
        let (start, end) = (self.groups[first].start, self.groups[last].end);
        let is_letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphabetic);
        !is_word_start(self.text, start) || is_letter(self.text.get(end)) || self.is_in_uuid(start, end)
    }

    /// RFC 9562: 8, 4, 4, 4 and 12 hexadecimal digits.
    fn is_in_uuid(&self, start: usize, end: usize) -> bool {
        let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        let from = run_start(self.text, start, 36, is_part);
        let to = super::place::run_end(&self.text[..self.text.len().min(end + 36)], end, is_part);
        self.text[from..to].windows(36).any(|word| {
            word.iter().enumerate().all(|(at, byte)| matches!(at, 8 | 13 | 18 | 23) == (*byte == b'-'))
        })
    }
}
