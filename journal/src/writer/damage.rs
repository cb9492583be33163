//! What the writer does when its file turns out to be damaged while it is at work: it sets it aside and goes on in
//! a new one. The records in the queue are not touched: they are written into the new file.

use super::{WriteError, Writer};
use crate::{
    accounts::LossReason,
    corrupt::{Identity, Salvage},
    file::{self, Fresh},
    gap,
    inscribe::Target,
    outbox,
    quota::Quota,
    sqlite,
};
use rusqlite::Transaction;
use std::time::{Duration, Instant};

/// The shortest time between two damaged files. A disk that damages everything is a failing disk; setting files
/// aside for ever would fill it.
const BETWEEN_DAMAGES: Duration = Duration::from_secs(60);

impl Writer {
    /// Whether a damaged file may be set aside now.
    pub(super) fn may_replace(&self) -> bool {
        self.replaced.is_none_or(|replaced| replaced.elapsed() >= BETWEEN_DAMAGES)
    }

    /// Goes on in a new file if somebody found this one damaged.
    pub(super) fn replace_if_damaged(&mut self) -> Result<(), WriteError> {
        let inode = sqlite::inode(&self.site.file);
        if inode.is_some_and(|inode| self.shared.take_damage_of(inode)) {
            self.damaged.get_or_insert_with(|| "the shipper could not read it".to_owned());
        }
        if self.damaged.is_none() || !self.may_replace() {
            return Ok(());
        }
        let reason = self.damaged.take().unwrap_or_default();
        self.replace(&reason).inspect_err(|_| self.damaged = Some(reason))
    }

    fn replace(&mut self, reason: &str) -> Result<(), WriteError> {
        let told = self.connection.as_mut().and_then(|connection| sqlite::spool_id(connection).ok());
        self.spool_id = told.or(self.spool_id);
        // Closed before it is renamed, or the log of the old file would be taken for that of the new one.
        self.connection = None;
        let last_seq = self.shared.ledger.written_seq();
        let known = self.spool_id.map(|spool_id| Identity { spool_id, last_seq });
        let after = self.shared.end_life();
        let (ledger, mut lost) = (&self.shared.ledger, 0);
        // Before the new file takes the place of the old one: a kill in between forgets neither how far the queue was
        // read nor what is lost.
        let mut note = |transaction: &Transaction<'_>, salvage: &Salvage| {
            self.drain.note_all(transaction)?;
            if self.site.target == Target::Store {
                return gap::note(transaction, LossReason::Corrupt, 0);
            }
            lost = ledger.snapshot().outbox.saturating_sub(salvage.records);
            if lost > 0 { gap::note(transaction, LossReason::Corrupt, lost) } else { Ok(()) }
        };
        let Fresh { connection, .. } = file::replace(&self.site.file, reason, known, after, &mut note)?;
        if let Some(quota) = &mut self.quota {
            quota.adapt(&connection)?;
            // There are no rows of another time in the new file.
            quota.disregard_empty_tables(&connection)?;
            Quota::note_beside(quota.beside_bytes(), &connection)?;
        }
        let (_, last_seq) = outbox::survey(&connection)?;
        self.connection = Some(connection);
        self.replaced = Some(Instant::now());
        self.shared.count_set_aside();
        if self.site.target == Target::Outbox {
            self.gaps.skip(LossReason::Corrupt, lost);
            // Counted before the shipper may read what was saved, which takes it out of the outbox.
            ledger.count_lost_late(LossReason::Corrupt, lost);
            ledger.count_written(0, last_seq);
        }
        Ok(())
    }
}
