//! How the writer ends: with the file tidy and no queue left behind, or with the queue where the next process finds it.

use super::Writer;
use crate::{accounts::LossReason, chain::chain, lock::Noted};
use tracing::{error, warn};

impl Writer {
    /// Ends; returns how many records could not be written.
    ///
    /// The queue's file is deleted if, and only if, nothing can be in it that is not durable: it is shut first, so that
    /// nothing comes in any more, then emptied, and looked at once more. Whatever else is the case it stays, and the
    /// lock file goes on saying where.
    pub(super) fn end(mut self) -> u64 {
        if self.is_drained() {
            self.drain.shut();
            // What has come in since it was looked at.
            self.tick();
        }
        let unwritten = if self.is_drained() {
            self.delete_queue();
            0
        } else {
            self.leave_queue()
        };
        if let Some(connection) = &self.connection {
            // Folds the log into the file. A reader may be in the way; then the next process does it.
            drop(connection.execute_batch("pragma wal_checkpoint(truncate)"));
        }
        unwritten
    }

    fn delete_queue(&mut self) {
        // Before the file goes: killed in between, the next process must not take it for one that has been lost.
        let own = self.drain.file().map(|path| Noted::planned(path.to_owned()));
        self.notebook.note(self.left.iter().cloned().chain(own).collect());
        match self.drain.delete(self.connection.as_ref()) {
            Ok(()) => self.notebook.note(self.left.clone()),
            Err(error) => warn!(error = chain(&error), "cannot delete the queue's file"),
        }
    }

    fn leave_queue(&mut self) -> u64 {
        let ranges = self.drain.pending();
        let records = ranges.iter().map(|range| self.drain.frames(range).count() as u64).sum();
        match self.drain.file() {
            Some(file) => error!(
                records,
                file = %file.display(),
                "the journal's file took nothing to the end: finished calls stay in the queue for the next start"
            ),
            None => {
                self.shared.ledger.count_lost(LossReason::DiskError, records);
                error!(records, "the journal's file took nothing to the end: finished calls are lost");
            }
        }
        records
    }

    /// Notes for the next process the queues that are still to be written down, these, and that of this process.
    pub(super) fn note(&mut self, others: Vec<Noted>) {
        let queues = self.left.iter().cloned().chain(others).chain([self.queue.clone()]);
        self.notebook.note(queues.collect());
    }
}
