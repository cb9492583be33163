//! What is going on at this moment, in the few numbers that a person wants to see.

use crate::lifecycle::{Activity, Kind};
use mcpmeter_journal::Journal;
use std::sync::{Arc, OnceLock};

/// Where the numbers are. Cheap to read.
pub(crate) struct Pulse {
    pub(crate) journal: Journal,
    /// Known once the workers have been started.
    pub(crate) activity: Arc<OnceLock<Vec<Arc<Activity>>>>,
}

impl Pulse {
    /// Exchanges that owe their clients an answer.
    pub(crate) fn in_flight(&self) -> i64 {
        self.activity
            .get()
            .map_or(0, |workers| workers.iter().map(|worker| worker.count(Kind::Exchange)).sum())
    }

    /// Calls that were not stored and never will be.
    pub(crate) fn lost(&self) -> u64 {
        self.journal.accounts().lost_total()
    }
}
