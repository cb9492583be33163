//! One batch on its way into PostgreSQL: rows and cursor in one transaction, or nothing.
//!
//! The cursor is `(spool_id, seq)`: everything up to `seq` of this outbox is stored. It moves by compare-and-set
//! in the transaction that stores the rows. Whoever does not know whether that transaction was committed (the
//! connection broke in between) asks for the cursor and knows; a batch is therefore stored exactly once.
//!
//! If the cursor itself is not to be trusted (a backup of the database was put back, the cursor was deleted)
//! PostgreSQL refuses the batch for its first duplicate key. The same batch then goes through a temporary table
//! that ends with the transaction, and what is there already is skipped.

use crate::{
    columns::{COLUMNS, Kind, NAMES, TABLE},
    rollup,
    value::Value,
};
use deadpool_postgres::{ClientWrapper, Transaction};
use mcpmeter_observer::CallRecord;
use std::{pin::pin, sync::LazyLock, time::Duration};
use tokio_postgres::{Client, binary_copy::BinaryCopyInWriter, error::SqlState, types::Type};
use uuid::Uuid;

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShipmentError {
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    #[error("the outbox's cursor in PostgreSQL is not where it was left")]
    CursorMoved,
}

impl ShipmentError {
    /// Whether PostgreSQL will answer the same to the same rows for ever: class 22 (data exception), 23
    /// (constraint violation) and 54 (limit exceeded, for example an index entry that is too long).
    pub(crate) fn is_for_ever(&self) -> bool {
        match self {
            Self::Postgres(error) => error
                .code()
                .is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.code().starts_with(class))),
            Self::CursorMoved => false,
        }
    }

    /// Whether a row may have found no partition (or broken a constraint that somebody added).
    pub(crate) fn is_check(&self) -> bool {
        self.has_code(&SqlState::CHECK_VIOLATION)
    }

    /// Whether a row may have come for a day whose partition is no longer there (`mcpmeter.refuse_strays`).
    pub(crate) fn is_stray(&self) -> bool {
        self.has_code(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
    }

    /// Whether PostgreSQL has this very row already.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.has_code(&SqlState::UNIQUE_VIOLATION)
    }

    fn has_code(&self, code: &SqlState) -> bool {
        matches!(self, Self::Postgres(error) if error.code() == Some(code))
    }
}

/// What is shipped where in the order of the outbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leg {
    /// Whose outbox.
    pub(crate) spool_id: Uuid,
    /// Where the cursor has to be before.
    pub(crate) from: i64,
    /// Where it is after.
    pub(crate) to: i64,
}

/// How the rows go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Straight into the table; a row that is there already is an error.
    Straight,
    /// Past the rows that are there already. Costs a third more.
    SkipDuplicates,
}

/// The transaction's own settings. A proxy that vanishes in the middle must not hold its rows, which the next
/// attempt has to wait for, during the hours that TCP takes to notice. A limit of time that the role has for
/// its reports must not be shorter than a batch takes. And with `synchronous_commit = off` a commit would be a
/// promise that a crash of the server can break, after the outbox has forgotten the rows; anything stricter
/// is left as it is.
fn settings(patience: Duration) -> String {
    let ms = patience.as_millis();
    format!(
        "set local idle_in_transaction_session_timeout = {ms};
         set local statement_timeout = {ms};
         set local tcp_keepalives_idle = 30;
         set local tcp_keepalives_interval = 10;
         set local tcp_keepalives_count = 3;
         select set_config('synchronous_commit', 'on', true) where current_setting('synchronous_commit') = 'off'"
    )
}

/// Where a batch waits that may have duplicates.
const STAGE: &str =
    "create temporary table mcpmeter_stage (like mcpmeter.mcp_server_request_log) on commit drop";

static COPY: LazyLock<String> = LazyLock::new(|| copy_into(&format!("mcpmeter.{TABLE}")));
static COPY_TO_STAGE: LazyLock<String> = LazyLock::new(|| copy_into("pg_temp.mcpmeter_stage"));
static FROM_STAGE: LazyLock<String> = LazyLock::new(|| {
    let names = &*NAMES;
    format!(
        "insert into mcpmeter.{TABLE} ({names}) select {names} from pg_temp.mcpmeter_stage on conflict do nothing"
    )
});

fn copy_into(table: &str) -> String {
    let names = &*NAMES;
    format!("copy {table} ({names}) from stdin (format binary)")
}

static TYPES: LazyLock<Vec<Type>> =
    LazyLock::new(|| COLUMNS.iter().map(|column| column.kind.postgres_type()).collect());

/// Stores the records (maybe none), moves the cursor, and says how many rows were new. The server has `patience`
/// for each statement.
pub(crate) async fn ship(
    client: &mut ClientWrapper,
    records: &[&CallRecord],
    leg: Leg,
    way: Way,
    patience: Duration,
) -> Result<u64, ShipmentError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(&settings(patience)).await?;
    let new = match way {
        _ if records.is_empty() => 0,
        Way::Straight => copy(&transaction, &COPY, records).await?,
        Way::SkipDuplicates => {
            transaction.batch_execute(STAGE).await?;
            copy(&transaction, &COPY_TO_STAGE, records).await?;
            transaction.execute_typed(FROM_STAGE.as_str(), &[]).await?
        }
    };
    move_cursor(&transaction, leg).await?;
    rollup::mark_postgres(&transaction, leg.spool_id, records).await?;
    transaction.commit().await?;
    Ok(new)
}

async fn copy(
    transaction: &Transaction<'_>,
    copy: &str,
    records: &[&CallRecord],
) -> Result<u64, tokio_postgres::Error> {
    let sink = transaction.copy_in(copy).await?;
    let mut rows = pin!(BinaryCopyInWriter::new(sink, &TYPES));
    for record in records {
        let row: Vec<Value<'_>> = COLUMNS.iter().map(|column| (column.value)(record)).collect();
        rows.as_mut().write_raw(&row).await?;
    }
    rows.finish().await
}

async fn move_cursor(transaction: &Transaction<'_>, leg: Leg) -> Result<(), ShipmentError> {
    let (spool_id, from, to) = (Value::Uuid(leg.spool_id), Value::Int(leg.from), Value::Int(leg.to));
    let moved = transaction
        .execute_typed(
            "update mcpmeter.outbox_cursor set seq = $3, moved_at = now() where spool_id = $1 and seq = $2",
            &[(&spool_id, UUID), (&from, BIGINT), (&to, BIGINT)],
        )
        .await?;
    if moved == 1 { Ok(()) } else { Err(ShipmentError::CursorMoved) }
}

/// Where the cursor is; a new outbox gets one at 0.
pub(crate) async fn read_cursor(client: &Client, spool_id: Uuid) -> Result<i64, tokio_postgres::Error> {
    let spool_id = Value::Uuid(spool_id);
    let read = "select seq from mcpmeter.outbox_cursor where spool_id = $1";
    if let Some(row) = client.query_typed_opt(read, &[(&spool_id, UUID)]).await? {
        return row.try_get(0);
    }
    let make = "insert into mcpmeter.outbox_cursor (spool_id, seq) values ($1, 0) on conflict do nothing";
    client.execute_typed(make, &[(&spool_id, UUID)]).await?;
    client.query_typed_one(read, &[(&spool_id, UUID)]).await?.try_get(0)
}

const UUID: Type = Kind::Uuid.postgres_type();
const BIGINT: Type = Kind::BigInt.postgres_type();
