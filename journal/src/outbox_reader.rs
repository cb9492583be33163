//! Reads the outbox for the shipper, on a thread that may block, over a read-only connection.

use crate::{
    journal::Shared,
    outbox::{self, Entry},
    sqlite::OpenedReader,
    trouble,
};
use rusqlite::Connection;
use std::{path::PathBuf, sync::Arc};
use tokio::task::spawn_blocking;

/// Why the outbox could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("the reading thread panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The reading side of the outbox.
pub(crate) struct OutboxReader {
    file: PathBuf,
    /// Told of damage.
    shared: Arc<Shared>,
    /// Absent while a read is going on, and after one that failed or was given up.
    open: Option<OpenedReader>,
}

impl OutboxReader {
    /// A reader of the file; opens it when it is first asked.
    pub(crate) const fn new(file: PathBuf, shared: Arc<Shared>) -> Self {
        Self { file, shared, open: None }
    }

    /// The next batch, see [`outbox::read`].
    pub(crate) async fn read(&mut self, after: i64, up_to: i64) -> Result<Vec<Entry>, OutboxError> {
        self.ask(move |connection| outbox::read(connection, after, up_to)).await
    }

    /// How many rows there are, see [`outbox::count_between`].
    pub(crate) async fn count_between(&mut self, after: i64, up_to: i64) -> Result<(u64, u64), OutboxError> {
        self.ask(move |connection| outbox::count_between(connection, after, up_to)).await
    }

    /// Asks the file anything, on a thread that may block.
    pub(crate) async fn ask<T: Send + 'static>(
        &mut self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let (open, file, shared) = (self.open.take(), self.file.clone(), Arc::clone(&self.shared));
        let work = move || {
            let current = open.filter(|open| open.is_current(&file));
            let open = current.map_or_else(|| OpenedReader::open(&file), Ok)?;
            let answer = question(&open.connection).inspect_err(|error| {
                if let Some(inode) = open.inode().filter(|_| trouble::is_damage(error)) {
                    shared.report_damage(inode);
                }
            })?;
            Ok::<_, rusqlite::Error>((open, answer))
        };
        let (open, answer) = spawn_blocking(work).await??;
        self.open = Some(open);
        Ok(answer)
    }
}
