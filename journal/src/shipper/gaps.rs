//! Tells PostgreSQL what was lost: the rows of the local table `mcp_log_gap` go into the table of the same name.
//!
//! A row grows while the loss goes on, so it is told again whenever it has grown; told twice, it says the same.
//! That a gap cannot be told (a role that may not) is said once and never keeps calls from being shipped.

use crate::{chain::chain, columns::Kind, orders::Orders, outbox_reader::OutboxReader, value::Value};
use mcpmeter_observer::Timestamp;
use rusqlite::Connection;
use std::{
    borrow::Cow,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_postgres::Client;
use tracing::warn;
use uuid::Uuid;

/// How often the local table is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Gaps told at once; more wait for the next look.
const MOST: u32 = 100;

/// One stretch of time and one reason; see the plan of the table in `schema.sql`.
#[derive(Debug, Clone)]
pub(super) struct Gap {
    seq: i64,
    from_at: i64,
    to_at: i64,
    calls: i64,
    reason: String,
}

/// When to look again.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    looked: Option<Instant>,
    /// That they cannot be told has been said.
    complained: bool,
}

impl Gaps {
    pub(super) fn are_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() > PERIOD)
    }

    pub(super) const fn look_now(&mut self) {
        self.looked = None;
    }

    /// The gaps of which PostgreSQL has not been told all, if it is time to look.
    pub(super) async fn find(&mut self, file: &mut OutboxReader) -> Vec<Gap> {
        if !self.are_due() {
            return Vec::new();
        }
        self.looked = Some(Instant::now());
        let found = file.ask(read).await;
        found.unwrap_or_else(|error| {
            self.complain(&error);
            Vec::new()
        })
    }

    /// Tells PostgreSQL of the gaps; false if the connection is not to be used again.
    pub(super) async fn tell(
        &mut self,
        client: &Client,
        spool_id: Uuid,
        gaps: Vec<Gap>,
        orders: &Orders,
        patience: Duration,
    ) -> bool {
        for gap in gaps {
            match timeout(patience, upsert(client, spool_id, &gap)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    self.complain(&error);
                    return !client.is_closed();
                }
                Err(_) => return false,
            }
            let mark = orders.transact(move |transaction| {
                transaction.execute(
                    "update mcp_log_gap set shipped = ?2 where seq = ?1 and shipped < ?2",
                    (gap.seq, gap.calls),
                )
            });
            if let Err(error) = mark.await {
                self.complain(&error);
            }
        }
        true
    }

    fn complain(&mut self, error: &(dyn std::error::Error + 'static)) {
        if !self.complained {
            warn!(error = chain(error), "cannot tell PostgreSQL which calls were lost (table mcp_log_gap)");
        }
        self.complained = true;
    }
}

fn read(connection: &Connection) -> rusqlite::Result<Vec<Gap>> {
    let mut select = connection.prepare_cached(
        "select seq, from_at, to_at, calls, reason from mcp_log_gap where calls > shipped order by seq limit ?1",
    )?;
    let gaps = select.query_map([MOST], |row| {
        Ok(Gap {
            seq: row.get(0)?,
            from_at: row.get(1)?,
            to_at: row.get(2)?,
            calls: row.get(3)?,
            reason: row.get(4)?,
        })
    })?;
    gaps.collect()
}

async fn upsert(client: &Client, spool_id: Uuid, gap: &Gap) -> Result<u64, tokio_postgres::Error> {
    let values = [
        (Value::Uuid(spool_id), Kind::Uuid),
        (Value::Int(gap.seq), Kind::BigInt),
        (Value::Time(Timestamp(gap.from_at)), Kind::Timestamp),
        (Value::Time(Timestamp(gap.to_at)), Kind::Timestamp),
        (Value::Int(gap.calls), Kind::BigInt),
        (Value::Text(Cow::Borrowed(&gap.reason)), Kind::Text),
    ];
    let parameters: Vec<_> = values
        .iter()
        .map(|(value, kind)| (value as &(dyn tokio_postgres::types::ToSql + Sync), kind.postgres_type()))
        .collect();
    let upsert = "insert into mcpmeter.mcp_log_gap as known (spool_id, seq, from_at, to_at, calls, reason)
                  values ($1, $2, $3, $4, $5, $6)
                  on conflict (spool_id, seq) do update set
                    to_at = greatest(known.to_at, excluded.to_at), calls = greatest(known.calls, excluded.calls)";
    client.execute_typed(upsert, &parameters).await
}
