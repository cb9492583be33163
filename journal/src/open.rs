//! Opens the journal: lock, file, what an earlier process left in the queue, the queue, books, writer, and the
//! shipper if there is a PostgreSQL to ship to.

mod ground;

use self::ground::Ground;
use crate::{
    accounts::Ledger,
    health::Notice,
    inscribe::Target,
    journal::{Journal, Shared},
    keeper::Keeper,
    lock::{FileLock, LockError, lock_path},
    orders::Orders,
    outbox_reader::OutboxReader,
    postgres,
    postgres_url::PostgresUrl,
    ring::{self, Made, Plan},
    shipper::{Parts, Shipper},
    sqlite,
    tls::TlsError,
    writer::{self, OnTaken, Writer},
    writer_handle::WriterHandle,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::sync_channel},
};
use tracing::{info, warn};

/// Connections: one for the shipper, two for the keeper, one for the moment in which one is being replaced.
const POOL: usize = 4;
/// Places for what others ask of the writer; a few per second at most.
const ORDERS: usize = 64;

/// What the journal is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The SQLite file; made if it is not there. Its directory has to exist.
    pub sqlite_file: PathBuf,
    /// Where the rows go; without it the file is the store.
    pub postgres: Option<PostgresUrl>,
    /// How many bytes finished records may take while they wait for the writer; beyond that the newest are
    /// dropped and counted.
    pub queue_bytes: usize,
    /// Where the queue's memory is a file: a directory in memory.
    pub queue_directory: PathBuf,
    /// How many bytes the outbox may take; the newest records are dropped and counted beyond that. Without it,
    /// the smaller of 2 GiB and a tenth of the volume.
    pub outbox_max_bytes: Option<u64>,
    /// How long rows are kept, and in what form.
    pub retention: Retention,
    /// Whether the shipper applies `schema.sql` before it ships.
    pub migrate: bool,
}

/// How long rows are kept, and in what form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// The age in days at which rows are deleted; 0 for never.
    pub days: u32,
    /// The age in days from which PostgreSQL keeps a day's rows compressed; 0 for never.
    pub compress_after_days: u32,
    /// The size in bytes beyond which the SQLite store loses its oldest rows; 0 for any size.
    pub sqlite_max_bytes: u64,
}

/// An open journal and the parties that work on it.
pub struct Opened {
    /// For the request path, the pages and the metrics.
    pub journal: Journal,
    /// The thread that writes the file, running.
    pub writer: WriterHandle,
    /// The task that ships to PostgreSQL, to be run; absent without PostgreSQL.
    pub shipper: Option<Shipper>,
    /// The task that keeps the tables in shape, to be run.
    pub keeper: Keeper,
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
    /// The system refuses the queue's memory or the writer's thread.
    #[error("cannot start the journal's writer")]
    Thread(#[from] io::Error),
}

/// Opens the journal and starts its writer. Needs no running PostgreSQL, and no runtime until the shipper runs.
/// What an earlier process left in its queue is durable when this returns.
pub fn open(options: Options, on_taken: OnTaken) -> Result<Opened, OpenError> {
    let target = if options.postgres.is_some() { Target::Outbox } else { Target::Store };
    let lock = Arc::new(take_lock(&options.sqlite_file)?);
    let mut ground = Ground::prepare(&options, target, &lock)?;
    tell_what_is_there(&ground, target)?;
    let spool_id =
        sqlite::spool_id(&mut ground.connection).map_err(|error| ground.cannot_open(error.into()))?;
    let quota = (target == Target::Outbox).then(|| ground.quota(options.outbox_max_bytes)).transpose()?;
    let Made { ring, drain } = make_ring(&options, &ground, &lock)?;

    let ledger = Ledger::new(target == Target::Store, ground.opening);
    let shared = Arc::new(Shared::new(ring, ledger, Notice::new(target == Target::Outbox)));
    if ground.set_aside {
        shared.count_set_aside();
    }
    let Options { sqlite_file, postgres, retention, migrate, .. } = options;
    let (orders, received) = sync_channel(ORDERS);
    let pool = postgres.as_ref().map(|url| postgres::pool(url, POOL)).transpose()?;
    let keeper = Keeper::new(
        sqlite_file.clone(),
        Orders(orders.clone()),
        pool.clone(),
        retention,
        Arc::clone(&shared),
    );
    let shipper = postgres.zip(pool).map(|(url, pool)| {
        Shipper::new(Parts {
            shared: Arc::clone(&shared),
            pool,
            url,
            orders: Orders(orders.clone()),
            outbox: OutboxReader::new(sqlite_file.clone(), Arc::clone(&shared)),
            spool_id,
            migrate,
            lock: Arc::clone(&lock),
        })
    });
    let writer = Writer::new(writer::Parts {
        shared: Arc::clone(&shared),
        file: sqlite_file,
        connection: ground.connection,
        spool_id,
        target,
        drain,
        quota,
        gaps: ground.gaps,
        orders: received,
        on_taken,
        lock,
    });
    let writer = WriterHandle::start(writer, orders, Arc::clone(&shared))?;
    Ok(Opened { journal: Journal::new(shared), writer, shipper, keeper })
}

fn take_lock(sqlite_file: &Path) -> Result<FileLock, OpenError> {
    FileLock::take(sqlite_file).map_err(|error| match error {
        LockError::Held => OpenError::InUse { file: sqlite_file.to_owned() },
        LockError::Io(source) => OpenError::Lock { file: lock_path(sqlite_file), source },
    })
}

/// Makes the queue's memory. Its name is written down before there is a file of that name: a kill in between
/// leaves a name without a file, never a file that nobody finds.
fn make_ring(options: &Options, ground: &Ground, lock: &FileLock) -> Result<Made, OpenError> {
    let directory = std::path::absolute(&options.queue_directory)?;
    let plan = Plan::new(options.queue_bytes, &directory);
    let mut paths = ground.left.clone();
    paths.push(plan.file());
    lock.note(&paths).map_err(|source| OpenError::Lock { file: lock_path(&options.sqlite_file), source })?;
    if ground.left.is_empty() {
        // What stays in the table without its files means nothing.
        drop(ring::forget_all(&ground.connection));
    }
    Ok(plan.make()?)
}

/// What an earlier process, maybe with another configuration, left in the file.
fn tell_what_is_there(ground: &Ground, target: Target) -> Result<(), OpenError> {
    if target == Target::Outbox && ground.is_store_used()? {
        warn!("the SQLite file holds calls from a time without PostgreSQL: they stay there");
    }
    match (ground.opening.outbox, target) {
        (0, _) => {}
        (records, Target::Outbox) => {
            info!(records, "calls of an earlier run wait in the outbox for PostgreSQL");
        }
        (records, Target::Store) => {
            warn!(
                records,
                "calls wait in the outbox for PostgreSQL, but none is configured: they stay there"
            );
        }
    }
    Ok(())
}
