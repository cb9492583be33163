//! Numbers with check digits: of payment cards (ISO/IEC 7812) and of persons in Japan (My Number).

use super::{Gap, Run};
use crate::redact::finding::Rule;

/// How card numbers are grouped.
const CARDS: [&[usize]; 8] =
    [&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 5], &[4, 3, 3, 3], &[8, 8], &[6, 10]];
/// How the numbers of persons are.
const PERSONS: [&[usize]; 3] = [&[4, 4, 4], &[3, 3, 3, 3], &[6, 6]];

/// The digits of a My Number.
const PERSON: usize = 12;

impl Run<'_> {
    /// The last group of a number that begins with a group, and whose it is.
    pub(super) fn identity_at(&self, at: usize) -> Option<(usize, Rule)> {
        let rule_of = |last: usize| {
            let digits = self.digits_of(at, last);
            let rule = if digits.len() == PERSON {
                is_person(digits).then_some(Rule::MyNumber)
            } else {
                is_card(digits).then_some(Rule::Card)
            };
            rule.filter(|_| {
                !self.is_inside_word(at, last) && !self.is_fraction(at, last) && !self.is_account(at, last)
            })
        };
        let grouped = CARDS.iter().chain(&PERSONS).find_map(|lens| {
            let last = at + lens.len() - 1;
            let is_even =
                self.has_lens(at, lens) && matches!(self.only_gap(at, last), Some(Gap::Space | Gap::Hyphen));
            let rule = is_even.then(|| rule_of(last)).flatten()?;
            (rule == Rule::Card || !self.is_series(at, last)).then_some((last, rule))
        });
        grouped.or_else(|| rule_of(at).map(|rule| (at, rule)))
    }

    /// Whether more groups of the same length stand beside these: a table of numbers, or a serial number.
    fn is_series(&self, first: usize, last: usize) -> bool {
        let (len, gap) = (self.groups[last].len, self.groups[last].gap);
        let before = first > 0 && self.groups[first].gap == gap && self.groups[first - 1].len == len;
        before || self.groups.get(last + 1).is_some_and(|next| next.gap == gap && next.len == len)
    }

    /// Whether a dot makes it a part of a longer number.
    fn is_fraction(&self, first: usize, last: usize) -> bool {
        self.groups[first].gap == Gap::Dot
            || self.groups.get(last + 1).is_some_and(|next| next.gap == Gap::Dot)
    }

    /// An account of AWS has as many digits as a person: in the name of a resource, or of a registry.
    fn is_account(&self, first: usize, last: usize) -> bool {
        let (before, behind) = (&self.text[..self.groups[first].start], &self.text[self.groups[last].end..]);
        let word = before.iter().rev().take(64).take_while(|byte| !byte.is_ascii_whitespace()).count();
        let word = &before[before.len() - word..];
        behind.starts_with(b".dkr.ecr.") || memchr::memmem::find(word, b"arn:aws").is_some()
    }
}

fn is_card(digits: &[u8]) -> bool {
    is_issued(digits) && passes_luhn(digits)
}

/// What issuers' numbers begin with, by length.
fn is_issued(digits: &[u8]) -> bool {
    if digits.len() < 13 {
        return false;
    }
    let start = |len: usize| digits[..len].iter().fold(0, |number, digit| number * 10 + u32::from(*digit));
    match digits.len() {
        13 => digits[0] == 4 || is_maestro(start(4)),
        14 => matches!(start(2), 36 | 38 | 39) || matches!(start(3), 300..=305 | 309),
        15 => matches!(start(2), 34 | 37) || is_maestro(start(4)),
        16 => {
            digits[0] == 4
                || matches!(start(2), 36 | 50..=58 | 60 | 62 | 65 | 81 | 82)
                || matches!(start(3), 300..=305 | 644..=649)
                || matches!(start(4), 2200..=2204 | 2221..=2720 | 3528..=3589 | 9792)
                || is_maestro(start(4))
        }
        17..=19 => {
            (digits.len() == 19 && digits[0] == 4)
                || matches!(start(2), 62)
                || matches!(start(4), 6011 | 2200..=2204 | 3528..=3589)
                || is_maestro(start(4))
        }
        _ => false,
    }
}

const fn is_maestro(start: u32) -> bool {
    matches!(start, 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763)
}

/// ISO/IEC 7812-1, annex B.
fn passes_luhn(digits: &[u8]) -> bool {
    let weigh = |(place, digit): (usize, &u8)| match (place % 2, u32::from(*digit)) {
        (0, digit) => digit,
        (_, digit @ 0..5) => digit * 2,
        (_, digit) => digit * 2 - 9,
    };
    digits.iter().rev().enumerate().map(weigh).sum::<u32>() % 10 == 0
}

/// Ordinance of the Ministry of Internal Affairs and Communications 85 of 2014, article 5.
fn is_person(digits: &[u8]) -> bool {
    let Some((check, rest)) = digits.split_last() else { return false };
    let weigh = |(place, digit): (usize, &u8)| {
        u32::from(*digit) * if place < 6 { place as u32 + 2 } else { place as u32 - 4 }
    };
    let remainder = rest.iter().rev().enumerate().map(weigh).sum::<u32>() % 11;
    let expected = if remainder <= 1 { 0 } else { 11 - remainder };
    u32::from(*check) == expected && rest.iter().any(|digit| digit != check)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().map(|byte| byte - b'0').collect()
    }

    #[test]
    fn check_digits_tell_numbers_of_cards_and_persons() {
        for card in [
            "4111111111111111",
            "5555555555554444",
            "378282246310005",
            "30569309025904",
            "6011111111111117",
            "3530111333300000",
        ] {
            assert!(is_card(&digits(card)), "{card}");
        }
        for number in ["4111111111111112", "1700000000000000", "1234567812345670", "0000000000000000"] {
            assert!(!is_card(&digits(number)), "{number}");
        }
        assert!(is_person(&digits("123456789018")));
        assert!(!is_person(&digits("123456789012")) && !is_person(&digits("000000000000")));
    }
}
