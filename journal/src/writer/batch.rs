//! One transaction of the writer: records, how far they are durable, gaps, and the deletion of what PostgreSQL
//! has. All of it or nothing.

use super::OnTaken;
use crate::{
    accounts::LossReason,
    body,
    gap::Gaps,
    inscribe::{Inscribed, Sheet, Target, inscribe},
    journal::Shared,
    outbox::{self, FORMAT},
    ring::{Drain, Range},
    sample::{Samples, Written},
};
use rusqlite::{Connection, TransactionBehavior};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tracing::error;

/// What is to be written, and what that needs.
pub(super) struct Batch<'a> {
    pub(super) ranges: &'a [Range],
    pub(super) target: Target,
    /// Whether the records are to be dropped and counted.
    pub(super) refuse: bool,
    /// Up to where the outbox is to be emptied.
    pub(super) retire: Option<i64>,
    pub(super) drain: &'a mut Drain,
    pub(super) sheet: &'a mut Sheet,
    pub(super) on_taken: &'a mut OnTaken,
    pub(super) gaps: &'a Gaps,
    pub(super) samples: &'a Samples,
    pub(super) bodies: &'a body::Bodies,
    /// The quota of the outbox.
    pub(super) max_bytes: Option<u64>,
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    inscribed: Inscribed,
    /// Dropped because the outbox is full.
    refused: u64,
    pub(super) samples: Written,
    pub(super) bodies: body::Written,
}

impl Outcome {
    /// Enters it in the books.
    pub(super) fn count(&self, shared: &Shared) {
        let Inscribed { written, duplicates, unreadable, damaged, last_seq } = self.inscribed;
        let ledger = &shared.ledger;
        ledger.count_written(written, last_seq.unwrap_or(0));
        ledger.count_lost_early(LossReason::OutboxFull, self.refused);
        ledger.count_lost_early(LossReason::Quarantined, unreadable);
        ledger.count_lost_early(LossReason::Corrupt, damaged);
        if duplicates > 0 {
            shared.notice.tell_duplicates(duplicates);
        }
    }
}

impl Batch<'_> {
    /// Writes everything in one transaction.
    pub(super) fn write(&mut self, connection: &mut Connection) -> rusqlite::Result<Outcome> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut outcome = Outcome::default();
        for range in self.ranges {
            self.show(range);
            let mut frames = self.drain.frames(range);
            if self.refuse {
                outcome.refused += frames.by_ref().count() as u64;
                outcome.inscribed.damaged += frames.count_damaged();
            } else {
                outcome.inscribed.add(inscribe(&transaction, self.target, FORMAT, frames, self.sheet)?);
            }
            self.drain.note(&transaction, range)?;
        }
        self.gaps.write(&transaction)?;
        outcome.samples = self.samples.write(&transaction, self.target, self.refuse, self.max_bytes)?;
        outcome.bodies = self.bodies.write(&transaction, self.target)?;
        if let Some(up_to) = self.retire {
            outbox::retire(&transaction, up_to)?;
        }
        transaction.commit()?;
        Ok(outcome)
    }

    /// Decodes the records, if anybody needs that, and shows them to whoever watches, once.
    fn show(&mut self, range: &Range) {
        let seen = self.drain.is_seen(range);
        if seen && self.target == Target::Outbox {
            return;
        }
        self.sheet.fill(FORMAT, self.drain.frames(range));
        if seen {
            return;
        }
        self.drain.mark_seen(range);
        let records = &self.sheet.records;
        // A fault in a metric must not end the recording.
        if !records.is_empty() && catch_unwind(AssertUnwindSafe(|| (self.on_taken)(records))).is_err() {
            error!("whoever watches the records as they are taken panicked");
        }
    }

    /// Shows what could not be written: the live tail does not depend on the disk.
    pub(super) fn show_all(&mut self) {
        for range in self.ranges {
            if !self.drain.is_seen(range) {
                self.show(range);
            }
        }
    }
}
