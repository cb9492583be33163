//! The SHA-256 of a secret: all that is kept of one.

use std::fmt;

/// The SHA-256 of a secret. Shown to nobody: it opens nothing, but it would tell whether a guess is right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// As the tables have it: 64 hexadecimal digits.
    pub(super) fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |&[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        bytes.filter(|_| rest.is_empty())?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_back_from_its_digits_and_from_nothing_else() {
        let hash = SecretHash(std::array::from_fn(|place| u8::try_from(place * 8 + 5).unwrap()));
        let text = hash.to_hex();
        assert!(text.starts_with("050d15") && text.len() == 64, "{text}");
        assert_eq!(SecretHash::from_hex(&text), Some(hash));
        for other in ["", &text[1..], &text[2..], &format!("{text}00"), &text.replace('0', "g")] {
            assert_eq!(SecretHash::from_hex(other), None, "{other}");
        }
        assert_eq!(format!("{hash:?}"), "SecretHash(…)");
    }
}
