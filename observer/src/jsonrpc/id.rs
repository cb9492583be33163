//! JSON-RPC ids as they are compared: type-sensitively, but `1`, `1.0` and `1e0` are one number.

use super::text;

/// An id, ready to be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IdToken {
    /// No id, or `null`, or something that cannot be an id.
    Missing,
    /// A string, unescaped; with a lone surrogate, as it was written.
    Text(Box<[u8]>),
    /// An integral number below 2^53, which every implementation keeps exactly.
    Integer(i64),
    /// Any other number, as it was written.
    Number(Box<[u8]>),
}

/// The largest magnitude up to which a JavaScript number is an exact integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl IdToken {
    /// The id that is written here, quotes included.
    pub fn of(raw: &[u8]) -> Self {
        match raw.strip_prefix(b"\"") {
            Some(rest) => Self::from_string(rest.strip_suffix(b"\"").unwrap_or(rest)),
            None => Self::from_scalar(raw),
        }
    }

    pub(super) fn from_string(raw: &[u8]) -> Self {
        Self::Text(text::unescape_exact(raw).into())
    }

    pub(super) fn from_scalar(raw: &[u8]) -> Self {
        let text = str::from_utf8(raw).unwrap_or_default();
        if let Ok(integer) = text.parse::<i64>()
            && integer.unsigned_abs() < EXACT as u64
        {
            return Self::Integer(integer);
        }
        match text.parse::<f64>() {
            Ok(number) if number.fract() == 0.0 && number.abs() < EXACT => Self::Integer(number as i64),
            Ok(_) => Self::Number(raw.into()),
            Err(_) => Self::Missing,
        }
    }

    /// Whether both could mean the same request once the type is disregarded: `"1"` for `1`, or digits
    /// that a JavaScript peer rounded away.
    pub fn loosely_equals(&self, other: &Self) -> bool {
        self == other
            || matches!((self.as_number(), other.as_number()), (Some(left), Some(right)) if left == right)
    }

    fn as_number(&self) -> Option<f64> {
        match self {
            Self::Missing => None,
            Self::Integer(integer) => Some(*integer as f64),
            Self::Text(digits) | Self::Number(digits) => str::from_utf8(digits).ok()?.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_in_three_spellings_is_one_id() {
        for spelling in ["1", "1.0", "1e0"] {
            assert_eq!(IdToken::from_scalar(spelling.as_bytes()), IdToken::Integer(1), "{spelling}");
        }
    }

    #[test]
    fn type_matters_unless_asked_not_to() {
        let (number, string) = (IdToken::from_scalar(b"1"), IdToken::from_string(b"1"));
        assert_ne!(number, string);
        assert!(number.loosely_equals(&string));
        assert!(!number.loosely_equals(&IdToken::Missing));
    }

    #[test]
    fn digits_lost_by_a_javascript_server_are_still_recognised() {
        let sent = IdToken::from_scalar(b"9007199254740993");
        let echoed = IdToken::from_scalar(b"9007199254740992");
        assert_ne!(sent, echoed);
        assert!(sent.loosely_equals(&echoed));
    }

    #[test]
    fn escapes_do_not_make_another_id() {
        assert_eq!(IdToken::from_string(br"\u0061b"), IdToken::from_string(b"ab"));
        assert_ne!(IdToken::from_string(br"\ud800"), IdToken::from_string(br"\ud801"));
    }

    #[test]
    fn null_is_no_id() {
        assert_eq!(IdToken::from_scalar(b"null"), IdToken::Missing);
    }
}
