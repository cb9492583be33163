//! How far the outbox has been shipped, as far as this process knows.

use crate::{accounts::LossReason, journal::Shared};
use std::{collections::BTreeSet, sync::Arc};

/// Three numbers of the outbox, and the accounts that go with them.
pub(super) struct Progress {
    shared: Arc<Shared>,
    /// Where PostgreSQL's cursor certainly is; `None` if only PostgreSQL knows.
    pub(super) cursor: Option<i64>,
    /// Up to here everything is counted as stored or set aside.
    pub(super) settled: i64,
    /// Where this process has tried to move the cursor to since then. More than one if attempts failed: the
    /// server may still be busy with a commit whose connection has long been given up.
    attempted: BTreeSet<i64>,
}

impl Progress {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, cursor: None, settled: 0, attempted: BTreeSet::new() }
    }

    /// An attempt to move the cursor begins; until it is known to have worked only PostgreSQL knows.
    pub(super) fn attempt(&mut self, to: i64) {
        self.cursor = None;
        self.attempted.insert(to);
    }

    /// The cursor is at `to`, and so many records, read from the outbox in that life of its file, were stored and
    /// set aside on the way there.
    pub(super) fn arrive(&mut self, stored: u64, aside: u64, to: i64, life: u64) {
        self.cursor = Some(to);
        self.settled = self.settled.max(to);
        self.attempted.retain(|attempted| *attempted > to);
        // If the file was set aside in the meantime its records have new numbers, under which they are counted.
        self.shared.in_life(life, || {
            self.shared.ledger.count_stored(stored);
            self.shared.ledger.count_lost(LossReason::Quarantined, aside);
            self.shared.retire(self.settled);
        });
    }

    /// Whether a cursor that PostgreSQL reports can come from this file: behind what is settled, where this process
    /// has tried to move it, or, at first contact, where an earlier process may have.
    pub(super) fn is_ours(&self, cursor: i64) -> bool {
        // The highest number that an earlier process can have shipped.
        let inherited = self.shared.ledger.opening().seq;
        let known = if self.settled > 0 { self.settled } else { inherited };
        cursor <= known || self.attempted.contains(&cursor)
    }
}
