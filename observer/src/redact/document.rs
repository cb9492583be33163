//! Secrets in a JSON text: in each of its strings as it reads, whatever escapes it is written with, and under names that
//! say what they are. Everything else stays as it was written, numbers to their last digit.

use super::rules::{mask, names_secret};
use crate::call::Text;
use serde_json::Value;

/// A JSON text as a record may keep it, at most `cap` bytes. It may have been cut already, and so may this one be.
pub(crate) fn keep_document(json: &str, cap: usize) -> Text {
    let mut kept = String::with_capacity(json.len().min(cap));
    let (mut rest, mut name) = (json, None);
    while let Some(at) = rest.find('"')
        && kept.len() < cap
    {
        let between = &rest[..at];
        // A value follows its name and a colon; anything else in between begins something new.
        let is_named = name.take().is_some_and(|secret| secret && between.trim() == ":");
        kept.push_str(between);
        let literal = &rest[at..at + length_of_literal(&rest[at..])];
        name = push_string(&mut kept, literal, is_named);
        rest = &rest[at + literal.len()..];
    }
    kept.push_str(rest);
    kept.truncate(kept.floor_char_boundary(cap));
    kept.into()
}

/// Of a string literal with its quotes; without an end it goes to the end of the text.
fn length_of_literal(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |at| at + 2)
}

/// Tells whether it is the name of a secret, should it be a name.
fn push_string(kept: &mut String, literal: &str, is_secret: bool) -> Option<bool> {
    // What was cut is read as far as it goes; a half escape at its end cannot be.
    let text = serde_json::from_str::<String>(literal).ok();
    let masked = match &text {
        Some(_) if is_secret => Some("[redacted]".into()),
        Some(text) => Some(mask(text)),
        None => None,
    };
    match (&text, masked) {
        (Some(text), Some(masked)) if masked != *text => kept.push_str(&Value::from(masked).to_string()),
        (Some(_), _) => kept.push_str(literal),
        (None, _) => kept.push_str(&mask(literal)),
    }
    text.map(|text| names_secret(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_as_they_are_meant() {
        for (json, expected) in [
            (r#"{"url":"https:\/\/u:p@h\/x"}"#, r#"{"url":"https://[redacted]@h/x"}"#),
            (r#"{"h":"Bearer\u0020sEcReT0123","n":1e-7}"#, r#"{"h":"Bearer [redacted]","n":1e-7}"#),
            (r#"["a\n\u0067hp_0123456789abcdef"]"#, r#"["a\n[redacted]"]"#),
            (r#"{"password" : "no", "token":"yes"}"#, r#"{"password" : "[redacted]", "token":"yes"}"#),
            (r#"{"password":["a"],"b":"c"}"#, r#"{"password":["a"],"b":"c"}"#),
            (r#"{"a\"b":"c\\","d":12345678901234567890}"#, r#"{"a\"b":"c\\","d":12345678901234567890}"#),
            (r#"{"cut":"ghp_0123456789abcdef\u00"#, r#"{"cut":"[redacted]\u00"#),
            ("\"", "\""),
            ("", ""),
        ] {
            assert_eq!(&*keep_document(json, 2048), expected);
        }
        assert_eq!(&*keep_document(r#"{"a":"ää"}"#, 8), r#"{"a":"ä"#);
    }
}
