//! How the writer ends: with the file tidy and no queue left behind, or with the queue where the next process finds it.

use super::Writer;
use crate::{accounts::LossReason, chain::chain, lock::Noted};
use rusqlite::TransactionBehavior;
use std::time::Duration;
use tracing::{error, warn};

/// How long each of the last attempts waits for a lock on a file that could not be written.
const LAST_PATIENCE: Duration = Duration::from_millis(100);

impl Writer {
    /// Ends; returns how many records could not be written.
    ///
    /// The queue's file is deleted if, and only if, nothing can be in it that is not durable: it is shut first, so that
    /// nothing comes in any more, then emptied, and looked at once more. Whatever else is the case it stays, and the
    /// lock file goes on saying where. A queue without a file is shut whatever is in it: nobody will find that.
    ///
    /// Calls that come after this have no gap row. They are counted, and whoever ends the process says how many.
    pub(super) fn end(mut self) -> u64 {
        if let Some(connection) = self.connection.as_ref().filter(|_| self.failing) {
            // Whoever closes has waited long enough for somebody else's lock.
            drop(connection.busy_timeout(LAST_PATIENCE));
        }
        if self.is_drained() || self.drain.file().is_none() {
            self.drain.shut();
            // What has come in since it was looked at.
            self.tick();
        }
        let unwritten = if self.is_drained() {
            // Those that came while the queue was shut.
            self.write_last_gaps();
            self.delete_queue();
            0
        } else if self.drain.file().is_some() {
            self.leave_queue()
        } else {
            self.give_up_queue()
        };
        if let Some(connection) = &self.connection {
            // Folds the log into the file. A reader may be in the way; then the next process does it.
            drop(connection.execute_batch("pragma wal_checkpoint(truncate)"));
        }
        unwritten
    }

    fn delete_queue(&mut self) {
        // Before the file goes: killed in between, the next process must not take it for one that has been lost.
        if let Some(path) = self.drain.file() {
            let own = Noted::planned(path.to_owned());
            self.notebook.note(self.left.iter().cloned().chain([own]).collect());
        }
        match self.drain.delete(self.connection.as_ref()) {
            Ok(()) => self.notebook.note(self.left.clone()),
            Err(error) => warn!(error = chain(&error), "cannot delete the queue's file"),
        }
    }

    fn leave_queue(&mut self) -> u64 {
        let records = self.count_pending();
        error!(
            records,
            file = %self.queue.path.display(),
            "the journal's file took nothing to the end: finished calls stay in the queue for the next start"
        );
        records
    }

    /// The same where there is no file: they are lost. The next process learns that from their gap row, or, if the disk
    /// does not even take that, from the name of a queue that is not there.
    fn give_up_queue(&mut self) -> u64 {
        let records = self.count_pending();
        self.shared.ledger.count_lost(LossReason::DiskError, records);
        error!(records, "the journal's file took nothing to the end: finished calls are lost");
        if self.write_last_gaps() {
            self.notebook.note(self.left.clone());
        }
        records
    }

    fn count_pending(&mut self) -> u64 {
        let ranges = self.drain.pending();
        ranges.iter().map(|range| self.drain.frames(range).count() as u64).sum()
    }

    /// Writes what the books lack, without anything else; false if the disk does not take it.
    fn write_last_gaps(&mut self) -> bool {
        self.gaps.observe(&self.shared.ledger);
        while self.gaps.is_open() {
            let Some(connection) = &mut self.connection else { return false };
            self.gaps.prepare();
            let written = connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(
                |transaction| {
                    self.gaps.write(&transaction)?;
                    transaction.commit()
                },
            );
            if let Err(error) = written {
                warn!(error = chain(&error), "cannot note in the journal's file which calls are lost");
                return false;
            }
            self.gaps.settle();
        }
        true
    }

    /// Notes for the next process the queues that are still to be written down, these, and that of this process.
    pub(super) fn note(&mut self, others: Vec<Noted>) {
        let queues = self.left.iter().cloned().chain(others).chain([self.queue.clone()]);
        self.notebook.note(queues.collect());
    }
}
