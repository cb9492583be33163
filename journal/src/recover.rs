//! Makes durable what an earlier process left in its ring, before anybody hands over the next record.
//!
//! The argument why this happens exactly once stands in `ring`. What cannot be read is said and counted; what
//! cannot be written (a full disk) is left where it is for the next start.

use crate::{
    chain::chain,
    inscribe::{Inscribed, Sheet, Target, inscribe},
    ring::{LeftRing, RingFileError},
    trouble,
};
use rusqlite::{Connection, TransactionBehavior};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tracing::{error, info, warn};

/// What became of the rings that were left.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Records that are durable now.
    pub(crate) records: u64,
    /// Records that were damaged, as far as they can be counted.
    pub(crate) damaged: u64,
    /// Rings that could not be read, or not be written down, now.
    pub(crate) left: Vec<PathBuf>,
    /// There was a ring that nobody can ever read; nobody knows how many records were in it.
    pub(crate) unknown: bool,
}

impl Recovered {
    /// A ring that cannot be opened: lost if it is rubbish, another's if somebody uses it, left for the next start
    /// otherwise.
    fn pass_over(&mut self, path: &Path, error: &RingFileError) {
        let file = path.display();
        match error {
            RingFileError::Io(error) => {
                error!(%file, error = chain(error), "cannot read the queue of an earlier run now: its calls stay there");
                self.left.push(path.to_owned());
            }
            RingFileError::InUse => warn!(%file, error = chain(error), "leaving a queue alone"),
            RingFileError::NotOurs | RingFileError::BadHeader => {
                error!(%file, error = chain(error), "cannot read the queue of an earlier run: its calls are lost");
                self.unknown = true;
            }
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

/// Recovers the rings at these paths. Fails only if the SQLite file turns out to be damaged.
pub(crate) fn recover(
    connection: &mut Connection,
    paths: &[PathBuf],
    target: Target,
) -> rusqlite::Result<Recovered> {
    let mut all = Recovered::default();
    for path in paths {
        let left = match LeftRing::open(path) {
            Ok(None) => continue,
            Ok(Some(left)) => left,
            Err(error) => {
                all.pass_over(path, &error);
                continue;
            }
        };
        match recover_one(connection, &left, target) {
            Ok((records, damaged)) => {
                all.records += records;
                all.damaged += damaged;
                tell(path, records, damaged);
                if let Err(error) = fs::remove_file(path) {
                    warn!(file = %path.display(), error = chain(&error), "cannot delete the queue of an earlier run");
                }
            }
            Err(RecoverError::Sqlite(error)) if trouble::is_damage_at_open(&error) => return Err(error),
            Err(error) => {
                error!(
                    file = %path.display(),
                    error = chain(&error),
                    "calls of an earlier run stay in its queue until the next start"
                );
                all.left.push(path.clone());
            }
        }
    }
    Ok(all)
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
    transaction.commit()?;
    Ok((sum.written, sum.damaged + sum.unreadable))
}

fn tell(path: &Path, records: u64, damaged: u64) {
    if records > 0 {
        info!(records, "calls that an earlier run had not written yet were found in its queue");
    }
    if damaged > 0 {
        error!(file = %path.display(), records = damaged, "calls in the queue of an earlier run were damaged: they are lost");
    }
}
