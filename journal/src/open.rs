//! Opens the journal: lock, file, books, writer, and the shipper if there is a PostgreSQL to ship to.

use crate::{
    accounts::Ledger,
    health::Notice,
    journal::{Journal, Shared},
    lock::{FileLock, LockError, lock_path},
    orders::Orders,
    outbox,
    outbox_reader::OutboxReader,
    postgres,
    postgres_url::PostgresUrl,
    queue::Queue,
    shipper::{Parts, Shipper},
    sqlite::{self, SqliteError},
    store,
    tls::TlsError,
    writer::{OnTaken, Target, Writer},
    writer_handle::WriterHandle,
};
use rusqlite::Connection;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::sync_channel},
};
use tracing::{info, warn};

/// Connections of the shipper: one at work, one for the moment in which that one is being replaced.
const POOL: usize = 2;
/// Places for what others ask of the writer; a few per second at most.
const ORDERS: usize = 64;

/// What the journal is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The SQLite file; made if it is not there. Its directory has to exist.
    pub sqlite_file: PathBuf,
    /// Where the rows go; without it the file is the store.
    pub postgres: Option<PostgresUrl>,
    /// How many finished records may wait for the writer; beyond that the newest are dropped and counted.
    pub queue_records: usize,
    /// Whether the shipper applies `schema.sql` before it ships.
    pub migrate: bool,
}

/// An open journal and the two parties that work on it.
pub struct Opened {
    /// For the request path, the pages and the metrics.
    pub journal: Journal,
    /// The thread that writes the file, running.
    pub writer: WriterHandle,
    /// The task that ships to PostgreSQL, to be run; absent without PostgreSQL.
    pub shipper: Option<Shipper>,
}

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes this file.
    #[error("{} is in use by another mcpmeter (it holds the lock on {})", .file.display(), lock_path(.file).display())]
    InUse {
        /// The SQLite file.
        file: PathBuf,
    },
    /// The lock file cannot be made or locked.
    #[error("cannot lock {}", .file.display())]
    Lock {
        /// The lock file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The SQLite file cannot be used.
    #[error("cannot open {}", .file.display())]
    File {
        /// The SQLite file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS towards PostgreSQL cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The writer's thread cannot be started.
    #[error("cannot start the journal's writer")]
    Thread(#[from] io::Error),
}

/// Opens the journal and starts its writer. Needs no running PostgreSQL, and no runtime until the shipper runs.
pub fn open(options: Options, on_taken: OnTaken) -> Result<Opened, OpenError> {
    let Options { sqlite_file, postgres, queue_records, migrate } = options;
    let lock = Arc::new(take_lock(&sqlite_file)?);
    let cannot_open =
        |source: SqliteError| OpenError::File { file: sqlite_file.clone(), source: source.into() };
    let mut connection = sqlite::open_writer(&sqlite_file).map_err(cannot_open)?;
    let spool_id = sqlite::spool_id(&mut connection).map_err(|error| cannot_open(error.into()))?;
    let (waiting, last_seq) = outbox::survey(&connection).map_err(|error| cannot_open(error.into()))?;
    tell_what_is_there(&connection, postgres.is_some(), waiting)
        .map_err(|error| cannot_open(error.into()))?;

    let target = if postgres.is_some() { Target::Outbox } else { Target::Store };
    let ledger = Ledger::new(target == Target::Store, waiting, last_seq);
    let shared = Arc::new(Shared::new(Queue::new(queue_records), ledger, Notice::new(postgres.is_some())));
    let (orders, received) = sync_channel(ORDERS);
    let shipper = match postgres {
        Some(url) => Some(Shipper::new(Parts {
            shared: Arc::clone(&shared),
            pool: postgres::pool(&url, POOL)?,
            url,
            orders: Orders(orders.clone()),
            outbox: OutboxReader::new(sqlite_file),
            spool_id,
            migrate,
            lock: Arc::clone(&lock),
        })),
        None => None,
    };
    let writer = Writer::new(Arc::clone(&shared), connection, target, received, on_taken, lock);
    let writer = WriterHandle::start(writer, orders, Arc::clone(&shared))?;
    Ok(Opened { journal: Journal::new(shared), writer, shipper })
}

fn take_lock(sqlite_file: &Path) -> Result<FileLock, OpenError> {
    FileLock::take(sqlite_file).map_err(|error| match error {
        LockError::Held => OpenError::InUse { file: sqlite_file.to_owned() },
        LockError::Io(source) => OpenError::Lock { file: lock_path(sqlite_file), source },
    })
}

/// What an earlier process, maybe with another configuration, left in the file.
fn tell_what_is_there(connection: &Connection, with_postgres: bool, waiting: u64) -> rusqlite::Result<()> {
    let rows = if with_postgres { store::count(connection)? } else { 0 };
    if rows > 0 {
        warn!(rows, "the SQLite file holds calls from a time without PostgreSQL: they stay there");
    }
    match (waiting, with_postgres) {
        (0, _) => {}
        (records, true) => info!(records, "calls of an earlier run wait in the outbox for PostgreSQL"),
        (records, false) => {
            warn!(
                records,
                "calls wait in the outbox for PostgreSQL, but none is configured: they stay there"
            );
        }
    }
    Ok(())
}
