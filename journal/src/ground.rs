//! What the journal starts from: a whole SQLite file that holds everything an earlier process left behind.
//!
//! A volume that is full, or a file that somebody has locked, is no reason not to start: the writer tries again until
//! there is ground to stand on (`writer::standing`), and meanwhile the queue absorbs.

use crate::{
    accounts::{LossReason, Opening},
    chain::chain,
    corrupt::Salvage,
    file::{self, FileError, Fresh},
    inscribe::Target,
    lock::Noted,
    outbox,
    quota::Quota,
    recover::{Recovered, recover},
    sqlite::{self, SqliteError},
    store, trouble,
};
use rusqlite::Connection;
use std::{io, path::PathBuf};
use tracing::{info, warn};
use uuid::Uuid;

/// Bytes of outbox for one record, roughly; only used to tell it from what else is in the file.
const RECORD_BYTES: u64 = 512;

/// Where the ground is to be, and for what.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) file: PathBuf,
    pub(crate) target: Target,
    /// The outbox's quota, if one is configured.
    pub(crate) outbox_max_bytes: Option<u64>,
    /// Whether an earlier process has written the file, so that it cannot be empty.
    pub(crate) lived: bool,
}

/// The ground on which the rest is built.
pub(crate) struct Ground {
    pub(crate) connection: Connection,
    pub(crate) opening: Opening,
    /// The identity of the outbox.
    pub(crate) spool_id: Uuid,
    /// In force on the connection; absent for the store.
    pub(crate) quota: Option<Quota>,
    /// Why calls are lost of which nobody knows how many.
    pub(crate) unknown: Vec<LossReason>,
    /// Whether a damaged file was set aside.
    pub(crate) set_aside: bool,
    /// Queues of earlier processes that could not be written down now.
    pub(crate) left: Vec<Noted>,
    /// Those that were written down and are to be deleted.
    pub(crate) emptied: Vec<PathBuf>,
}

/// Why there is no ground.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroundError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl GroundError {
    /// Whether it may go away by itself.
    pub(crate) fn is_passing(&self, site: &Site) -> bool {
        match self {
            Self::File(FileError::SetAside(error)) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => self.sqlite().is_some_and(|error| trouble::is_passing(error, &site.file)),
        }
    }

    /// The error in words, with what helps against it.
    pub(crate) fn advise(&self, site: &Site) -> String {
        self.sqlite().map_or_else(|| chain(self), |error| trouble::advise(error, &site.file))
    }

    const fn sqlite(&self) -> Option<&rusqlite::Error> {
        match self {
            Self::Sqlite(error) | Self::File(FileError::Open(SqliteError::Sqlite(error))) => Some(error),
            Self::File(_) => None,
        }
    }
}

impl Ground {
    /// Opens the file and makes durable in it what is left in these queues.
    pub(crate) fn prepare(site: &Site, queues: &[Noted]) -> Result<Self, GroundError> {
        let Site { file, target, .. } = site;
        let Fresh { mut connection, mut salvage } = file::open(file, site.lived)?;
        let recovered = match recover(&mut connection, queues, *target) {
            Ok(recovered) => recovered,
            // A page that only the recovery had to touch.
            Err(damage) => {
                drop(connection);
                let fresh = file::replace(file, &chain(&damage), None, 0)?;
                (connection, salvage) = (fresh.connection, fresh.salvage);
                recover(&mut connection, queues, *target)?
            }
        };
        let spool_id = sqlite::spool_id(&mut connection)?;
        let (waiting, seq) = outbox::survey(&connection)?;
        let lost = salvage.as_ref().map(|Salvage { lost, .. }| lost.filter(|_| *target == Target::Outbox));
        let unknown = [
            (LossReason::Corrupt, recovered.unreadable || lost == Some(None)),
            (LossReason::QueueGone, recovered.gone),
        ];
        let Recovered { records, damaged, left, emptied, .. } = recovered;
        let opening = Opening {
            outbox: waiting,
            stored: if *target == Target::Store { records } else { 0 },
            queued: 0,
            corrupt: damaged + lost.flatten().unwrap_or(0),
            seq,
        };
        Ok(Self {
            quota: site.quota(&connection, waiting)?,
            connection,
            opening,
            spool_id,
            unknown: unknown.into_iter().filter_map(|(reason, is)| is.then_some(reason)).collect(),
            set_aside: salvage.is_some(),
            left,
            emptied,
        })
    }
}

impl Site {
    /// The outbox's quota, in force on the connection. Rows of a time without PostgreSQL do not count.
    fn quota(&self, connection: &Connection, waiting: u64) -> Result<Option<Quota>, GroundError> {
        if self.target == Target::Store {
            Quota::note_beside(0, connection)?;
            return Ok(None);
        }
        let mut quota = Quota::new(&self.file, self.outbox_max_bytes);
        quota.adapt(connection)?;
        if store::is_used(connection)? {
            quota.disregard_all_but(waiting * RECORD_BYTES, connection)?;
        }
        Quota::note_beside(quota.beside_bytes(), connection)?;
        Ok(Some(quota))
    }

    /// Says what an earlier process, maybe with another configuration, left in the file.
    pub(crate) fn tell_what_is_there(&self, ground: &Ground) -> rusqlite::Result<()> {
        if self.target == Target::Outbox && store::is_used(&ground.connection)? {
            warn!("the SQLite file holds calls from a time without PostgreSQL: they stay there");
        }
        match (ground.opening.outbox, self.target) {
            (0, _) => {}
            (records, Target::Outbox) => {
                info!(records, "calls of an earlier run wait in the outbox for PostgreSQL");
            }
            (records, Target::Store) => {
                warn!(
                    records,
                    "calls wait in the outbox for PostgreSQL, but none is configured: they stay there"
                );
            }
        }
        Ok(())
    }
}
