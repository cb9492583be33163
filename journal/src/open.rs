//! Opens the journal: lock, file, what an earlier process left in the queue, the queue, books, writer, and the
//! shipper if there is a PostgreSQL to ship to.
//!
//! A disk that takes nothing is no reason not to start: then the file is opened later, by the writer.

use crate::{
    accounts::Ledger,
    body::{Desk, DeskHandle, Jobs},
    chain::chain,
    ground::{Ground, Site},
    health::Notice,
    inscribe::Target,
    journal::{Journal, Shared},
    keeper::Keeper,
    lock::{FileLock, LockError, Notebook, Noted, lock_path, real_path},
    orders::{Order, Orders},
    outbox_reader::OutboxReader,
    postgres,
    postgres_url::PostgresUrl,
    recover,
    ring::{self, Made, Plan},
    sample,
    shipper::{Parts, Shipper},
    tls::TlsError,
    writer::{self, OnTaken, Writer},
    writer_handle::WriterHandle,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
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
    /// The age in days at which bodies of calls are deleted, if that is not the age of calls; 0 for 7.
    pub body_days: u32,
}

impl Retention {
    /// The age in days at which bodies are deleted: never later than their calls.
    pub(crate) const fn days_of_bodies(self) -> u32 {
        let days = if self.body_days == 0 { 7 } else { self.body_days };
        if self.days > 0 && self.days < days { self.days } else { days }
    }

    /// The age in days at which samples of processes are deleted: that of calls. Where calls are kept for ever, 35: a
    /// month, and the same weekdays of the one before to compare its last with.
    pub(crate) const fn sample_days(self) -> u32 {
        if self.days == 0 { 35 } else { self.days }
    }
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
/// What an earlier process left in its queue is durable when this returns, unless the disk takes nothing: then it is
/// as soon as the disk does.
pub fn open(options: Options, on_taken: OnTaken) -> Result<Opened, OpenError> {
    let Prepared { writer, orders, shared, shipper, keeper, jobs } = prepare(options, on_taken)?;
    let desk = DeskHandle::start(Arc::clone(&shared.bodies), jobs)?;
    let writer = WriterHandle::start(writer, orders, Arc::clone(&shared), desk)?;
    Ok(Opened { journal: Journal::new(shared), writer, shipper, keeper })
}

/// A journal whose writer does not run yet.
pub(crate) struct Prepared {
    pub(crate) writer: Writer,
    pub(crate) orders: SyncSender<Order>,
    pub(crate) shared: Arc<Shared>,
    shipper: Option<Shipper>,
    keeper: Keeper,
    jobs: Jobs,
}

/// The same without starting the writer.
pub(crate) fn prepare(options: Options, on_taken: OnTaken) -> Result<Prepared, OpenError> {
    let target = if options.postgres.is_some() { Target::Outbox } else { Target::Store };
    let cannot_lock = |source| OpenError::Lock { file: lock_path(&options.sqlite_file), source };
    let file = real_path(&options.sqlite_file).map_err(cannot_lock)?;
    let lock = Arc::new(take_lock(&file)?);
    let (noted, held) = lock.noted().and_then(|noted| Ok((noted, lock.has_held()?))).map_err(cannot_lock)?;
    let site = Site { file: file.clone(), target, outbox_max_bytes: options.outbox_max_bytes, held };
    let ground = match Ground::prepare(&site, &noted) {
        Err(error) if !error.is_passing(&site) => {
            return Err(OpenError::File { file, source: Box::new(error) });
        }
        ground => ground,
    };
    let mut notebook = Notebook::new(Arc::clone(&lock), held || ground.is_ok());
    let left = ground.as_ref().map_or(noted, |ground| ground.left.clone());
    let queue = open_queue(&options, left, ground.as_ref().ok(), &mut notebook)?;
    let Made { ring, drain } = queue.made;

    let (samples, sampled) = sync_channel(sample::PLACES);
    let (ledger, notice) = (Ledger::new(target == Target::Store), Notice::new(target == Target::Outbox));
    let (desk, jobs) = Desk::new();
    let shared = Arc::new(Shared::new(ring, ledger, notice, samples, desk));
    let Options { postgres, retention, migrate, .. } = options;
    let (orders, received) = sync_channel(ORDERS);
    let pool = postgres.as_ref().map(|url| postgres::pool(url, POOL)).transpose()?;
    let keeper =
        Keeper::new(file.clone(), Orders(orders.clone()), pool.clone(), retention, Arc::clone(&shared));
    let mut writer = Writer::new(writer::Parts {
        shared: Arc::clone(&shared),
        site,
        drain,
        left: queue.left.clone(),
        queue: queue.own,
        notebook,
        samples: sampled,
        orders: received,
        on_taken,
    });
    match ground {
        Ok(ground) => {
            // Should it have to wait, nobody is to see to these queues twice.
            let ground = Ground { left: queue.left, emptied: Vec::new(), ..ground };
            let stood = writer.start_on(ground);
            stood.map_err(|error| OpenError::File { file: file.clone(), source: Box::new(error) })?;
        }
        Err(error) => writer.wait_for(error),
    }
    let shipper = postgres.zip(pool).map(|(url, pool)| {
        Shipper::new(Parts {
            shared: Arc::clone(&shared),
            pool,
            url,
            orders: Orders(orders.clone()),
            outbox: OutboxReader::new(file, Arc::clone(&shared)),
            migrate,
            lock,
        })
    });
    Ok(Prepared { writer, orders, shared, shipper, keeper, jobs })
}

fn take_lock(sqlite_file: &Path) -> Result<FileLock, OpenError> {
    FileLock::take(sqlite_file).map_err(|error| match error {
        LockError::Held => OpenError::InUse { file: sqlite_file.to_owned() },
        LockError::Io(source) => OpenError::Lock { file: lock_path(sqlite_file), source },
    })
}

/// The queue of this process, and those that are still to be written down.
struct Queue {
    made: Made,
    own: Noted,
    left: Vec<Noted>,
}

/// Goes on with a queue of an earlier process that cannot be written down now, so that there are not more of them with
/// every start on a full disk; makes a new one if there is none.
fn open_queue(
    options: &Options,
    mut left: Vec<Noted>,
    ground: Option<&Ground>,
    notebook: &mut Notebook,
) -> Result<Queue, OpenError> {
    let emptied = ground.map_or(&[][..], |ground| &ground.emptied);
    for place in 0..left.len() {
        match ring::take_over(&left[place].path) {
            Ok(made) => {
                let own = Noted::made(left.remove(place).path);
                warn!(file = %own.path.display(), "going on with the queue of an earlier run");
                notebook.note(with(&left, emptied, own.clone()));
                recover::delete(emptied);
                return Ok(Queue { made, own, left });
            }
            Err(error) => {
                info!(file = %left[place].path.display(), error = chain(&error), "not going on with this queue");
            }
        }
    }
    let plan = Plan::new(options.queue_bytes, &std::path::absolute(&options.queue_directory)?);
    let path = plan.file();
    // Its name is written down before there is a file of that name: a kill in between leaves a name without a file,
    // never a file that nobody finds.
    notebook.note(with(&left, emptied, Noted::planned(path.clone())));
    recover::delete(emptied);
    if let Some(ground) = ground.filter(|_| left.is_empty()) {
        // What stays in the table without its files means nothing.
        drop(ring::forget_all(&ground.connection));
    }
    let made = plan.make()?;
    let own = Noted::made(path);
    notebook.note(with(&left, &[], own.clone()));
    Ok(Queue { made, own, left })
}

/// What is to be noted: queues to be written down, queues to be deleted, and that of this process.
fn with(left: &[Noted], emptied: &[PathBuf], own: Noted) -> Vec<Noted> {
    let emptied = emptied.iter().cloned().map(Noted::planned);
    left.iter().cloned().chain(emptied).chain([own]).collect()
}
