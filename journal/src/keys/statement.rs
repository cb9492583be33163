//! The statements about keys, the same for SQLite and PostgreSQL but for the name of the schema, and the one mapping from
//! key to row.
//!
//! Every `$n` stands first where its turn is: SQLite numbers them in the order in which it finds them.

use super::{ApiKey, KeyError, PreviousSecret, SecretHash};
use crate::{columns::Kind, value::Value};
use mcpmeter_observer::{Text, Timestamp};
use std::{borrow::Cow, fmt::Write, sync::LazyLock};

/// The table of keys.
pub(crate) const TABLE: &str = "api_key";
/// The table of the number of changes.
pub(crate) const REVISION: &str = "api_key_revision";

/// The columns in their order. The last one is the number of the key's last change.
const COLUMNS: [(&str, Kind); 15] = [
    ("id", Kind::Text),
    ("hash", Kind::Text),
    ("previous_hash", Kind::Text),
    ("previous_until", Kind::Timestamp),
    ("name", Kind::Text),
    ("user_id", Kind::Text),
    ("organization_id", Kind::Text),
    ("routes", Kind::Json),
    ("tools", Kind::Json),
    ("rate_per_minute", Kind::Integer),
    ("created_at", Kind::Timestamp),
    ("expires_at", Kind::Timestamp),
    ("revoked_at", Kind::Timestamp),
    ("last_used_at", Kind::Timestamp),
    ("revision", Kind::BigInt),
];
/// Those that a change may change.
const CHANGING: [&str; 8] = [
    "hash",
    "previous_hash",
    "previous_until",
    "name",
    "user_id",
    "organization_id",
    "revoked_at",
    "revision",
];

/// The columns but for the number, separated by commas: what is saved from a damaged file beside it.
pub(crate) static SAVED: LazyLock<String> = LazyLock::new(|| names(&COLUMNS[..COLUMNS.len() - 1]));
static NAMES: LazyLock<String> = LazyLock::new(|| names(&COLUMNS));

fn names(columns: &[(&str, Kind)]) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The tables of a SQLite file. The number of a key's last change is its key, so that changes are found without an index.
pub(crate) fn sqlite_tables() -> String {
    format!(
        "
        create table if not exists {TABLE} (
          id text not null unique, hash text not null, previous_hash text, previous_until integer, name text,
          user_id text not null, organization_id text, routes text not null, tools text not null,
          rate_per_minute integer, created_at integer not null, expires_at integer, revoked_at integer,
          last_used_at integer, revision integer primary key) strict;
        create table if not exists {REVISION} (
          is_only_row integer primary key check (is_only_row = 1), revision integer not null) strict;
        insert into {REVISION} (is_only_row, revision) select 1, 0 where not exists (select * from {REVISION});
        "
    )
}

/// All keys, the newest first.
pub(super) fn list(schema: &str) -> String {
    format!("select {} from {schema}{TABLE} order by created_at desc, id", *NAMES)
}

/// The keys whose ids begin so: `$1`.
pub(super) fn matching(schema: &str) -> String {
    format!("select {} from {schema}{TABLE} where substr(id, 1, length($1)) = $1 order by id", *NAMES)
}

/// The number of changes.
pub(super) fn revision(schema: &str) -> String {
    format!("select revision from {schema}{REVISION}")
}

/// The first keys that have changed since the number `$1`, in the order of their changes.
pub(super) fn changes(schema: &str, limit: usize) -> String {
    format!("select {} from {schema}{TABLE} where revision > $1 order by revision limit {limit}", *NAMES)
}

/// The next number. From here to its end the transaction is the only one that changes keys.
pub(super) fn next_revision(schema: &str) -> String {
    format!("update {schema}{REVISION} set revision = revision + 1 returning revision")
}

/// A new key; answers with its number, or with nothing if its id is taken.
pub(super) fn insert(schema: &str) -> String {
    let places = (1..=COLUMNS.len()).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ");
    format!(
        "insert into {schema}{TABLE} ({}) values ({places}) on conflict (id) do nothing returning revision",
        *NAMES
    )
}

/// A changed key.
pub(super) fn update(schema: &str) -> String {
    let mut sql = format!("update {schema}{TABLE} set ");
    for (place, name) in (1..).zip(CHANGING) {
        write!(sql, "{name} = ${place}, ").expect("writing to a String cannot fail");
    }
    sql.truncate(sql.len() - 2);
    write!(sql, " where id = ${}", CHANGING.len() + 1).expect("writing to a String cannot fail");
    sql
}

/// What [`insert`] is given.
pub(super) fn insert_values(key: &ApiKey, revision: i64) -> Vec<(Value<'_>, Kind)> {
    values(key, revision).into_iter().zip(COLUMNS.map(|(_, kind)| kind)).collect()
}

/// What [`update`] is given.
pub(super) fn update_values(key: &ApiKey, revision: i64) -> Vec<(Value<'_>, Kind)> {
    let all = COLUMNS.iter().zip(insert_values(key, revision));
    let mut given: Vec<_> =
        all.filter(|((name, _), _)| CHANGING.contains(name)).map(|(_, given)| given).collect();
    given.push((Value::Text(Cow::Borrowed(&key.id)), Kind::Text));
    given
}

/// A text as a parameter.
pub(super) fn text(text: String) -> (Value<'static>, Kind) {
    (Value::Text(Cow::Owned(text)), Kind::Text)
}

fn values(key: &ApiKey, revision: i64) -> [Value<'_>; COLUMNS.len()] {
    let text =
        |text: &Option<Text>| text.as_ref().map_or(Value::Null, |text| Value::Text(text.to_string().into()));
    let time = |at: Option<Timestamp>| at.map_or(Value::Null, Value::Time);
    let list = |list: &[Text]| Value::Json(serde_json::json!(list).to_string().into());
    let previous = key.previous.as_ref();
    [
        Value::Text(Cow::Borrowed(&key.id)),
        Value::Text(key.hash.to_hex().into()),
        previous.map_or(Value::Null, |previous| Value::Text(previous.hash.to_hex().into())),
        time(previous.map(|previous| previous.valid_until)),
        text(&key.name),
        Value::Text(Cow::Borrowed(&key.user_id)),
        text(&key.organization_id),
        list(&key.routes),
        list(&key.tools),
        key.rate_per_minute.map_or(Value::Null, |rate| Value::Int(rate.into())),
        Value::Time(key.created_at),
        time(key.expires_at),
        time(key.revoked_at),
        time(key.last_used_at),
        Value::Int(revision),
    ]
}

/// The keys of rows, each with the number of its last change.
pub(super) fn read_keys(rows: Vec<Vec<Value<'static>>>) -> Result<Vec<(ApiKey, i64)>, KeyError> {
    rows.into_iter().map(|row| read_key(row).ok_or(KeyError::Unreadable)).collect()
}

/// The kinds of the columns of a row of keys; a row with one column is a number of changes.
pub(super) fn kind_at(width: usize, place: usize) -> Kind {
    if width == 1 { Kind::BigInt } else { COLUMNS[place].1 }
}

fn read_key(row: Vec<Value<'static>>) -> Option<(ApiKey, i64)> {
    let mut values = row.into_iter();
    let mut next = || values.next();
    let key = ApiKey {
        id: some_text(next()?)?,
        hash: SecretHash::from_hex(&some_text(next()?)?)?,
        previous: previous(next()?, next()?)?,
        name: maybe(next()?, some_text)?,
        user_id: some_text(next()?)?,
        organization_id: maybe(next()?, some_text)?,
        routes: some_list(next()?)?,
        tools: some_list(next()?)?,
        rate_per_minute: maybe(next()?, |value| u32::try_from(some_number(value)?).ok())?,
        created_at: some_time(next()?)?,
        expires_at: maybe(next()?, some_time)?,
        revoked_at: maybe(next()?, some_time)?,
        last_used_at: maybe(next()?, some_time)?,
    };
    Some((key, some_number(next()?)?))
}

fn previous(hash: Value<'_>, until: Value<'_>) -> Option<Option<PreviousSecret>> {
    let hash = maybe(hash, |value| SecretHash::from_hex(&some_text(value)?))?;
    let until = maybe(until, some_time)?;
    Some(hash.zip(until).map(|(hash, valid_until)| PreviousSecret { hash, valid_until }))
}

/// What may be absent; `None` if it is there and of another kind.
fn maybe<T>(value: Value<'_>, read: impl FnOnce(Value<'_>) -> Option<T>) -> Option<Option<T>> {
    match value {
        Value::Null => Some(None),
        value => read(value).map(Some),
    }
}

fn some_text(value: Value<'_>) -> Option<Text> {
    if let Value::Text(text) = value { Some(Text::from(text)) } else { None }
}

fn some_list(value: Value<'_>) -> Option<Vec<Text>> {
    if let Value::Json(text) = value { serde_json::from_str(&text).ok() } else { None }
}

fn some_number(value: Value<'_>) -> Option<i64> {
    if let Value::Int(number) = value { Some(number) } else { None }
}

fn some_time(value: Value<'_>) -> Option<Timestamp> {
    if let Value::Time(at) = value { Some(at) } else { None }
}
