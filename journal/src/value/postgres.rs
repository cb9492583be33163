//! A value in PostgreSQL's binary format, both ways: for `COPY`, for parameters and for result columns.

use super::Value;
use bytes::BytesMut;
use mcpmeter_observer::Timestamp;
use std::{borrow::Cow, error::Error};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

type Failure = Box<dyn Error + Sync + Send>;

/// PostgreSQL counts microseconds from 2000-01-01.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
/// The version byte that stands before the text of every binary jsonb.
const JSONB_VERSION: u8 = 1;

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match self {
            Value::Null => return Ok(IsNull::Yes),
            Value::Bool(value) => return value.to_sql(ty, out),
            Value::Int(value) => match *ty {
                Type::INT2 => {
                    out.extend_from_slice(&saturate::<i16>(*value, i16::MIN, i16::MAX).to_be_bytes())
                }
                Type::INT4 => {
                    out.extend_from_slice(&saturate::<i32>(*value, i32::MIN, i32::MAX).to_be_bytes())
                }
                _ => out.extend_from_slice(&value.to_be_bytes()),
            },
            Value::Float(value) => out.extend_from_slice(&value.to_be_bytes()),
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            Value::Json(text) => {
                out.extend_from_slice(&[JSONB_VERSION]);
                out.extend_from_slice(text.as_bytes());
            }
            Value::Uuid(value) => out.extend_from_slice(value.as_bytes()),
            Value::Time(Timestamp(us)) => {
                out.extend_from_slice(&us.saturating_sub(POSTGRES_EPOCH_US).to_be_bytes());
            }
        }
        Ok(IsNull::No)
    }

    /// Which value goes with which type is settled by the one mapping (`columns`), not here.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The number, or the nearest one that the column can hold.
fn saturate<T: TryFrom<i64>>(value: i64, min: T, max: T) -> T {
    T::try_from(value).unwrap_or(if value < 0 { min } else { max })
}

impl<'r> FromSql<'r> for Value<'static> {
    fn from_sql(ty: &Type, raw: &'r [u8]) -> Result<Self, Failure> {
        Ok(match *ty {
            Type::BOOL => Value::Bool(bool::from_sql(ty, raw)?),
            Type::INT2 => Value::Int(i16::from_sql(ty, raw)?.into()),
            Type::INT4 => Value::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Value::Int(i64::from_sql(ty, raw)?),
            Type::FLOAT8 => Value::Float(f64::from_sql(ty, raw)?),
            Type::TEXT => Value::Text(Cow::Owned(String::from_sql(ty, raw)?)),
            Type::UUID => Value::Uuid(Uuid::from_slice(raw)?),
            Type::TIMESTAMPTZ => {
                let us = i64::from_be_bytes(raw.try_into()?);
                Value::Time(Timestamp(us.saturating_add(POSTGRES_EPOCH_US)))
            }
            Type::JSONB => match raw {
                [JSONB_VERSION, text @ ..] => Value::Json(Cow::Owned(std::str::from_utf8(text)?.to_owned())),
                _ => return Err("jsonb of an unknown version".into()),
            },
            _ => return Err(format!("no value is of the type {ty}").into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Value::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
