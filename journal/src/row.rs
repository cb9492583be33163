//! One stored call, read back: the columns' values in the columns' order, and their JSON.
//!
//! The live tail makes its rows from records that are not stored yet ([`Row::from_record`]); it prints the same
//! JSON that a later query will.

use crate::{columns::COLUMNS, value::Value};
use mcpmeter_observer::{CallId, CallRecord, Timestamp};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::{fmt, num::ParseIntError, str::FromStr};
use uuid::Uuid;

/// One call as it is stored. As JSON it is an object whose keys are the columns' names, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// As many as there are columns, in their order.
    values: Vec<Value<'static>>,
}

impl Row {
    /// The row that the record becomes.
    pub fn from_record(record: &CallRecord) -> Self {
        Self { values: COLUMNS.iter().map(|column| (column.value)(record).into_owned()).collect() }
    }

    /// A row of values that were read in the order of [`COLUMNS`].
    pub(crate) fn from_values(values: Vec<Value<'static>>) -> Self {
        debug_assert_eq!(values.len(), COLUMNS.len());
        Self { values }
    }

    /// The value of a column; `None` if no column is called so.
    pub fn get(&self, column: &str) -> Option<&Value<'static>> {
        let place = COLUMNS.iter().position(|known| known.name == column)?;
        self.values.get(place)
    }

    /// Where this row stands in the order of all rows.
    pub fn cursor(&self) -> Option<Cursor> {
        match (self.get("created_at")?, self.get("id")?) {
            (Value::Time(created_at), Value::Uuid(id)) => {
                Some(Cursor { created_at: *created_at, id: CallId(*id) })
            }
            _ => None,
        }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(COLUMNS.len()))?;
        for (column, value) in COLUMNS.iter().zip(&self.values) {
            map.serialize_entry(column.name, value)?;
        }
        map.end()
    }
}

/// A place in the order of all calls: after everything that began before it. Its text, `MICROSECONDS_UUID`, is
/// what an API hands out and takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The instant of the call that stands there.
    pub created_at: Timestamp,
    /// The call itself, because an instant may be shared.
    pub id: CallId,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.created_at.0, self.id)
    }
}

/// A text that is not a cursor.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadCursor {
    /// There is no `_` in it.
    #[error("a cursor has two parts, separated by an underscore")]
    Form,
    /// What stands before the underscore is not a number.
    #[error("the cursor's instant is not a number")]
    Instant(#[from] ParseIntError),
    /// What stands after the underscore is not a UUID.
    #[error("the cursor's id is not a UUID")]
    Id(#[from] uuid::Error),
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (instant, id) = text.split_once('_').ok_or(BadCursor::Form)?;
        Ok(Self { created_at: Timestamp(instant.parse()?), id: CallId(Uuid::parse_str(id)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        let cursor = Cursor { created_at: Timestamp(-5), id: CallId::new(Timestamp(1_000), 7) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert_eq!("5".parse::<Cursor>(), Err(BadCursor::Form));
    }
}
