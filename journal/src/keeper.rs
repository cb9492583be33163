//! The task that keeps the tables in shape while they are filled, in SQLite as in PostgreSQL: it does now and
//! then what no batch should have to wait for.
//!
//! It reads over connections of its own; the SQLite file it changes only through the writer (`orders`). It can
//! be stopped at any moment and loses nothing, and a fault of its own never touches the recording.

use crate::{
    journal::Shared, open::Retention, orders::Orders, rest::Rest, retention::Retainer, rollup::Rollups,
};
use deadpool_postgres::Pool;
use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// How often it looks for work.
const PERIOD: Duration = Duration::from_secs(5);

/// The keeper. It does nothing until it is run, and stops when its future is dropped.
pub struct Keeper {
    rollups: Rollups,
    retainer: Retainer,
    rest: Rest,
}

impl Keeper {
    pub(crate) fn new(
        sqlite_file: PathBuf,
        orders: Orders,
        pool: Option<Pool>,
        retention: Retention,
        shared: Arc<Shared>,
    ) -> Self {
        let rollups = Rollups::new(sqlite_file, orders.clone(), pool.clone());
        let rest = Rest::new(orders.clone(), Arc::clone(&shared));
        let retainer = Retainer::new(orders, pool, retention, shared);
        Self { rollups, retainer, rest }
    }

    /// Keeps until `stop`.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = stop => {}
            () = self.keep_for_ever() => {}
        }
    }

    /// Brings the rollups of every closed bucket up to date now, instead of when no more rows have come for a
    /// while. If another proxy is at it, that one does.
    pub async fn roll_up(&mut self) {
        self.rollups.round_at_once().await;
    }

    /// Deletes and compresses now what is old enough, instead of within a minute. If another proxy is at it,
    /// that one does.
    pub async fn retain(&mut self) {
        self.retainer.round_at_once().await;
    }

    /// All beside each other: a large day may take minutes to be compressed.
    async fn keep_for_ever(&mut self) {
        let Self { rollups, retainer, rest } = self;
        tokio::join!(Self::roll_up_for_ever(rollups), retainer.work(), rest.watch());
    }

    async fn roll_up_for_ever(rollups: &mut Rollups) {
        let mut rounds = interval(PERIOD);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            rollups.round().await;
        }
    }
}
