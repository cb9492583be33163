//! Makes durable what an earlier process left in its ring, before anybody hands over the next record.
//!
//! The argument why this happens exactly once stands in `ring`. What cannot be read is said and counted, and so is a
//! ring that has gone, or that another process does not let go of; what cannot be written (a full disk) is left where it
//! is, to be gone on with. The gaps in the books are written here, before the lock file forgets the rings: those of
//! damaged records in the transaction that takes the others.

use crate::{
    accounts::LossReason,
    chain::chain,
    gap,
    inscribe::{Inscribed, Sheet, Target, inscribe},
    lock::Noted,
    ring::{LeftRing, RingFileError},
    trouble,
};
use rusqlite::{Connection, TransactionBehavior};
use std::{
    fs, io,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// How long a ring is waited for that somebody holds: one who is just ending lets go of it.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What became of the rings that were left.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Records that are durable now.
    pub(crate) records: u64,
    /// Records that were damaged, as far as they can be counted.
    pub(crate) damaged: u64,
    /// Rings of which everything is durable: to be deleted, but not before the lock file says that they may be gone.
    pub(crate) emptied: Vec<PathBuf>,
    /// Rings that could not be read, or not be written down, now.
    pub(crate) left: Vec<Noted>,
    /// There was a ring that nobody can ever read; nobody knows how many records were in it.
    unreadable: bool,
    /// There was a ring, and it is not there any more, or not ours; nobody knows how many records were in it.
    gone: bool,
}

impl Recovered {
    /// A ring that cannot be opened: lost if it is rubbish, or for us if somebody uses it, left for the next start
    /// otherwise.
    fn pass_over(&mut self, ring: &Noted, error: &RingFileError) {
        let file = ring.path.display();
        match error {
            RingFileError::Io(error) => {
                error!(%file, error = chain(error), "cannot read the queue of an earlier run now: its calls stay there");
                self.left.push(ring.clone());
            }
            RingFileError::InUse => {
                error!(%file, error = chain(error), "leaving a queue of an earlier run alone: calls in it are lost here");
                self.gone = true;
            }
            RingFileError::NotOurs | RingFileError::BadHeader => {
                error!(%file, error = chain(error), "cannot read the queue of an earlier run: its calls are lost");
                self.unreadable = true;
            }
        }
    }

    /// A ring that is not there: it went with the calls in it, unless it was never made.
    fn miss(&mut self, ring: &Noted) {
        if ring.made {
            error!(
                file = %ring.path.display(),
                "the queue of an earlier run is gone, and that run did not come to an orderly end: the calls of its \
                 last moment are lost. Is store.queue_directory emptied by a restart, as /dev/shm of a container is?"
            );
            self.gone = true;
        }
    }
}

/// Why a ring was not recovered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("cannot read it")]
    Io(#[from] io::Error),
}

/// Recovers the rings at these paths. Fails if the SQLite file turns out to be damaged, or does not take a note of what
/// is lost; then the lock file still says where the rings were.
pub(crate) fn recover(
    connection: &mut Connection,
    rings: &[Noted],
    target: Target,
) -> rusqlite::Result<Recovered> {
    let mut all = Recovered::default();
    for ring in rings {
        let path = &ring.path;
        let left = match open_patiently(path) {
            Ok(Some(left)) => left,
            Ok(None) => {
                all.miss(ring);
                continue;
            }
            Err(error) => {
                all.pass_over(ring, &error);
                continue;
            }
        };
        match recover_one(connection, &left, target) {
            Ok((records, damaged)) => {
                all.records += records;
                all.damaged += damaged;
                tell(path, records, damaged);
                all.emptied.push(path.clone());
            }
            Err(RecoverError::Sqlite(error)) if trouble::is_damage_at_open(&error) => return Err(error),
            Err(error) => {
                error!(
                    file = %path.display(),
                    error = chain(&error),
                    "calls of an earlier run stay in its queue for now"
                );
                all.left.push(ring.clone());
            }
        }
    }
    let unknown = [(LossReason::Corrupt, all.unreadable), (LossReason::QueueGone, all.gone)];
    let unknown: Vec<_> = unknown.into_iter().filter_map(|(reason, is)| is.then_some(reason)).collect();
    if !unknown.is_empty() {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        unknown.iter().try_for_each(|reason| gap::note(&transaction, *reason, 0))?;
        transaction.commit()?;
    }
    Ok(all)
}

fn open_patiently(path: &Path) -> Result<Option<LeftRing>, RingFileError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match LeftRing::open(path) {
            Err(RingFileError::InUse) if Instant::now() < deadline => sleep(LOOK_AGAIN),
            result => return result,
        }
    }
}

/// Deletes rings of which everything is durable.
pub(crate) fn delete(emptied: &[PathBuf]) {
    for path in emptied {
        if let Err(error) = fs::remove_file(path) {
            warn!(file = %path.display(), error = chain(&error), "cannot delete the queue of an earlier run");
        }
    }
}

fn recover_one(
    connection: &mut Connection,
    left: &LeftRing,
    target: Target,
) -> Result<(u64, u64), RecoverError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let known = left.positions(&transaction)?;
    let (mut sum, mut sheet) = (Inscribed::default(), Sheet::default());
    for segment in 0..left.segments() {
        let Some(remains) = left.remains(segment, &known)? else { continue };
        if target == Target::Store {
            sheet.fill(left.format(), remains.frames());
        }
        let mut inscribed = inscribe(&transaction, target, left.format(), remains.frames(), &sheet)?;
        inscribed.damaged = inscribed.damaged.max(remains.is_cut().into());
        sum.add(inscribed);
        left.note(&transaction, &remains)?;
    }
    let damaged = sum.damaged + sum.unreadable;
    if damaged > 0 {
        gap::note(&transaction, LossReason::Corrupt, damaged)?;
    }
    transaction.commit()?;
    Ok((sum.written, damaged))
}

fn tell(path: &Path, records: u64, damaged: u64) {
    if records > 0 {
        info!(records, "calls that an earlier run had not written yet were found in its queue");
    }
    if damaged > 0 {
        error!(file = %path.display(), records = damaged, "calls in the queue of an earlier run were damaged: they are lost");
    }
}
