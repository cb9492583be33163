//! Bodies of calls, where they are kept: on their way from a finished call into the table `mcp_call_body`, encrypted before
//! they reach any disk.
//!
//! ```text
//! Journal::accept ──▶ desk (a thread: redacts, cuts, seals) ──▶ tray ──▶ writer ──▶ mcp_call_body       without PostgreSQL
//!                                                                            └──▶ call_body_outbox ──▶ PostgreSQL
//! ```
//!
//! Bodies are no calls and not in the queue of calls, whose segments are smaller than two of them: they wait in this
//! process's memory for the next tick, so a kill loses those of the last moment (and no row). Where there is no room for
//! them they are dropped, and counted, and never in the way of a call. One that is written twice, or told to PostgreSQL
//! twice, is there once: call and side are its key.
//!
//! * `seal` is the encryption; `desk` the thread; `waiting` the writer's side; `shipper::bodies` the way to PostgreSQL.
//! * Nothing in here ever writes, logs or shows the text of a body, but [`BodyKeys::open`] to whoever has the key.

mod desk;
mod read;
mod seal;
mod waiting;

pub(crate) use desk::{Desk, DeskHandle, Jobs};
pub(crate) use read::{ask_postgres, ask_sqlite, values_of};
pub use seal::{BodyKey, BodyKeys, OpenBodyError};
pub(crate) use waiting::{Bodies, Written};

use crate::{columns::Kind, value::Value};
use mcpmeter_observer::{BodySide, Text, Timestamp};
use std::{
    borrow::Cow,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use uuid::Uuid;

/// The table where they are kept, in SQLite as in PostgreSQL.
pub(crate) const TABLE: &str = "mcp_call_body";
/// The SQLite table where they wait for PostgreSQL, oldest first by `seq`.
pub(crate) const OUTBOX: &str = "call_body_outbox";

/// The columns of these tables, in their order, without the last, `sealed`, which holds bytes.
pub(crate) const COLUMNS: [(&str, Kind); 8] = [
    ("call_id", Kind::Uuid),
    ("side", Kind::Text),
    ("created_at", Kind::Timestamp),
    ("user_id", Kind::Text),
    ("organization_id", Kind::Text),
    ("key_id", Kind::Text),
    ("body_bytes", Kind::BigInt),
    ("is_cut", Kind::Boolean),
];

/// The names of all columns, separated by commas.
pub(crate) static NAMES: LazyLock<String> =
    LazyLock::new(|| COLUMNS.map(|(name, _)| name).join(", ") + ", sealed");

/// A body as it is stored: nobody reads it without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBody {
    /// The call.
    pub call_id: Uuid,
    /// Which of its two messages.
    pub side: BodySide,
    /// When the call began.
    pub created_at: Timestamp,
    /// Whose call it is, so that what is of a person can be erased.
    pub user_id: Option<Text>,
    /// The organisation of that user.
    pub organization_id: Option<Text>,
    /// Which key opens it: 16 hexadecimal digits.
    pub key_id: String,
    /// The length of the message on the wire.
    pub bytes: u64,
    /// The message goes on behind what is kept.
    pub is_cut: bool,
    /// The text, encrypted.
    pub sealed: Vec<u8>,
}

impl SealedBody {
    /// What a database is given, without the sealed bytes.
    pub(crate) fn values(&self) -> [Value<'_>; COLUMNS.len()] {
        let text = |text: &Option<Text>| match text {
            // No store can hold it, and nobody is called so.
            Some(text) if !text.contains('\0') => Value::Text(Cow::Owned(text.to_string())),
            _ => Value::Null,
        };
        [
            Value::Uuid(self.call_id),
            Value::Text(Cow::Borrowed(self.side.as_str())),
            Value::Time(self.created_at),
            text(&self.user_id),
            text(&self.organization_id),
            Value::Text(Cow::Borrowed(&self.key_id)),
            Value::Int(i64::try_from(self.bytes).unwrap_or(i64::MAX)),
            Value::Bool(self.is_cut),
        ]
    }

    /// The body of a row; `None` if its values are of other kinds than those of the columns.
    pub(crate) fn from_values(values: &[Value<'_>], sealed: Vec<u8>) -> Option<Self> {
        let [
            Value::Uuid(call_id),
            Value::Text(side),
            Value::Time(created_at),
            user_id,
            organization_id,
            Value::Text(key_id),
            Value::Int(bytes),
            Value::Bool(is_cut),
        ] = values
        else {
            return None;
        };
        let text = |value: &Value<'_>| match value {
            Value::Text(text) => Some(Text::from(&**text)),
            _ => None,
        };
        Some(Self {
            call_id: *call_id,
            side: [BodySide::Request, BodySide::Answer].into_iter().find(|known| known.as_str() == side)?,
            created_at: *created_at,
            user_id: text(user_id),
            organization_id: text(organization_id),
            key_id: key_id.as_ref().to_owned(),
            bytes: u64::try_from(*bytes).unwrap_or(0),
            is_cut: *is_cut,
            sealed,
        })
    }
}

/// The tables in the SQLite file.
pub(crate) fn sqlite_tables() -> String {
    let columns = COLUMNS.map(|(name, kind)| {
        let null = if matches!(name, "user_id" | "organization_id") { "" } else { " not null" };
        format!("{name} {}{null}", kind.sqlite_name())
    });
    let columns = columns.join(", ") + ", sealed blob not null";
    format!(
        "create table if not exists {TABLE} ({columns}, primary key (call_id, side)) strict;
         create index if not exists {TABLE}_created_at on {TABLE} (created_at);
         create table if not exists {OUTBOX} (seq integer primary key autoincrement, {columns}) strict;\n"
    )
}

/// Why a body that was to be kept is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BodyLoss {
    /// Its instance held too many others at the time.
    NoRoom,
    /// Too many waited to be sealed, or to be written.
    QueueFull,
    /// It is not UTF-8, so it could not be looked through.
    NotUtf8,
    /// Whoever looks through bodies failed on it.
    Failed,
    /// There was no key to seal it with.
    NoKey,
    /// The outbox has no room for bodies: calls need it.
    OutboxFull,
    /// PostgreSQL can never take it.
    Refused,
}

impl BodyLoss {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::NoRoom,
        Self::QueueFull,
        Self::NotUtf8,
        Self::Failed,
        Self::NoKey,
        Self::OutboxFull,
        Self::Refused,
    ];

    /// Its word in the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::QueueFull => "queue_full",
            Self::NotUtf8 => "not_utf8",
            Self::Failed => "failed",
            Self::NoKey => "no_key",
            Self::OutboxFull => "outbox_full",
            Self::Refused => "refused",
        }
    }
}

/// What has become of bodies since the process began.
#[derive(Debug, Default)]
pub(crate) struct BodyBooks {
    kept: AtomicU64,
    lost: [AtomicU64; BodyLoss::ALL.len()],
}

impl BodyBooks {
    pub(crate) fn keep(&self, bodies: u64) {
        self.kept.fetch_add(bodies, Relaxed);
    }

    pub(crate) fn lose(&self, reason: BodyLoss, bodies: u64) {
        self.lost[reason as usize].fetch_add(bodies, Relaxed);
    }

    pub(crate) fn read(&self) -> BodyAccounts {
        BodyAccounts { kept: self.kept.load(Relaxed), lost: self.lost.each_ref().map(|n| n.load(Relaxed)) }
    }
}

/// What has become of bodies since the process began. A request and an answer are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BodyAccounts {
    /// Written to the SQLite file, on their way to PostgreSQL or for good.
    pub kept: u64,
    lost: [u64; BodyLoss::ALL.len()],
}

impl BodyAccounts {
    /// Those that will never be stored, for that reason.
    pub const fn lost(&self, reason: BodyLoss) -> u64 {
        self.lost[reason as usize]
    }
}
