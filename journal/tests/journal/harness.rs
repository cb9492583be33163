//! An open journal with its shipper running, and waiting for what has to come.

use crate::postgres::Cluster;
use mcpmeter_journal::{Journal, Keeper, OnTaken, OpenError, Opened, Options, Retention, WriterHandle, open};
use mcpmeter_observer::CallRecord;
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinSet};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Options for a file in a directory. The queue is beside it, so that it goes with the test, whatever that does.
pub(crate) fn options(file: &Path, url: Option<&str>) -> Options {
    Options {
        sqlite_file: file.to_owned(),
        postgres: url.map(|url| url.parse().unwrap()),
        queue_bytes: 16 << 20,
        queue_directory: file.parent().unwrap().to_owned(),
        outbox_max_bytes: None,
        retention: Retention::default(),
        migrate: true,
    }
}

/// Nobody watches.
pub(crate) fn unwatched() -> OnTaken {
    Box::new(|_| {})
}

/// A database and a directory for one test.
pub(crate) struct Place {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) url: String,
    pub(crate) directory: TempDir,
}

impl Place {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        let url = cluster.database();
        Self { cluster, url, directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("journal.db")
    }

    pub(crate) fn open(&self) -> Opened {
        open_patiently(&options(&self.file(), Some(&self.url)))
    }

    /// Leaves calls in the outbox, with nobody to ship them.
    pub(crate) fn leave_in_outbox(&self, records: impl IntoIterator<Item = Box<CallRecord>>) {
        let opened = self.open();
        for record in records {
            opened.journal.accept(record);
        }
        tokio::task::block_in_place(|| opened.writer.close()).unwrap();
    }

    /// Opens the journal and runs its shipper.
    pub(crate) fn run(&self) -> Running {
        Running::start(self.open())
    }

    /// A number from PostgreSQL.
    pub(crate) fn count(&self, sql: &str) -> u64 {
        self.cluster.query(&self.url, sql).parse().unwrap()
    }

    /// How many rows are stored, and how many different ones.
    pub(crate) fn stored(&self) -> (u64, u64) {
        let told = self
            .cluster
            .query(&self.url, "select count(*), count(distinct id) from mcpmeter.mcp_server_request_log");
        let (rows, different) = told.split_once('|').unwrap();
        (rows.parse().unwrap(), different.parse().unwrap())
    }

    /// How many rows a table of the SQLite file has.
    pub(crate) fn in_file(&self, table: &str) -> u64 {
        let connection = Connection::open(self.file()).unwrap();
        let rows =
            connection.query_row(&format!("select count(*) from {table}"), [], |row| row.get::<_, i64>(0));
        u64::try_from(rows.unwrap()).unwrap()
    }
}

/// A journal at work.
pub(crate) struct Running {
    pub(crate) journal: Journal,
    pub(crate) writer: WriterHandle,
    tasks: JoinSet<()>,
    stop: oneshot::Sender<()>,
}

impl Running {
    pub(crate) fn start(opened: Opened) -> Self {
        Self::start_and_keep(opened).0
    }

    /// The same, and the keeper, to be asked for this and that.
    pub(crate) fn start_and_keep(opened: Opened) -> (Self, Keeper) {
        let Opened { journal, writer, shipper, keeper } = opened;
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        let shipper = shipper.expect("PostgreSQL is configured");
        tasks.spawn(shipper.run(async { drop(stopped.await) }, PATIENCE));
        (Self { journal, writer, tasks, stop }, keeper)
    }

    /// The orderly end: what is accepted becomes durable, what is durable is shipped, then the thread ends.
    pub(crate) async fn close(mut self) {
        tokio::task::block_in_place(|| assert!(self.writer.flush()));
        drop(self.stop);
        while self.tasks.join_next().await.is_some() {}
        tokio::task::block_in_place(|| self.writer.close()).unwrap();
    }

    /// The end without a chance for what is not shipped yet; it waits in the outbox.
    pub(crate) async fn abandon(mut self) {
        self.tasks.shutdown().await;
        tokio::task::block_in_place(|| self.writer.close()).unwrap();
    }

    /// The end of the writer before that of the shipper, so that what is shipped is not deleted: what a kill
    /// between the two leaves behind.
    pub(crate) async fn close_writer_first(mut self) {
        tokio::task::block_in_place(|| self.writer.close()).unwrap();
        drop(self.stop);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Waits until the condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A journal whose SQLite file is the store.
pub(crate) fn open_embedded(file: &Path) -> Opened {
    open_patiently(&options(file, None))
}

/// The gaps in the books: reasons and numbers of calls, in their order.
pub(crate) fn gaps(file: &Path) -> Vec<(String, i64)> {
    let connection = Connection::open(file).unwrap();
    let mut select = connection.prepare("select reason, calls from mcp_log_gap order by seq").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Opens the journal. Another test may be starting a program: between fork and exec that has all our files, and
/// so the lock of a journal that was just closed.
pub(crate) fn open_patiently(options: &Options) -> Opened {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match open(options.clone(), unwatched()) {
            Err(OpenError::InUse { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            result => return result.unwrap(),
        }
    }
}

/// The queues that the lock file of the SQLite file names, as it spells them.
pub(crate) fn noted(file: &Path) -> Vec<String> {
    let noted = std::fs::read_to_string(file.with_extension("db.lock")).unwrap();
    noted.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// The files of queues in a directory.
pub(crate) fn queues_in(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "ring")).collect()
}
