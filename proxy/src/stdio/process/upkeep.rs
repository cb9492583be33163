//! The tasks that read and write a program's pipes. They end with the pipes, and at the latest with the program's owner:
//! what has escaped from its group may hold a pipe open for ever.

use crate::tasks::Tasks;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A program's tasks, until it is dropped.
pub(super) struct Upkeep {
    tasks: Tasks,
    end: CancellationToken,
    _ends: DropGuard,
}

impl Upkeep {
    pub(super) fn new() -> Self {
        let end = CancellationToken::new();
        Self { tasks: Tasks::default(), _ends: end.clone().drop_guard(), end }
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tasks.spawn(async move {
            let _ = end.run_until_cancelled(work).await;
        });
    }
}
