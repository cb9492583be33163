//! The calls as they happen, for whoever watches. Rendering happens on the journal's writer thread and only
//! while somebody watches; a watcher that is too slow misses calls and is told how many.

use mcpmeter_journal::Row;
use mcpmeter_observer::CallRecord;
use std::sync::Arc;
use tokio::sync::broadcast::{self, Receiver, Sender};

/// Calls that a slow watcher may be behind.
const BEHIND: usize = 1024;

/// Where calls are announced. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    sender: Sender<Arc<str>>,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::channel(BEHIND).0 }
    }

    /// Watches from now on: each call is one JSON object with the columns' names as keys.
    pub(crate) fn watch(&self) -> Receiver<Arc<str>> {
        self.sender.subscribe()
    }

    pub(crate) fn announce(&self, records: &[CallRecord]) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        for record in records {
            if let Ok(json) = serde_json::to_string(&Row::from_record(record)) {
                // The last watcher may have left in between.
                let _ = self.sender.send(json.into());
            }
        }
    }
}
