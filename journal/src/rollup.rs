//! Rollups: what was called, by whom, how often, how long and how it ended, added up per 5 minutes, hour and
//! day, so that a chart over a month need not read a month of rows.
//!
//! ```text
//! rows ─▶ marks (dirty)          in the transaction that stores the rows
//! rows ─▶ 5 minutes ─▶ hour ─▶ day   by the keeper, for marked buckets that are closed and quiet
//! ```
//!
//! * `bucket` says which stretch of time a call belongs to, `histogram` and `sums` what a cell holds,
//!   `tables` where; all pure.
//! * `postgres` (with `statement` and `pace`) and `sqlite` make cells anew. Always anew and never added to: a row
//!   that comes late, or a round that was killed, changes nothing about the outcome.
//! * `query` answers questions, with what is not rolled up yet read from the rows.
//! * `forget` takes a person out of the usage tables (`erase`).
//! * `keep` sees to it that cells outlive their rows, and `leaving` that a row which comes while others of its
//!   bucket are being deleted is counted once.
//!
//! The boundary: cells are exact for every bucket without a mark. The bucket of this moment always has one, and
//! a row that comes late marks its bucket until the keeper comes by. A reader of the tables themselves sees the
//! calls of about the last 5 to 6 minutes missing from them; [`Rollup::rolled_up_to`] says exactly.

mod bucket;
mod dirty;
mod forget;
mod groups;
mod histogram;
mod keep;
mod leaving;
mod pace;
mod postgres;
mod query;
mod read_postgres;
mod read_sqlite;
mod sqlite;
mod statement;
mod sums;
mod tables;

pub use bucket::Span;
pub(crate) use dirty::{mark_changed_sqlite, mark_postgres, mark_sqlite};
pub(crate) use forget::{
    Forgotten, count_postgres, count_sqlite, forget_postgres, forget_sqlite, usage_tables,
};
pub use histogram::Histogram;
pub(crate) use keep::{keep_postgres, keep_sqlite};
pub(crate) use leaving::{delete_leaving_sqlite, leaving_sqlite, rename_late_sqlite};
pub use query::{Cell, Rollup, RollupQuery};
pub(crate) use read_postgres::ask as ask_postgres;
pub(crate) use read_sqlite::ask as ask_sqlite;
pub use sums::Sums;
pub(crate) use tables::sqlite_tables;
pub use tables::{Dimension, Subject};

use crate::{chain::chain, orders::Orders};
use deadpool_postgres::Pool;
use postgres::{PostgresRollupError, PostgresStore};
use sqlite::{EmbeddedStore, SqliteRollupError};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// How long one round goes on while there is more to do; the keeper has other work too.
const ROUND: Duration = Duration::from_secs(30);

/// Keeps the rollups of one store up to date.
pub(crate) struct Rollups {
    store: Store,
    failing: bool,
}

enum Store {
    Embedded(EmbeddedStore),
    Postgres(PostgresStore),
}

/// Why rollups could not be made.
#[derive(Debug, thiserror::Error)]
enum RollupError {
    #[error(transparent)]
    Postgres(#[from] PostgresRollupError),
    #[error(transparent)]
    Sqlite(#[from] SqliteRollupError),
}

impl Rollups {
    /// Rollups in PostgreSQL, or in the SQLite file if that is the store.
    pub(crate) fn new(sqlite_file: PathBuf, orders: Orders, pool: Option<Pool>) -> Self {
        let store = match pool {
            Some(pool) => Store::Postgres(PostgresStore::new(pool)),
            None => Store::Embedded(EmbeddedStore { file: sqlite_file, orders }),
        };
        Self { store, failing: false }
    }

    /// Rolls up what is closed and quiet, and tells the world if it is news whether that worked.
    pub(crate) async fn round(&mut self) {
        self.roll_up(dirty::QUIET).await;
    }

    /// Rolls up what is closed, also if it was marked just now.
    pub(crate) async fn round_at_once(&mut self) {
        self.roll_up(Duration::ZERO).await;
    }

    async fn roll_up(&mut self, quiet: Duration) {
        let began = Instant::now();
        loop {
            match self.roll_up_some(quiet).await {
                Ok(0) => break,
                Ok(_) if began.elapsed() > ROUND => break,
                Ok(_) => {}
                Err(RollupError::Postgres(error)) if error.is_somebody_elses() => return,
                Err(error) => {
                    if !self.failing {
                        warn!(
                            error = chain(&error),
                            "rollups cannot be brought up to date: reports read rows instead"
                        );
                    }
                    self.failing = true;
                    return;
                }
            }
        }
        if std::mem::take(&mut self.failing) {
            info!("rollups are brought up to date again");
        }
    }

    async fn roll_up_some(&mut self, quiet: Duration) -> Result<usize, RollupError> {
        Ok(match &mut self.store {
            Store::Postgres(store) => store.roll_up(quiet).await?,
            Store::Embedded(store) => store.roll_up(quiet).await?,
        })
    }
}
