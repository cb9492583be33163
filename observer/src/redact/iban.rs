//! International bank account numbers (ISO 13616): a country, two check digits and as many characters as the country wants.

use super::{
    finding::{Found, Rule},
    place::is_word_start,
};

/// The registry's countries and lengths.
const COUNTRIES: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20EG29ES24FI18FO18FR27GB22\
    GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21MC27MD24ME22MK19MR27MT31MU30NL18\
    NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31SE24SI19SK24SM27ST25SV28TL23TN24TR26UA29VA22VG24XK20";

pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at + 14 < bytes.len() {
        let is_start = bytes[at].is_ascii_uppercase()
            && bytes[at + 1].is_ascii_uppercase()
            && bytes[at + 2].is_ascii_digit()
            && bytes[at + 3].is_ascii_digit()
            && is_word_start(bytes, at);
        match is_start.then(|| account_end(bytes, at)).flatten() {
            Some(end) => {
                found.push(Found::new(at..end, Rule::Iban));
                at = end;
            }
            None => at += 1,
        }
    }
}

fn account_end(bytes: &[u8], start: usize) -> Option<usize> {
    let country = COUNTRIES.as_bytes().chunks_exact(4).find(|entry| entry[..2] == bytes[start..start + 2])?;
    let wanted = usize::from(country[2] - b'0') * 10 + usize::from(country[3] - b'0');
    let (mut characters, mut at) = ([0; 34], start);
    for (place, character) in characters[..wanted].iter_mut().enumerate() {
        // In print there is a space behind every fourth.
        if place > 0 && place % 4 == 0 && matches!(bytes.get(at), Some(b' ' | b'-')) {
            at += 1;
        }
        let byte = bytes.get(at).filter(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())?;
        *character = *byte;
        at += 1;
    }
    let is_over = bytes.get(at).is_none_or(|byte| !byte.is_ascii_alphanumeric());
    (is_over && remainder(&characters[..wanted]) == 1).then_some(at)
}

/// ISO/IEC 7064, MOD 97-10, with the country and the check digits at the end.
fn remainder(characters: &[u8]) -> u32 {
    let (start, rest) = characters.split_at(4);
    rest.iter().chain(start).fold(0, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        letter => (remainder * 100 + u32::from(letter - b'A') + 10) % 97,
    })
}
