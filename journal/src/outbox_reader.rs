//! Reads the outbox for the shipper, on a thread that may block, over a read-only connection.

use crate::{
    outbox::{self, Entry},
    sqlite,
};
use rusqlite::Connection;
use std::path::PathBuf;
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
    /// Absent while a read is going on, and after one that failed or was given up.
    connection: Option<Connection>,
}

impl OutboxReader {
    /// A reader of the file; opens it when it is first asked.
    pub(crate) const fn new(file: PathBuf) -> Self {
        Self { file, connection: None }
    }

    /// The next batch, see [`outbox::read`].
    pub(crate) async fn read(&mut self, after: i64, up_to: i64) -> Result<Vec<Entry>, OutboxError> {
        self.ask(move |connection| outbox::read(connection, after, up_to)).await
    }

    /// How many rows there are, see [`outbox::count_between`].
    pub(crate) async fn count_between(&mut self, after: i64, up_to: i64) -> Result<(u64, u64), OutboxError> {
        self.ask(move |connection| outbox::count_between(connection, after, up_to)).await
    }

    async fn ask<T: Send + 'static>(
        &mut self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let (open, file) = (self.connection.take(), self.file.clone());
        let work = move || {
            let connection = open.map_or_else(|| sqlite::open_reader(&file), Ok)?;
            let answer = question(&connection)?;
            Ok::<_, rusqlite::Error>((connection, answer))
        };
        let (connection, answer) = spawn_blocking(work).await??;
        self.connection = Some(connection);
        Ok(answer)
    }
}
