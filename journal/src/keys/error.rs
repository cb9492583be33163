//! Why keys could not be read or changed. No text here holds a secret, or the password of a database.

use crate::{chain::chain, postgres_url::PostgresUrl, sqlite, value::rfc3339};
use mcpmeter_observer::Timestamp;
use std::path::PathBuf;
use tokio_postgres::error::SqlState;

/// Why keys could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key has this id, nor one that begins so.
    #[error("there is no key {id}")]
    Unknown {
        /// What was asked for.
        id: String,
    },
    /// Several keys' ids begin so.
    #[error("{count} keys have an id that begins with {id}: write more of it")]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// How many keys.
        count: usize,
    },
    /// Too little of an id to stand for one.
    #[error("{id} is too little of an id: write at least key_ and the four characters behind it")]
    TooShort {
        /// What was asked for.
        id: String,
    },
    /// There is a key with this id already.
    #[error("there is a key {id} already")]
    Taken {
        /// The id.
        id: String,
    },
    /// The key was revoked, and stays so.
    #[error("{id} was revoked at {}: make another key", rfc3339(*.at))]
    Revoked {
        /// The key.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// The key has expired.
    #[error("{id} expired at {}: make another key", rfc3339(*.at))]
    Expired {
        /// The key.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// The SQLite file is not there, and is not made only to be read.
    #[error("{} does not exist: no key has been made there yet", .file.display())]
    NoFile {
        /// The file.
        file: PathBuf,
    },
    /// The SQLite file cannot be used.
    #[error("cannot use {}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The SQLite file is of another version of this program.
    #[error(
        "{} is of {} version of mcpmeter: {}",
        .file.display(),
        if sqlite::is_earlier(*.format) { "an earlier" } else { "a newer" },
        if sqlite::is_earlier(*.format) { "start `mcpmeter serve` of this version on it once" } else { "update this one" }
    )]
    OtherVersion {
        /// The file.
        file: PathBuf,
        /// The format of its tables.
        format: i64,
    },
    /// The database has no tables for keys.
    #[error("the database has no tables for keys: run `mcpmeter migrate`")]
    NoTables,
    /// PostgreSQL cannot be connected to, or does not answer.
    #[error("cannot reach PostgreSQL: {0}")]
    Unreachable(String),
    /// PostgreSQL refuses.
    #[error("PostgreSQL refuses: {0}")]
    Refused(String),
    /// What stands in the tables was not written by this program.
    #[error("what stands in the tables of keys cannot be read")]
    Unreadable,
    /// The thread that used the file panicked.
    #[error("the thread that uses the file panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

impl KeyError {
    /// Whether the store was not there at all, as opposed to there and unwilling.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// What PostgreSQL says, or why it says nothing.
    pub(super) fn of_postgres(url: &PostgresUrl, error: &tokio_postgres::Error) -> Self {
        let text = url.redact(&chain(error));
        match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => Self::NoTables,
            // A server that is starting or stopping says so (class 57), and is as good as none.
            Some(code) if !code.code().starts_with("57") => Self::Refused(text),
            _ => Self::Unreachable(text),
        }
    }
}
