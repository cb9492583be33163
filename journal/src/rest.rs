//! Gives memory back when nothing has been recorded for a while: what SQLite's cache holds of a burst that has gone.

use crate::{journal::Shared, orders::Orders};
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// How long nothing has to be recorded.
const QUIET: Duration = Duration::from_secs(5);

pub(crate) struct Rest {
    orders: Orders,
    shared: Arc<Shared>,
}

impl Rest {
    pub(crate) const fn new(orders: Orders, shared: Arc<Shared>) -> Self {
        Self { orders, shared }
    }

    /// Looks for ever.
    pub(crate) async fn watch(&self) {
        let mut looks = interval(QUIET);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut finished, mut is_given_back) = (0, true);
        loop {
            looks.tick().await;
            let now = self.shared.ledger.snapshot().finished;
            if now != finished {
                (finished, is_given_back) = (now, false);
            } else if !is_given_back {
                let work = |transaction: &rusqlite::Transaction<'_>| {
                    transaction.execute_batch("pragma shrink_memory")
                };
                // A file that cannot be written now can later.
                is_given_back = self.orders.transact(work).await.is_ok();
            }
        }
    }
}
