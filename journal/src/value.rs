//! One value of one column: the same for PostgreSQL, SQLite and JSON, which differ only in how they spell it.
//!
//! [`postgres`] and [`sqlite`] write it to a database and read it back; here it becomes JSON. Nothing in here
//! knows which columns there are (`columns`).

mod postgres;
mod sqlite;

use mcpmeter_observer::Timestamp;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use uuid::Uuid;

/// A value as a column holds it. As JSON: `null`, a boolean, a number, a text; a UUID with hyphens; an instant
/// in RFC 3339 with microseconds and `Z`; a JSON document as itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Absent.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number: the mapping turns NaN and the infinities into [`Value::Null`].
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// The text of a JSON document.
    Json(Cow<'a, str>),
    /// An identity.
    Uuid(Uuid),
    /// An instant.
    Time(Timestamp),
}

impl Value<'_> {
    /// The same value, owning its text.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(value) => Value::Bool(value),
            Value::Int(value) => Value::Int(value),
            Value::Float(value) => Value::Float(value),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Json(text) => Value::Json(Cow::Owned(text.into_owned())),
            Value::Uuid(value) => Value::Uuid(value),
            Value::Time(value) => Value::Time(value),
        }
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_none(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Json(text) => canonical_json(text).serialize(serializer),
            Value::Uuid(value) => serializer.collect_str(&value.hyphenated()),
            Value::Time(value) => serializer.serialize_str(&rfc3339(*value)),
        }
    }
}

/// An instant as RFC 3339 text in UTC with six decimals, held within the years that the format can say.
pub fn rfc3339(at: Timestamp) -> String {
    const PRINTER: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6));
    let bound = if at.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    PRINTER.timestamp_to_string(&jiff::Timestamp::from_microsecond(at.0).unwrap_or(bound))
}

/// A JSON document in the one form that both stores give: PostgreSQL's jsonb sorts keys and spells `1e2` as
/// `100`, SQLite keeps the text as it came. A text that is no JSON is shown as a string rather than not at all.
fn canonical_json(text: &str) -> serde_json::Value {
    match serde_json::from_str(text) {
        Ok(mut document) => {
            canonicalise(&mut document);
            document
        }
        Err(_) => serde_json::Value::String(text.to_owned()),
    }
}

fn canonicalise(document: &mut serde_json::Value) {
    /// Up to here every whole number has a double of its own (2^53).
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match document {
        serde_json::Value::Number(number) => {
            let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0);
            if let Some(whole) = float.filter(|float| float.abs() <= EXACT) {
                *number = (whole as i64).into();
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(canonicalise),
        serde_json::Value::Object(members) => {
            members.values_mut().for_each(canonicalise);
            // Their order is the map's: sorted, unless some crate of the program asks for insertion order.
            members.sort_keys();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_printed_with_microseconds_in_utc() {
        assert_eq!(rfc3339(Timestamp(1_772_323_200_000_001)), "2026-03-01T00:00:00.000001Z");
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000000Z");
        assert!(rfc3339(Timestamp(i64::MAX)).starts_with("9999-12-"));
        assert!(rfc3339(Timestamp(i64::MIN)).starts_with("-009999-"));
    }

    #[test]
    fn documents_take_one_form_however_they_were_spelled() {
        let told = |text| canonical_json(text).to_string();
        assert_eq!(told(r#"{"b": 1e2, "a": [1.0, 1.5, -0.0]}"#), told(r#"{"a":[1, 1.50, 0],"b":100}"#));
        assert_eq!(told("not json"), "\"not json\"");
        assert_eq!(told("1e400"), "\"1e400\"");
    }
}
