//! The one mapping between a [`CallRecord`] and the columns of `mcp_server_request_log`.
//!
//! `COPY`, the SQLite table, reading back, and JSON all go through [`COLUMNS`], so that no two of them can
//! disagree. The order is that of the record's fields, and of `schema.sql`; a test compares the two. Numbers
//! that a column cannot hold become the nearest one that it can: a row with a capped counter is worth more
//! than no row.

use crate::value::Value;
use mcpmeter_observer::{CallRecord, Text};
use std::{borrow::Cow, sync::LazyLock};
use tokio_postgres::types::Type;

/// The table's name, in SQLite as it stands, in PostgreSQL within the schema `mcpmeter`.
pub const TABLE: &str = "mcp_server_request_log";

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A truth value.
    Boolean,
    /// A whole number of 16 bits.
    SmallInt,
    /// A whole number of 32 bits.
    Integer,
    /// A whole number of 64 bits.
    BigInt,
    /// A floating-point number of 64 bits.
    Double,
    /// A text without NUL.
    Text,
    /// A JSON document.
    Json,
    /// A UUID.
    Uuid,
    /// An instant, to the microsecond.
    Timestamp,
}

impl Kind {
    /// The type in `schema.sql`.
    pub const fn postgres_name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::SmallInt => "smallint",
            Self::Integer => "integer",
            Self::BigInt => "bigint",
            Self::Double => "double precision",
            Self::Text => "text",
            Self::Json => "jsonb",
            Self::Uuid => "uuid",
            Self::Timestamp => "timestamp with time zone",
        }
    }

    /// The type on PostgreSQL's wire.
    pub(crate) const fn postgres_type(self) -> Type {
        match self {
            Self::Boolean => Type::BOOL,
            Self::SmallInt => Type::INT2,
            Self::Integer => Type::INT4,
            Self::BigInt => Type::INT8,
            Self::Double => Type::FLOAT8,
            Self::Text => Type::TEXT,
            Self::Json => Type::JSONB,
            Self::Uuid => Type::UUID,
            Self::Timestamp => Type::TIMESTAMPTZ,
        }
    }

    /// The type in a strict SQLite table.
    pub(crate) const fn sqlite_name(self) -> &'static str {
        match self {
            Self::Boolean | Self::SmallInt | Self::Integer | Self::BigInt | Self::Timestamp => "integer",
            Self::Double => "real",
            Self::Text | Self::Json => "text",
            Self::Uuid => "blob",
        }
    }
}

/// One column and where its value comes from.
#[derive(Debug)]
pub struct Column {
    /// Its name, the same everywhere: SQL, JSON, pages.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it may be absent.
    pub nullable: bool,
    /// Its value in a record.
    pub value: for<'a> fn(&'a CallRecord) -> Value<'a>,
}

/// Every column, in order.
pub static COLUMNS: &[Column] = &[
    required("id", Kind::Uuid, |r| Value::Uuid(r.id.0)),
    required("created_at", Kind::Timestamp, |r| Value::Time(r.created_at)),
    required("completed_at", Kind::Timestamp, |r| Value::Time(r.completed_at)),
    required("duration_ms", Kind::Double, |r| milliseconds(r.duration_us)),
    required("latency_bucket", Kind::SmallInt, |r| Value::Int(r.latency_bucket().into())),
    optional("ttfb_ms", Kind::Double, |r| r.ttfb_us.map_or(Value::Null, milliseconds)),
    optional("first_event_ms", Kind::Double, |r| r.first_event_us.map_or(Value::Null, milliseconds)),
    optional("proxy_us", Kind::Double, |r| r.proxy_us.map_or(Value::Null, |us| Value::Float(us as f64))),
    optional("user_id", Kind::Text, |r| text(&r.user_id)),
    optional("organization_id", Kind::Text, |r| text(&r.organization_id)),
    required("mcp_server_instance_id", Kind::Text, |r| Value::Text(Cow::Borrowed(&r.mcp_server_instance_id))),
    optional("tool_name", Kind::Text, |r| text(&r.tool_name)),
    required("method", Kind::Text, |r| word(r.method.as_str())),
    required("transport_type", Kind::Text, |r| word(r.transport_type.as_str())),
    required("client_transport", Kind::Text, |r| word(r.client_transport.as_str())),
    optional("protocol_version", Kind::Text, |r| text(&r.protocol_version)),
    required("status", Kind::Text, |r| word(r.status.as_str())),
    optional("status_detail", Kind::Text, |r| r.status_detail.map_or(Value::Null, |w| word(w.as_str()))),
    optional("origin", Kind::Text, |r| r.origin.map_or(Value::Null, |w| word(w.as_str()))),
    optional("error_code", Kind::Text, |r| text(&r.error_code)),
    optional("error_message", Kind::Text, |r| text(&r.error_message)),
    optional("error_detail", Kind::Json, |r| json(&r.error_detail)),
    optional("http_status", Kind::SmallInt, |r| r.http_status.map_or(Value::Null, small)),
    required("input_bytes", Kind::BigInt, |r| big(r.input_bytes)),
    required("output_bytes", Kind::BigInt, |r| big(r.output_bytes)),
    optional("http_request_bytes", Kind::BigInt, |r| r.http_request_bytes.map_or(Value::Null, big)),
    optional("http_response_bytes", Kind::BigInt, |r| r.http_response_bytes.map_or(Value::Null, big)),
    optional("cpu_ms", Kind::Double, |r| r.cpu_ms.map_or(Value::Null, finite)),
    optional("cpu_shared", Kind::Boolean, |r| r.cpu_shared.map_or(Value::Null, Value::Bool)),
    optional("cpu_percent", Kind::Double, |r| r.cpu_percent.map_or(Value::Null, finite)),
    optional("memory_bytes", Kind::BigInt, |r| r.memory_bytes.map_or(Value::Null, big)),
    required("auth_method", Kind::Text, |r| word(r.auth_method.as_str())),
    required("auth_state", Kind::Text, |r| word(r.auth_state.as_str())),
    optional("api_key_id", Kind::Text, |r| text(&r.api_key_id)),
    optional("rate_limit_state", Kind::Json, |r| json(&r.rate_limit_state)),
    optional("client_ip", Kind::Text, |r| text(&r.client_ip)),
    optional("user_agent", Kind::Text, |r| text(&r.user_agent)),
    optional("client_name", Kind::Text, |r| text(&r.client_name)),
    optional("client_version", Kind::Text, |r| text(&r.client_version)),
    optional("session_hash", Kind::Text, |r| text(&r.session_hash)),
    optional("trace_id", Kind::Text, |r| text(&r.trace_id)),
    optional("span_id", Kind::Text, |r| text(&r.span_id)),
    optional("parent_span_id", Kind::Text, |r| text(&r.parent_span_id)),
    optional("rpc_id", Kind::Text, |r| text(&r.rpc_id)),
    optional("framing", Kind::Text, |r| r.framing.map_or(Value::Null, |w| word(w.as_str()))),
    required("match", Kind::Text, |r| word(r.match_kind.as_str())),
    optional("batch_size", Kind::Integer, |r| r.batch_size.map_or(Value::Null, int)),
    optional("batch_index", Kind::Integer, |r| r.batch_index.map_or(Value::Null, int)),
    optional("tool_count", Kind::Integer, |r| r.tool_count.map_or(Value::Null, int)),
    required("redelivered", Kind::Integer, |r| int(r.redelivered)),
    required("client_left", Kind::Boolean, |r| Value::Bool(r.client_left)),
    required("cancel_requested", Kind::Boolean, |r| Value::Bool(r.cancel_requested)),
    required("header_mismatch", Kind::Boolean, |r| Value::Bool(r.header_mismatch)),
    optional("task_hash", Kind::Text, |r| text(&r.task_hash)),
    optional("mrtr_group", Kind::Text, |r| text(&r.mrtr_group)),
];

/// The names of all columns, quoted and separated by commas: `match` is a word of SQL.
pub(crate) static NAMES: LazyLock<String> = LazyLock::new(|| {
    COLUMNS.iter().map(|column| format!("\"{}\"", column.name)).collect::<Vec<_>>().join(", ")
});

type Getter = for<'a> fn(&'a CallRecord) -> Value<'a>;

const fn required(name: &'static str, kind: Kind, value: Getter) -> Column {
    Column { name, kind, nullable: false, value }
}

const fn optional(name: &'static str, kind: Kind, value: Getter) -> Column {
    Column { name, kind, nullable: true, value }
}

fn text(text: &Option<Text>) -> Value<'_> {
    text.as_deref().map_or(Value::Null, |text| Value::Text(Cow::Borrowed(text)))
}

fn json(text: &Option<Text>) -> Value<'_> {
    text.as_deref().map_or(Value::Null, |text| Value::Json(Cow::Borrowed(text)))
}

fn word(word: &'static str) -> Value<'static> {
    Value::Text(Cow::Borrowed(word))
}

fn milliseconds(us: u64) -> Value<'static> {
    Value::Float(us as f64 / 1000.0)
}

/// SQLite cannot hold NaN, and JSON neither NaN nor an infinity.
fn finite(value: f64) -> Value<'static> {
    if value.is_finite() { Value::Float(value) } else { Value::Null }
}

fn big(value: u64) -> Value<'static> {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

fn int(value: u32) -> Value<'static> {
    Value::Int(i32::try_from(value).unwrap_or(i32::MAX).into())
}

fn small(value: u16) -> Value<'static> {
    Value::Int(i16::try_from(value).unwrap_or(i16::MAX).into())
}
