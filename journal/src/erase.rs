//! Erasing a person: removes or anonymises the calls of one user or organisation, everywhere this machine can reach, and
//! says what it did and what is left.
//!
//! ```text
//! queue ─▶ file: outbox, quarantine, store, usage ─▶ PostgreSQL: every day, usage
//!   3              1 and again 3                        2 and again 4
//! ```
//!
//! 1. The SQLite file, in pieces of a few milliseconds, between which the proxy that writes it goes on. A queue that a
//!    killed proxy has left is written down before, as its next start would.
//! 2. PostgreSQL, every table that holds days, in pieces; no day is being compressed meanwhile.
//! 3. If a proxy is at work: what was in its queue has come into the file by now.
//! 4. What was on its way to PostgreSQL has arrived when the outbox's cursor is beyond what (3) has seen; then PostgreSQL
//!    once more.
//!
//! Every piece is a transaction of its own that also marks the buckets whose rollups it changes. So it may end anywhere
//! and be begun again; what is done is done. Calls that end after the command has begun are recorded as ever.
//!
//! Deleting is not enough: databases keep the bytes until they need the room. The file is rewritten and its log cut
//! (`residue`), PostgreSQL's tables are vacuumed and their statistics made anew. Backups, replicas of the database and
//! its write-ahead log are out of reach.
//!
//! Bodies of calls go in either manner: what was said leads to a person.
//!
//! * `traces` says what of a call leads to a person; `file` and `waiting` work on the SQLite file, `postgres` and `days`
//!   on PostgreSQL; `rollup::forget` on the usage tables of both. `run` puts them in order.

mod bodies;
mod days;
mod file;
mod postgres;
mod residue;
mod run;
mod traces;
mod waiting;

use crate::{migrate::SCHEMA_VERSION, tls::TlsError};
use std::{collections::BTreeMap, path::PathBuf};
use uuid::Uuid;

pub use run::{Places, erase};

/// Whose calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Of the user with this `user_id`.
    User(String),
    /// Of everybody in the organisation with this `organization_id`.
    Organization(String),
}

/// What becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Nothing is done; they are counted.
    Count,
    /// They go, and totals with them as far as the calls are still there.
    Remove,
    /// They stay, without anything that leads to a person, under one name that nobody had before. Totals stay.
    Anonymise,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Erasure {
    pub(crate) whose: Whose,
    pub(crate) manner: Manner,
    /// What stands in the place of the user when calls are anonymised.
    pub(crate) name: String,
    /// What new ids are derived with where one call may be stored twice; never stored or shown.
    salt: String,
}

/// What was done. Serves the person who has to answer for it, so nothing that is left is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EraseReport {
    /// Rows removed, anonymised or counted, by place (a file, a database) and table; tables that had none as well.
    pub rows: BTreeMap<(String, String), u64>,
    /// What could not be reached.
    pub left: Vec<Leftover>,
    /// What else is good to know.
    pub notes: Vec<String>,
}

/// Something that may still hold calls of the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// A file or a database.
    pub place: String,
    /// What is there.
    pub text: String,
    /// What to do about it.
    pub advice: String,
}

/// Why not all was erased. What was done before stays done; the same command again goes on.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// A SQLite file cannot be read or written.
    #[error("cannot erase in {}", .file.display())]
    Sqlite {
        /// The file.
        file: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A SQLite file is of another version of this program, or of another program.
    #[error("{} is not of this version of mcpmeter: start `mcpmeter serve` of this version on it once", .file.display())]
    OtherVersion {
        /// The file.
        file: PathBuf,
    },
    /// No connection to PostgreSQL.
    #[error("cannot connect to PostgreSQL: nothing was erased")]
    Connect(#[from] deadpool_postgres::PoolError),
    /// TLS towards PostgreSQL cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database is of another version.
    #[error(
        "the database has schema version {found}, this mcpmeter knows {SCHEMA_VERSION}: run `mcpmeter migrate`"
    )]
    Schema {
        /// The version that is there.
        found: i32,
    },
    /// The role may store calls and not delete them.
    #[error("the role of store.url may not erase: use the owner of the tables (MCPMETER_STORE__URL)")]
    Denied(#[source] tokio_postgres::Error),
    /// A day is being compressed, which may take minutes.
    #[error("a day is just being compressed: try again in some minutes")]
    Compressing(#[source] tokio_postgres::Error),
    /// PostgreSQL refused a statement.
    #[error("cannot erase in PostgreSQL")]
    Postgres(#[source] tokio_postgres::Error),
    /// The thread that worked on a file panicked.
    #[error("the working thread panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Whose {
    /// The column, of calls and of usage.
    pub(crate) const fn column(&self) -> &'static str {
        match self {
            Self::User(_) => "user_id",
            Self::Organization(_) => "organization_id",
        }
    }

    /// The id.
    pub fn id(&self) -> &str {
        match self {
            Self::User(id) | Self::Organization(id) => id,
        }
    }
}

impl Erasure {
    /// The calls of somebody, and what is to become of them.
    pub fn new(whose: Whose, manner: Manner) -> Self {
        let random = || Uuid::new_v4().simple().to_string();
        Self { whose, manner, name: format!("anonymous-{}", &random()[..12]), salt: random() }
    }

    /// The name under which anonymised calls are found; another one for every erasure.
    pub fn name(&self) -> Option<&str> {
        (self.manner == Manner::Anonymise).then_some(&self.name)
    }
}

impl EraseReport {
    /// How many rows of all tables.
    pub fn total(&self) -> u64 {
        self.rows.values().sum()
    }

    pub(crate) fn count(&mut self, place: &str, table: &str, rows: u64) {
        *self.rows.entry((place.to_owned(), table.to_owned())).or_default() += rows;
    }

    pub(crate) fn leave(&mut self, place: impl ToString, text: impl Into<String>, advice: impl Into<String>) {
        let left = Leftover { place: place.to_string(), text: text.into(), advice: advice.into() };
        if !self.left.contains(&left) {
            self.left.push(left);
        }
    }
}

impl EraseError {
    /// Whether PostgreSQL was not there at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect(_))
    }
}
