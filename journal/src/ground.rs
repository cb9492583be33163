//! What the journal starts from: a whole SQLite file that holds everything an earlier process left behind.
//!
//! A volume that is full, or a file that somebody has locked, is no reason not to start: the writer tries again until
//! there is ground to stand on (`writer::standing`), and meanwhile the queue absorbs.

use crate::{
    accounts::{LossReason, Opening},
    chain::chain,
    corrupt::Salvage,
    file::{self, FileError, Fresh},
    gap,
    inscribe::Target,
    lock::Noted,
    outbox,
    quota::Quota,
    recover::{Recovered, recover},
    sqlite::{self, SqliteError},
    store, trouble,
};
use rusqlite::{Connection, Transaction};
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
    /// Whether the file has held its tables, so that it cannot be empty.
    pub(crate) held: bool,
}

/// The ground on which the rest is built.
pub(crate) struct Ground {
    pub(crate) connection: Connection,
    pub(crate) opening: Opening,
    /// The identity of the outbox.
    pub(crate) spool_id: Uuid,
    /// In force on the connection; absent for the store.
    pub(crate) quota: Option<Quota>,
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
    /// Opens the file and makes durable in it what is left in these queues, and that calls are lost, where some are.
    pub(crate) fn prepare(site: &Site, queues: &[Noted]) -> Result<Self, GroundError> {
        let Site { file, target, .. } = site;
        let mut note = |transaction: &Transaction<'_>, salvage: &Salvage| match lost_of(salvage, *target) {
            Some(0) => Ok(()),
            lost => gap::note(transaction, LossReason::Corrupt, lost.unwrap_or(0)),
        };
        let Fresh { mut connection, mut salvage } = file::open(file, site.held, &mut note)?;
        let recovered = match recover(&mut connection, queues, *target) {
            Ok(recovered) => recovered,
            // A page that only the recovery had to touch.
            Err(damage) if trouble::is_damage_at_open(&damage) => {
                drop(connection);
                let fresh = file::replace(file, &chain(&damage), None, 0, &mut note)?;
                (connection, salvage) = (fresh.connection, fresh.salvage);
                recover(&mut connection, queues, *target)?
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let spool_id = sqlite::spool_id(&mut connection)?;
        let (waiting, seq) = outbox::survey(&connection)?;
        let lost = salvage.as_ref().and_then(|salvage| lost_of(salvage, *target));
        let Recovered { records, damaged, left, emptied, .. } = recovered;
        let opening = Opening {
            outbox: waiting,
            stored: if *target == Target::Store { records } else { 0 },
            queued: 0,
            corrupt: damaged + lost.unwrap_or(0),
            seq,
        };
        Ok(Self {
            quota: site.quota(&connection, waiting)?,
            connection,
            opening,
            spool_id,
            set_aside: salvage.is_some(),
            left,
            emptied,
        })
    }
}

/// How many calls were lost with a damaged file; `None` if nobody knows, as of a store.
fn lost_of(salvage: &Salvage, target: Target) -> Option<u64> {
    salvage.lost.filter(|_| target == Target::Outbox)
}

impl Site {
    /// The outbox's quota, in force on the connection. Neither empty tables nor rows of a time without PostgreSQL
    /// count.
    fn quota(&self, connection: &Connection, waiting: u64) -> Result<Option<Quota>, GroundError> {
        if self.target == Target::Store {
            Quota::note_beside(0, connection)?;
            return Ok(None);
        }
        let mut quota = Quota::new(&self.file, self.outbox_max_bytes);
        quota.adapt(connection)?;
        if store::is_used(connection)? {
            quota.disregard_all_but(waiting * RECORD_BYTES, connection)?;
        } else {
            quota.disregard_empty_tables(connection)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        accounts::Ledger,
        ring::{Made, Plan},
    };
    use mcpmeter_observer::{CallId, CallRecord, Identity, Method, Timestamp};
    use std::{fs, os::unix::fs::FileExt, path::Path, thread, time::Duration};

    fn site(directory: &Path, target: Target) -> Site {
        Site { file: directory.join("journal.db"), target, outbox_max_bytes: None, held: true }
    }

    /// What the file says is lost after the ground was prepared and the process killed before it did anything else.
    fn gaps_after(site: &Site, queues: &[Noted]) -> Vec<(String, i64)> {
        drop(Ground::prepare(site, queues).unwrap());
        let connection = Connection::open(&site.file).unwrap();
        let mut select = connection.prepare("select reason, calls from mcp_log_gap order by seq").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// A queue with so many calls, and where it is.
    fn queue(directory: &Path, calls: u64) -> (Made, PathBuf) {
        let plan = Plan::new(0, directory);
        let path = plan.file();
        let made = plan.make().unwrap();
        let ledger = Ledger::new(false);
        for number in 0..calls {
            let identity = Identity { instance_id: "i".into(), user_id: None, organization_id: None };
            let id = CallId(Uuid::from_u64_pair(number, 0));
            made.ring.accept(&CallRecord::begin(id, Timestamp(0), Method::ToolsCall, &identity), &ledger);
        }
        (made, path)
    }

    #[test]
    fn what_is_lost_is_written_down_before_anybody_forgets_where_it_was() {
        for target in [Target::Outbox, Target::Store] {
            let directory = tempfile::tempdir().unwrap();
            let site = site(directory.path(), target);
            let gone = Noted::made(directory.path().join("gone.ring"));
            assert_eq!(gaps_after(&site, &[gone]), [("queue_gone".to_owned(), 0)]);
            let rubbish = directory.path().join("rubbish.ring");
            fs::write(&rubbish, "rubbish").unwrap();
            let known = [("queue_gone".to_owned(), 0), ("corrupt".to_owned(), 0)];
            assert_eq!(gaps_after(&site, &[Noted::made(rubbish)]), known);
        }
    }

    #[test]
    fn damaged_calls_of_a_queue_are_noted_with_those_that_are_sound_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let site = site(directory.path(), Target::Outbox);
        let (made, path) = queue(directory.path(), 10);
        drop(made);
        // The last byte of the third: it and what follows cannot be told from rubbish any more.
        let bytes = fs::read(&path).unwrap();
        let frame = 6 + usize::from(u16::from_le_bytes([bytes[4096 + 8], bytes[4096 + 9]]));
        let at = 4096 + 8 + 3 * frame - 1;
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[bytes[at] ^ 0xff], at as u64).unwrap();
        for _ in 0..2 {
            let queues = [Noted::made(path.clone())];
            assert_eq!(gaps_after(&site, &queues), [("corrupt".to_owned(), 8)]);
            let (waiting, _) = outbox::survey(&Connection::open(&site.file).unwrap()).unwrap();
            assert_eq!(waiting, 2);
        }
    }

    #[test]
    fn a_damaged_file_is_replaced_by_one_that_says_so() {
        for (target, spoilt) in [(Target::Store, &b"x"[..]), (Target::Outbox, &[0xa5; 50_000])] {
            let directory = tempfile::tempdir().unwrap();
            let site = site(directory.path(), target);
            drop(Ground::prepare(&site, &[]).unwrap_or_else(|error| panic!("{error}")));
            fs::write(&site.file, spoilt).unwrap();
            for _ in 0..2 {
                assert_eq!(gaps_after(&site, &[]), [("corrupt".to_owned(), 0)]);
            }
        }
    }

    #[test]
    fn a_queue_is_waited_for_that_somebody_is_about_to_let_go_of() {
        let directory = tempfile::tempdir().unwrap();
        let site = site(directory.path(), Target::Outbox);
        let (made, path) = queue(directory.path(), 5);
        let queues = [Noted::made(path)];
        let ground = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(200));
                drop(made);
            });
            Ground::prepare(&site, &queues).unwrap()
        });
        assert_eq!((ground.opening.outbox, ground.emptied.len()), (5, 1));
        drop(ground);
        // One that is never let go of is lost, as far as anybody here can tell.
        let (_made, path) = queue(directory.path(), 5);
        assert_eq!(gaps_after(&site, &[Noted::made(path)]), [("queue_gone".to_owned(), 0)]);
    }
}
