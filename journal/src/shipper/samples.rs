//! Tells PostgreSQL what the processes of instances used: the local outbox of samples is emptied into the table
//! `mcp_process_sample`, some at a time, after the calls.
//!
//! A sample that is told twice is there once. That they cannot be told (a role that may not, an older schema) is said
//! once and never keeps calls from being shipped; they wait within their bound (`sample`). What PostgreSQL can never
//! take is dropped and counted.

use crate::{
    chain::chain,
    columns::Kind,
    journal::Shared,
    orders::Orders,
    outbox_reader::OutboxReader,
    sample::{COLUMNS, NAMES, OUTBOX, TABLE},
    shipment::ShipmentError,
    value::Value,
};
use rusqlite::Connection;
use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};
use tracing::warn;

/// How often the local table is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Samples told at once.
const MOST: u32 = 1_000;

static READ: LazyLock<String> = LazyLock::new(|| {
    let names = &*NAMES;
    format!("select seq, {names} from {OUTBOX} order by seq limit {MOST}")
});
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let (names, places) = (&*NAMES, (1..=COLUMNS.len()).map(|place| format!("${place}")));
    let places = places.collect::<Vec<_>>().join(", ");
    format!("insert into mcpmeter.{TABLE} ({names}) select * from unnest({places}) on conflict do nothing")
});

/// Samples to be told, column by column.
#[derive(Debug, Default)]
pub(super) struct Batch {
    rows: u32,
    /// The number of the last one.
    last: i64,
    columns: [Vec<Value<'static>>; COLUMNS.len()],
}

/// When to look again.
#[derive(Debug, Default)]
pub(super) struct Samples {
    looked: Option<Instant>,
    /// That they cannot be told has been said.
    complained: bool,
}

impl Batch {
    pub(super) const fn is_empty(&self) -> bool {
        self.rows == 0
    }
}

impl Samples {
    pub(super) fn are_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() > PERIOD)
    }

    pub(super) const fn look_now(&mut self) {
        self.looked = None;
    }

    /// The oldest samples that PostgreSQL does not have, if it is time to look.
    pub(super) async fn find(&mut self, file: &mut OutboxReader) -> Batch {
        if !self.are_due() {
            return Batch::default();
        }
        self.looked = Some(Instant::now());
        let found = file.ask(read).await;
        found.unwrap_or_else(|error| {
            self.complain(&error);
            Batch::default()
        })
    }

    /// Tells PostgreSQL; false if the connection is not to be used again.
    pub(super) async fn tell(
        &mut self,
        client: &Client,
        batch: Batch,
        orders: &Orders,
        shared: &Shared,
        patience: Duration,
    ) -> bool {
        if batch.is_empty() {
            return true;
        }
        let parameters: Vec<_> = batch
            .columns
            .iter()
            .zip(COLUMNS)
            .map(|(column, (_, kind))| (column as &(dyn ToSql + Sync), array_of(kind)))
            .collect();
        match timeout(patience, client.execute_typed(INSERT.as_str(), &parameters)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                self.complain(&error);
                if !ShipmentError::from(error).is_for_ever() {
                    return !client.is_closed();
                }
                shared.lose_samples(batch.rows.into());
            }
            Err(_) => return false,
        }
        let delete = format!("delete from {OUTBOX} where seq <= ?1");
        let last = batch.last;
        match orders.transact(move |transaction| transaction.execute(&delete, [last])).await {
            // There may be more.
            Ok(_) if batch.rows == MOST => self.look_now(),
            Ok(_) => {}
            Err(error) => self.complain(&error),
        }
        true
    }

    fn complain(&mut self, error: &(dyn std::error::Error + 'static)) {
        if !self.complained {
            warn!(
                error = chain(error),
                "cannot tell PostgreSQL what processes used (table mcp_process_sample)"
            );
        }
        self.complained = true;
    }
}

fn read(connection: &Connection) -> rusqlite::Result<Batch> {
    let mut select = connection.prepare_cached(&READ)?;
    let mut rows = select.query([])?;
    let mut batch = Batch::default();
    while let Some(row) = rows.next()? {
        batch.last = row.get(0)?;
        batch.rows += 1;
        for (place, (column, (_, kind))) in batch.columns.iter_mut().zip(COLUMNS).enumerate() {
            column.push(Value::of_row(kind, row, place + 1)?);
        }
    }
    Ok(batch)
}

/// The type of an array of the kind, of those that samples have.
const fn array_of(kind: Kind) -> Type {
    match kind {
        Kind::Uuid => Type::UUID_ARRAY,
        Kind::Timestamp => Type::TIMESTAMPTZ_ARRAY,
        Kind::Double => Type::FLOAT8_ARRAY,
        Kind::BigInt => Type::INT8_ARRAY,
        Kind::Integer => Type::INT4_ARRAY,
        _ => Type::TEXT_ARRAY,
    }
}
