//! Everything at once: a database behind a link, the program, the callers, and somebody who reads the accounts all
//! the time.

use crate::{
    PATIENCE,
    judge::{Judge, Verdict},
    link::Link,
    postgres::Cluster,
    program::{Accounts, Program},
    traffic::{Address, Caller, Notes, Traffic},
    until,
    upstream::McpServer,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};

/// How often the accounts are read.
const LOOK: Duration = Duration::from_millis(20);
/// What a caller waits between two calls, where a scenario is not about speed.
pub(crate) const PAUSE: Duration = Duration::from_millis(2);

/// One scenario's world.
pub(crate) struct World {
    /// The PostgreSQL server.
    pub(crate) cluster: Arc<Cluster>,
    /// The database's URL, past the link.
    pub(crate) url: String,
    /// The way of the program to it.
    pub(crate) link: Link,
    /// mcpmeter.
    pub(crate) program: Program,
    /// What the callers know.
    pub(crate) notes: Arc<Notes>,
    watcher: Watcher,
    _server: McpServer,
}

impl World {
    /// A database of its own in a cluster that other scenarios use, too: it must not be stopped.
    pub(crate) async fn new(store: &str) -> Self {
        Self::with(Cluster::shared(), store).await
    }

    /// A cluster of its own.
    pub(crate) async fn alone(store: &str) -> Self {
        Self::with(Arc::new(Cluster::new()), store).await
    }

    async fn with(cluster: Arc<Cluster>, store: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::in_folder(cluster, folder, store).await
    }

    /// The same with the program's files in a folder that was prepared.
    pub(crate) async fn in_folder(cluster: Arc<Cluster>, folder: tempfile::TempDir, store: &str) -> Self {
        let url = cluster.database();
        let (server, database) = url.rsplit_once('/').expect("a URL has a path");
        let port = server.rsplit(':').next().and_then(|port| port.parse().ok()).expect("and a port");
        let link = Link::to(port).await;
        let upstream = McpServer::start().await;
        let near = format!("url = \"postgres://postgres@127.0.0.1:{}/{database}\"\n{store}", link.port);
        let program = Program::prepare(folder, upstream.port, &near);
        let watcher = Watcher::start(program.admin());
        Self { cluster, url, link, program, notes: Arc::default(), watcher, _server: upstream }
    }

    /// Callers that pause between two calls.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic::start(&self.notes, &self.program.proxy(), 4, PAUSE, "")
    }

    /// Callers that do not.
    pub(crate) fn heavy_traffic(&self) -> Traffic {
        Traffic::start(&self.notes, &self.program.proxy(), 8, Duration::ZERO, "")
    }

    /// The same with answers whose records are as large as records get.
    pub(crate) fn bulky_traffic(&self) -> Traffic {
        Traffic::start(&self.notes, &self.program.proxy(), 8, Duration::ZERO, "large record")
    }

    /// One connection for calls of the scenario's own.
    pub(crate) async fn caller(&self) -> Caller {
        let address = self.program.proxy().borrow().expect("it runs");
        Caller::connect(address).await.expect("accepted")
    }

    /// Waits until so many more calls have been answered.
    pub(crate) async fn hear(&self, more: u64) {
        let wanted = self.notes.heard_count() + more;
        until("the calls are answered", async || self.notes.heard_count() >= wanted).await;
    }

    /// Waits until the accounts are as wished.
    pub(crate) async fn until_accounts(
        &self,
        what: &str,
        mut wish: impl FnMut(&Accounts) -> bool,
    ) -> Accounts {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let accounts = self.program.accounts().await;
            match accounts {
                Ok(accounts) if wish(&accounts) => return accounts,
                _ => assert!(
                    Instant::now() < deadline,
                    "never {what}: {accounts:?}\n{:#?}",
                    self.program.log()
                ),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the program has made its tables in PostgreSQL.
    pub(crate) async fn until_connected(&self) {
        let made = "select to_regclass('mcpmeter.outbox_cursor') is not null";
        until("the tables are there", async || self.cluster.query(&self.url, made) == "t").await;
    }

    /// Waits until everything that PostgreSQL is to have is there.
    pub(crate) async fn until_shipped(&self) -> Accounts {
        self.until_accounts("empty", |accounts| accounts.queued == 0 && accounts.outbox == 0).await
    }

    /// The end: the callers stop, everything is shipped, the program stops, and the judge is asked.
    pub(crate) async fn judge(mut self, traffic: Option<Traffic>) -> Verdict {
        if let Some(traffic) = traffic {
            traffic.stop().await;
        }
        self.until_shipped().await;
        let judge = Judge { cluster: &self.cluster, url: &self.url, notes: &self.notes };
        let verdict = judge.decide(&self.program).await;
        self.program.stop();
        self.watcher.assert_balanced();
        verdict
    }
}

/// Reads the accounts without end, over all lives of the program.
struct Watcher {
    seen: Arc<AtomicU64>,
    unbalanced: Arc<Mutex<Vec<Accounts>>>,
    _task: JoinSet<()>,
}

impl Watcher {
    fn start(admin: Address) -> Self {
        let (seen, unbalanced) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<Accounts>>>::default());
        let mut task = JoinSet::new();
        let (counted, kept) = (Arc::clone(&seen), Arc::clone(&unbalanced));
        task.spawn(async move {
            loop {
                let address = *admin.borrow();
                // Nobody answers while it does not run.
                if let Some(address) = address
                    && let Ok(accounts) = Accounts::read(address).await
                {
                    counted.fetch_add(1, Ordering::Relaxed);
                    if !accounts.balance() {
                        kept.lock().expect("not poisoned").push(accounts);
                    }
                }
                sleep(LOOK).await;
            }
        });
        Self { seen, unbalanced, _task: task }
    }

    fn assert_balanced(&self) {
        let unbalanced = self.unbalanced.lock().expect("not poisoned");
        assert!(unbalanced.is_empty(), "the accounts did not balance: {unbalanced:?}");
        assert!(self.seen.load(Ordering::Relaxed) > 0, "nobody has read the accounts");
    }
}
