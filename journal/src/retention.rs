//! Retention: old rows become smaller, then go; and the partitions that new rows need are there before them.
//!
//! ```text
//! a week ahead ──▶ today ──▶ compressed (compress_after_days) ──▶ gone (days)
//! ```
//!
//! * `postgres` works on whole days: each step is one short transaction of one function of `schema.sql`, done by
//!   one proxy of many, and it never waits for a lock longer than milliseconds, because everybody who comes
//!   after it waits behind it.
//! * `sqlite` deletes a few hundred rows at a time through the writer, between two of its batches.
//!
//! Any step may be the last one of this process; the next one goes on where it stands, also if that is one which
//! has been told to compress no more. Only rows go: rollups have kept what they need of them before
//! (`rollup::keep_postgres`, `rollup::keep_sqlite`). A row that comes when its day is gone already is stored all the
//! same, in a partition of its own that the next round drops; if the day goes while it is being stored, the
//! transaction fails (`refuse_strays` in `schema.sql`) and the next attempt makes that partition. One that comes for
//! a compressed day finds its place there.

mod postgres;
mod sqlite;

use self::{postgres::Tables, sqlite::File};
use crate::{journal::Shared, open::Retention, orders::Orders};
use deadpool_postgres::Pool;
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// How often it looks for work.
const PERIOD: Duration = Duration::from_secs(5);

/// Whoever does it, in the one store or the other.
pub(crate) enum Retainer {
    Sqlite(File),
    /// With the file in which bodies wait for it.
    Postgres(Box<Tables>, File),
}

impl Retainer {
    pub(crate) fn new(orders: Orders, pool: Option<Pool>, retention: Retention, shared: Arc<Shared>) -> Self {
        match pool {
            None => Self::Sqlite(File::new(orders, retention)),
            Some(pool) => {
                let tables = Tables::new(pool, retention, shared);
                Self::Postgres(Box::new(tables), File::new(orders, retention))
            }
        }
    }

    /// Works for ever. Dropping the future at any point is safe.
    pub(crate) async fn work(&mut self) {
        let mut rounds = interval(PERIOD);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            match self {
                Self::Sqlite(file) => file.round().await,
                Self::Postgres(tables, outbox) => {
                    outbox.round_of_waiting_bodies().await;
                    tables.round().await;
                }
            }
        }
    }

    /// Does now everything that there is to do.
    pub(crate) async fn round_at_once(&mut self) {
        match self {
            Self::Sqlite(file) => file.round().await,
            Self::Postgres(tables, outbox) => {
                outbox.round_of_waiting_bodies().await;
                tables.round_at_once().await;
            }
        }
    }
}
