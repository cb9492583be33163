//! Carries bodies to PostgreSQL: the local outbox of bodies is emptied into the table `mcp_call_body`, some at a time,
//! after the calls. They are sealed long before they get here.
//!
//! A body that is told twice is there once, and one that was erased here while it was being told is taken back there. That
//! they cannot be told (a role that may not, an older schema) is said once and never keeps calls from being shipped; they
//! wait within their bound (`body`). What PostgreSQL can never take is dropped and counted.

use crate::{
    body::{BodyLoss, COLUMNS, NAMES, OUTBOX, TABLE, values_of},
    chain::chain,
    columns::Kind,
    journal::Shared,
    orders::{OrderError, Orders},
    outbox_reader::OutboxReader,
    shipment::ShipmentError,
    value::Value,
};
use rusqlite::{Connection, Transaction};
use std::{
    collections::HashSet,
    sync::LazyLock,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};
use tracing::warn;
use uuid::Uuid;

/// How often the local table is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Bodies told at once, and their bytes; the one that crosses the line is among them.
const MOST: usize = 500;
const MOST_BYTES: usize = 2 << 20;

static READ: LazyLock<String> = LazyLock::new(|| {
    let names = &*NAMES;
    format!("select seq, {names} from {OUTBOX} order by seq limit {MOST}")
});
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let names = &*NAMES;
    let places = (1..=COLUMNS.len() + 1).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ");
    format!("insert into mcpmeter.{TABLE} ({names}) select * from unnest({places}) on conflict do nothing")
});

/// Bodies to be told, column by column.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Their numbers and calls.
    told: Vec<(i64, Uuid)>,
    columns: [Vec<Value<'static>>; COLUMNS.len()],
    sealed: Vec<Vec<u8>>,
    /// There may be more.
    is_full: bool,
}

/// When to look again.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    looked: Option<Instant>,
    /// That they cannot be told has been said.
    complained: bool,
}

impl Batch {
    pub(super) const fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

impl Bodies {
    pub(super) fn are_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() > PERIOD)
    }

    pub(super) const fn look_now(&mut self) {
        self.looked = None;
    }

    /// The oldest bodies that PostgreSQL does not have, if it is time to look.
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
        match timeout(patience, insert(client, &batch)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                self.complain(&error);
                if !ShipmentError::from(error).is_for_ever() {
                    return !client.is_closed();
                }
                shared.bodies.books.lose(BodyLoss::Refused, batch.told.len() as u64);
            }
            Err(_) => return false,
        }
        let erased = match forget(&batch, orders).await {
            Ok(erased) => erased,
            Err(error) => {
                self.complain(&error);
                return true;
            }
        };
        if !erased.is_empty() && !matches!(timeout(patience, take_back(client, erased)).await, Ok(Ok(_))) {
            return false;
        }
        if batch.is_full {
            self.look_now();
        }
        true
    }

    fn complain(&mut self, error: &(dyn std::error::Error + 'static)) {
        if !self.complained {
            warn!(error = chain(error), "cannot store bodies of calls in PostgreSQL (table mcp_call_body)");
        }
        self.complained = true;
    }
}

fn read(connection: &Connection) -> rusqlite::Result<Batch> {
    let mut select = connection.prepare_cached(&READ)?;
    let mut rows = select.query([])?;
    let (mut batch, mut bytes) = (Batch::default(), 0);
    while let Some(row) = rows.next()? {
        let sealed: Vec<u8> = row.get(COLUMNS.len() + 1)?;
        bytes += sealed.len();
        batch.told.push((row.get(0)?, row.get(1)?));
        batch.sealed.push(sealed);
        for (column, value) in batch.columns.iter_mut().zip(values_of(row, 1)?) {
            column.push(value);
        }
        batch.is_full = batch.told.len() == MOST || bytes >= MOST_BYTES;
        if batch.is_full {
            break;
        }
    }
    Ok(batch)
}

async fn insert(client: &Client, batch: &Batch) -> Result<u64, tokio_postgres::Error> {
    let columns = batch.columns.iter().zip(COLUMNS);
    let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> =
        columns.map(|(column, (_, kind))| (column as &(dyn ToSql + Sync), array_of(kind))).collect();
    parameters.push((&batch.sealed, Type::BYTEA_ARRAY));
    client.execute_typed(INSERT.as_str(), &parameters).await
}

/// Forgets what was told; gives the calls of those that were not there any more.
async fn forget(batch: &Batch, orders: &Orders) -> Result<Vec<Uuid>, OrderError> {
    let told: Vec<i64> = batch.told.iter().map(|(seq, _)| *seq).collect();
    let forgotten = orders.transact(move |transaction| delete(transaction, &told)).await?;
    Ok(batch.told.iter().filter(|(seq, _)| !forgotten.contains(seq)).map(|(_, call)| *call).collect())
}

fn delete(transaction: &Transaction<'_>, told: &[i64]) -> rusqlite::Result<HashSet<i64>> {
    let mut delete = transaction.prepare_cached(&format!("delete from {OUTBOX} where seq = ?1"))?;
    let mut forgotten = HashSet::new();
    for seq in told {
        if delete.execute([seq])? > 0 {
            forgotten.insert(*seq);
        }
    }
    Ok(forgotten)
}

/// They were erased, or had to make room for calls, after they had been read.
async fn take_back(client: &Client, calls: Vec<Uuid>) -> Result<u64, tokio_postgres::Error> {
    let calls: Vec<_> = calls.into_iter().map(Value::Uuid).collect();
    let parameters = [(&calls as &(dyn ToSql + Sync), Type::UUID_ARRAY)];
    client.execute_typed(&format!("delete from mcpmeter.{TABLE} where call_id = any ($1)"), &parameters).await
}

/// The type of an array of the kind, of those that bodies have.
const fn array_of(kind: Kind) -> Type {
    match kind {
        Kind::Uuid => Type::UUID_ARRAY,
        Kind::Timestamp => Type::TIMESTAMPTZ_ARRAY,
        Kind::BigInt => Type::INT8_ARRAY,
        Kind::Boolean => Type::BOOL_ARRAY,
        _ => Type::TEXT_ARRAY,
    }
}
