//! Secrets in a JSON text: in each of its strings as it reads, whatever escapes it is written with, and under names that
//! say what they are. Everything else stays as it was written, numbers to their last digit.

use super::{
    End, Redactor,
    named::{Class, class_of_field},
    opaque::{is_harmless, looks_random},
    place, private_key,
};
use serde_json::Value;
use std::borrow::Cow;

/// What stands in the place of a value whose name says all.
const MASK: &str = "[redacted]";

/// What a JSON Schema says of a field, in an object under its name.
const SCHEMA: [&str; 8] =
    ["type", "description", "title", "format", "pattern", "enum", "default", "examples"];

/// Whether a text looks like an object or array of JSON.
pub(super) fn is_one(text: &str) -> bool {
    let mut signs = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    matches!(signs.next(), Some(b'{' | b'[')) && matches!(signs.next(), Some(b'{' | b'[' | b'"'))
}

/// A JSON text as it may be kept, as far as the first `cap` bytes go. It may have been cut already.
pub(super) fn redact(redactor: &Redactor, json: &str, cap: usize, end: End) -> String {
    let mut document = Document {
        redactor,
        kept: String::with_capacity(json.len().min(cap)),
        named: None,
        in_array: None,
        in_object: None,
        before: None,
        told: None,
        is_split: private_key::is_split(json),
    };
    let mut rest = json;
    while let Some(at) = rest.find('"')
        && document.kept.len() < cap
    {
        document.push_between(&rest[..at]);
        let literal = &rest[at..at + length_of_literal(&rest[at..])];
        rest = &rest[at + literal.len()..];
        if end == End::Cut && rest.is_empty() && serde_json::from_str::<String>(literal).is_err() {
            document.push_cut(literal);
            return document.kept;
        }
        document.push_string(literal, rest.trim_start().starts_with(':'));
    }
    if end == End::Cut {
        // What is cut there may be half a number.
        rest = &rest[..rest.rfind([',', ':', '[', ']', '{', '}']).map_or(0, |at| at + 1)];
    }
    if document.kept.len() < cap {
        document.push_between(rest);
    }
    document.kept
}

/// A literal without its end, up to the last escape that is whole.
fn whole_escapes(literal: &str) -> &str {
    let bytes = literal.as_bytes();
    let (mut at, mut whole) = (1, 1);
    while at < bytes.len() {
        let is_high = |at: usize| {
            matches!(bytes.get(at..at + 2), Some([b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B']))
        };
        at += match (bytes[at], bytes.get(at + 1)) {
            // Half a character is none.
            (b'\\', Some(b'u')) if is_high(at + 2) => 12,
            (b'\\', Some(b'u')) => 6,
            (b'\\', _) => 2,
            _ => 1,
        };
        if at <= bytes.len() {
            whole = at;
        }
    }
    &literal[..literal.floor_char_boundary(whole)]
}

struct Document<'a> {
    redactor: &'a Redactor,
    kept: String,
    /// What the name says that was read last, if nothing has come behind it.
    named: Option<Class>,
    /// The same of an array's elements.
    in_array: Option<Class>,
    /// What the name of an object says of all that is in it: `{"password": {"old": …, "new": …}}`.
    in_object: Option<Class>,
    /// What the string before says in a flat list: `["Authorization", …]`.
    before: Option<Class>,
    /// What a value says about another one: `{"name": "password", "value": …}`.
    told: Option<Class>,
    /// Pieces of a private key may be in several strings.
    is_split: bool,
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

impl Document<'_> {
    /// What stands between two strings: signs, numbers, and what is no JSON.
    fn push_between(&mut self, between: &str) {
        let value = between.trim().strip_prefix(':').map(str::trim_start);
        // A value follows its name and a colon; anything else in between begins something new.
        let named = self.named.take();
        match (named, value) {
            (Some(class), Some("")) => self.named = Some(class),
            (Some(class), Some(value)) if value.starts_with('[') && !value.contains(']') => {
                self.in_array = Some(class)
            }
            (Some(Class::Secret), Some(value)) if value.starts_with('{') => {
                self.in_object = Some(Class::Secret)
            }
            (Some(Class::Secret), Some(value)) => return self.push_scalar(between, value),
            _ => {}
        }
        if between.trim() != "," {
            self.before = None;
        }
        if between.contains([']', '{']) {
            self.in_array = None;
        }
        if between.contains('}') {
            (self.told, self.in_object) = (None, None);
        }
        self.push_bare(between);
    }

    /// A number under the name of a secret.
    fn push_scalar(&mut self, between: &str, value: &str) {
        let end = value.find([',', '}', ']']).unwrap_or(value.len());
        let scalar = value[..end].trim_end();
        let is_number =
            scalar.len() > 2 && scalar.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        if !is_number {
            return self.push_bare(between);
        }
        let at = between.len() - between.trim_start_matches([' ', '\t', '\r', '\n', ':']).len();
        self.kept.push_str(&between[..at]);
        self.kept.push_str(&Value::from(MASK).to_string());
        self.push_bare(&between[at + scalar.len()..]);
    }

    fn push_bare(&mut self, between: &str) {
        if !between.bytes().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii()) {
            return self.kept.push_str(between);
        }
        self.kept.push_str(&self.redactor.redact_with_quotes(between));
    }

    fn push_string(&mut self, literal: &str, is_name: bool) {
        let class = self.named.take().or(self.in_array).or(self.before.take()).filter(|_| !is_name);
        // What was cut is read as far as it goes; a half escape at its end cannot be.
        let Ok(text) = serde_json::from_str::<String>(literal) else {
            let masked = match class {
                Some(_) => Value::from(MASK).to_string(),
                None => self.redactor.redact(literal).into_owned(),
            };
            return self.kept.push_str(&masked);
        };
        self.learn(&text, is_name);
        match self.mask(&text, class) {
            Cow::Borrowed(same) if same.len() == text.len() => self.kept.push_str(literal),
            masked => self.kept.push_str(&Value::from(masked).to_string()),
        }
    }

    /// The string in which the text was cut, as far as nothing of it can be the beginning of a secret; whatever is under a
    /// name that says something is masked.
    fn push_cut(&mut self, literal: &str) {
        let class = self.named.take().or(self.in_array);
        let text = serde_json::from_str::<String>(&format!("{}\"", whole_escapes(literal)));
        let kept = match (class, text) {
            (None, Ok(text)) if !(self.is_split && private_key::is_body(&text)) => {
                self.redactor.redact_until(&text, place::safe_end(&text), "").into_owned()
            }
            _ => MASK.to_owned(),
        };
        self.kept.push_str(&Value::from(kept).to_string());
    }

    /// What a string says about those behind it.
    fn learn(&mut self, text: &str, is_name: bool) {
        if !is_name {
            let class = class_of_field(text);
            self.told = class.or(self.told.take());
            // Names stand in lists of names, too.
            self.before = class.map(|class| if class == Class::Secret { Class::Perhaps } else { class });
        } else if matches!(text, "value" | "val" | "content") {
            self.named = self.told.take().or(self.in_object);
        } else {
            let of_object = self.in_object.filter(|_| !SCHEMA.contains(&text));
            self.named = class_of_field(text).or(of_object);
        }
    }

    fn mask<'t>(&self, text: &'t str, class: Option<Class>) -> Cow<'t, str> {
        let is_secret = match class {
            None => false,
            Some(Class::Perhaps) => looks_random(text),
            Some(Class::Cookie) => text.contains('='),
            Some(_) => !is_harmless(text),
        };
        if is_secret || (self.is_split && private_key::is_body(text)) {
            return Cow::Owned(MASK.to_owned());
        }
        match self.redactor.read_document(text, End::Whole) {
            Cow::Borrowed(text) => self.redactor.redact(text),
            Cow::Owned(read) => Cow::Owned(self.redactor.redact(&read).into_owned()),
        }
    }
}
