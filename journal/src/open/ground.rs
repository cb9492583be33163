//! What the journal starts from: a whole SQLite file that holds everything an earlier process left behind.

use super::{OpenError, Options};
use crate::{
    accounts::{LossReason, Opening},
    chain::chain,
    corrupt::Salvage,
    file::{self, Fresh},
    gap::Gaps,
    inscribe::Target,
    lock::{FileLock, lock_path},
    outbox,
    quota::Quota,
    recover::{Recovered, recover},
    sqlite::SqliteError,
    store,
};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

/// Bytes of outbox for one record, roughly; only used to tell it from what else is in the file.
const RECORD_BYTES: u64 = 512;

/// The ground on which the rest is built.
pub(super) struct Ground {
    file: PathBuf,
    pub(super) connection: Connection,
    pub(super) opening: Opening,
    pub(super) gaps: Gaps,
    /// Whether a damaged file was set aside.
    pub(super) set_aside: bool,
    /// Queues of earlier processes that could not be written down now.
    pub(super) left: Vec<PathBuf>,
}

impl Ground {
    pub(super) fn prepare(options: &Options, target: Target, lock: &FileLock) -> Result<Self, OpenError> {
        let file = &options.sqlite_file;
        let noted = lock.noted().map_err(|source| OpenError::Lock { file: lock_path(file), source })?;
        let Fresh { mut connection, mut salvage } =
            file::open(file, !noted.is_empty()).map_err(|error| cannot_open(file, error))?;
        let recovered = match recover(&mut connection, &noted, target) {
            Ok(recovered) => recovered,
            // A page that only the recovery had to touch.
            Err(damage) => {
                drop(connection);
                let fresh = file::replace(file, &chain(&damage), None, 0)
                    .map_err(|error| cannot_open(file, error))?;
                (connection, salvage) = (fresh.connection, fresh.salvage);
                recover(&mut connection, &noted, target).map_err(|error| cannot_open(file, error))?
            }
        };
        let (waiting, seq) = outbox::survey(&connection).map_err(|error| cannot_open(file, error))?;
        let mut gaps = Gaps::new();
        let lost = salvage.as_ref().map(|Salvage { lost, .. }| lost.filter(|_| target == Target::Outbox));
        let Recovered { records, damaged, left, unknown } = recovered;
        if unknown || lost == Some(None) {
            gaps.add_unknown(LossReason::Corrupt);
        }
        let opening = Opening {
            outbox: waiting,
            stored: if target == Target::Store { records } else { 0 },
            corrupt: damaged + lost.flatten().unwrap_or(0),
            seq,
        };
        Ok(Self { file: file.clone(), connection, opening, gaps, set_aside: salvage.is_some(), left })
    }

    /// The outbox's quota, in force on the connection.
    pub(super) fn quota(&self, max_bytes: Option<u64>) -> Result<Quota, OpenError> {
        let mut quota = Quota::new(&self.file, max_bytes);
        quota.adapt(&self.connection).map_err(|error| self.cannot_open(error.into()))?;
        if self.is_store_used()? {
            quota
                .disregard_all_but(self.opening.outbox * RECORD_BYTES, &self.connection)
                .map_err(|error| self.cannot_open(error.into()))?;
        }
        Ok(quota)
    }

    /// Whether there are rows of a time without PostgreSQL.
    pub(super) fn is_store_used(&self) -> Result<bool, OpenError> {
        store::is_used(&self.connection).map_err(|error| self.cannot_open(error.into()))
    }

    pub(super) fn cannot_open(&self, source: SqliteError) -> OpenError {
        cannot_open(&self.file, source)
    }
}

fn cannot_open(file: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OpenError {
    OpenError::File { file: file.to_owned(), source: source.into() }
}
