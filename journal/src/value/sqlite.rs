//! A value in SQLite's types, both ways: UUIDs are BLOBs of 16 bytes, instants INTEGERs of microseconds since
//! 1970, truth values 0 and 1, JSON documents TEXT.

use super::Value;
use crate::columns::Kind;
use mcpmeter_observer::Timestamp;
use rusqlite::{
    Error, Row,
    types::{FromSqlError, ToSql, ToSqlOutput, ValueRef},
};
use std::borrow::Cow;
use uuid::Uuid;

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Bool(value) => ValueRef::Integer((*value).into()),
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Float(value) => ValueRef::Real(*value),
            Value::Text(text) | Value::Json(text) => ValueRef::Text(text.as_bytes()),
            Value::Uuid(value) => ValueRef::Blob(value.as_bytes()),
            Value::Time(Timestamp(us)) => ValueRef::Integer(*us),
        }))
    }
}

impl Value<'static> {
    /// The value of a column of the kind, at that place of a row.
    pub(crate) fn of_row(kind: Kind, row: &Row<'_>, place: usize) -> rusqlite::Result<Self> {
        let raw = row.get_ref(place)?;
        Self::from_sqlite(kind, raw)
            .map_err(|error| Error::FromSqlConversionFailure(place, raw.data_type(), Box::new(error)))
    }

    /// Reads back what [`ToSql`] wrote for a column of the kind.
    fn from_sqlite(kind: Kind, raw: ValueRef<'_>) -> Result<Self, FromSqlError> {
        if raw == ValueRef::Null {
            return Ok(Value::Null);
        }
        Ok(match kind {
            Kind::Boolean => Value::Bool(raw.as_i64()? != 0),
            Kind::SmallInt | Kind::Integer | Kind::BigInt => Value::Int(raw.as_i64()?),
            Kind::Double => Value::Float(raw.as_f64()?),
            Kind::Text => Value::Text(Cow::Owned(raw.as_str()?.to_owned())),
            Kind::Json => Value::Json(Cow::Owned(raw.as_str()?.to_owned())),
            Kind::Uuid => Value::Uuid(Uuid::from_slice(raw.as_blob()?).map_err(FromSqlError::other)?),
            Kind::Timestamp => Value::Time(Timestamp(raw.as_i64()?)),
        })
    }
}
