//! Every task has an owner who can wait for its end. Nothing else in this crate calls `tokio::spawn`.

use std::time::Duration;
use tokio_util::task::TaskTracker;

/// The tasks of one owner. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
}

impl Tasks {
    /// Starts a task on the runtime of the caller. What it results in is dropped.
    #[expect(clippy::disallowed_methods, reason = "the one place where tasks are spawned")]
    pub(crate) fn spawn(&self, future: impl Future<Output: Send> + Send + 'static) {
        tokio::spawn(self.tracker.track_future(future));
    }

    /// Waits until none is running any more; `false` if that takes longer than `limit`.
    pub(crate) async fn wait(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}
