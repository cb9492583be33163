//! Phone numbers: with a country behind a plus, and in the forms of North America and of Japan. Digits without any sign of
//! what they are stay, but for Japanese mobile numbers, whose beginning is one.

use super::{Gap, Run};
use crate::redact::{finding::Rule, place::is_word_start};

/// ITU-T E.164, 6.1: a country and a number. Shorter ones than this are no different from any other number.
const INTERNATIONAL: std::ops::RangeInclusive<usize> = 9..=15;

/// As long as most of them.
const LONG: usize = 11;

/// How Japanese numbers are grouped, and what each of them begins with.
const JAPANESE: [(&[usize], Start); 9] = [
    (&[3, 4, 4], Start::Mobile),
    (&[2, 4, 4], Start::Area),
    (&[3, 3, 4], Start::Area),
    (&[4, 2, 4], Start::Area),
    (&[5, 1, 4], Start::Area),
    (&[4, 3, 3], Start::Service),
    (&[4, 3, 4], Start::Toll),
    (&[4, 6], Start::Service),
    (&[11], Start::Mobile),
];

/// What the first digits are.
#[derive(Clone, Copy)]
enum Start {
    /// 020, 050, 060, 070, 080, 090.
    Mobile,
    /// 0 and another digit.
    Area,
    /// 0120, 0180, 0570, 0800, 0990.
    Service,
    /// 0800.
    Toll,
}

impl Run<'_> {
    /// The last group of a phone number that begins with a group.
    pub(super) fn phone_at(&self, at: usize) -> Option<(usize, Rule)> {
        let finders = [
            (Self::international as fn(&Self, usize) -> Option<usize>, Rule::InternationalPhone),
            (Self::japanese, Rule::JapanesePhone),
            (Self::american, Rule::AmericanPhone),
        ];
        finders.iter().find_map(|(find, rule)| find(self, at).map(|last| (last, *rule)))
    }

    fn international(&self, at: usize) -> Option<usize> {
        let start = self.groups[at].start;
        let plus = self.text[..start]
            .strip_suffix(b"+")
            .or_else(|| self.text[..start].strip_suffix("＋".as_bytes()))?;
        // `1.0.0+20240115` and `UTC+0900` are something else.
        if self.digits_of(at, at)[0] == 0 || !is_word_start(self.text, plus.len()) || plus.ends_with(b"+") {
            return None;
        }
        let mut last = at;
        while let Some(next) = self.groups.get(last + 1) {
            let len = self.digits_of(at, last).len();
            // What is long enough does not go on behind a space.
            let is_over = len >= LONG && matches!(next.gap, Gap::Space | Gap::Parenthesis);
            if is_over || len + next.len > *INTERNATIONAL.end() {
                break;
            }
            last += 1;
        }
        let is_letter = self.text.get(self.groups[last].end).is_some_and(u8::is_ascii_alphabetic);
        (INTERNATIONAL.contains(&self.digits_of(at, last).len()) && !is_letter).then_some(last)
    }

    fn japanese(&self, at: usize) -> Option<usize> {
        JAPANESE.iter().find_map(|(lens, start)| {
            let last = at + lens.len() - 1;
            let fits = self.has_lens(at, lens)
                && start.fits(self.digits_of(at, last))
                && self.gaps_of(at, last).all(|gap| gap != Gap::Dot)
                && self.stands_alone(at, last);
            fits.then_some(last)
        })
    }

    /// Three, three and four digits, of which neither three begin with 0 or 1 or are a service's (NANP, N11).
    fn american(&self, at: usize) -> Option<usize> {
        let has_country = self.has_lens(at, &[1, 3, 3, 4]) && self.digits_of(at, at) == [1];
        let area = at + usize::from(has_country);
        if !self.has_lens(area, &[3, 3, 4]) {
            return None;
        }
        let is_code = |code: &[u8]| code[0] >= 2 && code[1..] != [1, 1];
        let (gap, last) = (self.groups[area + 1].gap, area + 2);
        let is_even = gap == self.groups[last].gap
            || (gap == Gap::Parenthesis && matches!(self.groups[last].gap, Gap::Hyphen | Gap::Space));
        // Numbers in a row are usually just that.
        let is_lone = gap != Gap::Space || !(self.is_row(at) || self.is_row(last + 1));
        let is_phone = is_even
            && is_lone
            && is_code(self.digits_of(area, area))
            && is_code(self.digits_of(area + 1, area + 1))
            && self.digits_of(area, area)[1] != 9
            && self.stands_alone(at, last);
        is_phone.then_some(last)
    }

    /// Whether the groups before and behind a gap could be of one row of numbers.
    fn is_row(&self, at: usize) -> bool {
        let is_number = |group: Option<&super::Group>| group.is_some_and(|group| matches!(group.len, 3 | 4));
        self.groups.get(at).is_some_and(|group| group.gap == Gap::Space)
            && is_number(self.groups.get(at.wrapping_sub(1)))
            && is_number(self.groups.get(at))
    }

    /// Whether no letter, hyphen or dot makes it a part of something longer.
    fn stands_alone(&self, first: usize, last: usize) -> bool {
        let is_free =
            |gap: Option<Gap>| matches!(gap, None | Some(Gap::None | Gap::Space | Gap::Parenthesis));
        let before = self.groups[first].gap;
        let behind = self.groups.get(last + 1).map(|next| next.gap);
        is_free(Some(before)) && is_free(behind) && !self.is_inside_word(first, last)
    }
}

impl Start {
    fn fits(self, digits: &[u8]) -> bool {
        match (self, digits) {
            (Self::Mobile, [0, 2 | 5..=9, 0, ..]) => digits[3] != 0,
            (Self::Area, [0, 1..=9, ..]) => true,
            (
                Self::Service,
                [0, 1, 2 | 8, 0, ..] | [0, 5, 7, 0, ..] | [0, 8, 0, 0, ..] | [0, 9, 9, 0, ..],
            ) => true,
            (Self::Toll, [0, 8, 0, 0, ..]) => true,
            _ => false,
        }
    }
}
