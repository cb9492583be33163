//! Who is measured, as data: a contender is started in a directory of its own, has an address, perhaps a process tree
//! whose CPU counts, and perhaps books that must tell of every call. One file each below.

mod books;
mod credentials;
mod direct;
mod envoy;
mod haproxy;
mod mcpmeter;
mod nginx;
mod tls;
mod variant;

pub(crate) use self::tls::Tls;
pub(crate) use self::variant::{Identity, Runtime, Store, Variant};

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::books::Books;
use crate::connection::Target;
use crate::process::{Process, ProcessError};

/// The contender all ratios are taken to.
pub(crate) const BASELINE: &str = "nginx";

/// The contender whose latency is the floor.
pub(crate) const FLOOR: &str = "direct";

/// A store that is behind by more than this will not catch up.
const STORE_PATIENCE: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The path prefix under which every proxy serves the upstream.
const ROUTE: &str = "bench";

/// `/<ROUTE>/mcp`, rewritten to the upstream's `/mcp`.
const ROUTED_PATH: &str = "/bench/mcp";

/// The kinds `--contenders` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// No proxy at all.
    Direct,
    /// nginx as a plain reverse proxy, with its access log.
    Nginx,
    /// haproxy, with its log.
    Haproxy,
    /// Envoy, with its access log.
    Envoy,
    /// mcpmeter, recording.
    Mcpmeter,
}

/// One who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The upstream without a proxy.
    Direct,
    /// nginx.
    Nginx,
    /// haproxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// mcpmeter.
    Mcpmeter(Variant),
}

/// Why a contender cannot be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContenderError {
    /// Its program is not installed.
    #[error("cannot find {program}: {advice}")]
    Missing {
        /// What is missing.
        program: &'static str,
        /// How to get it.
        advice: String,
    },
    /// Its process did not start or stop as it should.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its directory, port or configuration could not be made.
    #[error("cannot prepare a contender")]
    Prepare(#[from] io::Error),
    /// What it holds does not become less.
    #[error("{waiting} records were still not in the store after {} s", STORE_PATIENCE.as_secs())]
    Unstored {
        /// Their number.
        waiting: u64,
    },
    /// Its rows could not be counted.
    #[error("cannot count the rows of mcpmeter's store")]
    Rows(#[from] rusqlite::Error),
}

/// A contender that can be called.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where to call it.
    pub(crate) target: Target,
    /// None if there is no proxy.
    process: Option<Process>,
    /// Its rows, if it keeps any.
    books: Option<Books>,
}

impl Contender {
    /// Those that `kinds` name, mcpmeter in each of its variants.
    pub(crate) fn choose(kinds: &[Kind], variants: &[Variant]) -> Vec<Self> {
        let expand = |kind: &Kind| match kind {
            Kind::Direct => vec![Self::Direct],
            Kind::Nginx => vec![Self::Nginx],
            Kind::Haproxy => vec![Self::Haproxy],
            Kind::Envoy => vec![Self::Envoy],
            Kind::Mcpmeter => variants.iter().map(|variant| Self::Mcpmeter(*variant)).collect(),
        };
        kinds.iter().flat_map(expand).collect()
    }

    /// What the tables call it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Direct => FLOOR.into(),
            Self::Nginx => BASELINE.into(),
            Self::Haproxy => "haproxy".into(),
            Self::Envoy => "envoy".into(),
            Self::Mcpmeter(Variant { store, runtime, identity, workers, .. }) => {
                let store = (store == Store::Sqlite).then_some("sqlite");
                let words = [store, runtime.map(Runtime::word), identity.map(Identity::word)];
                let words = words.into_iter().flatten().map(str::to_owned);
                let workers = workers.map(|workers| format!("{workers}w"));
                words.chain(workers).fold("mcpmeter".to_owned(), |name, word| format!("{name}-{word}"))
            }
        }
    }

    /// Its version, as it says itself; none if there is no program.
    pub(crate) fn version(self) -> Result<Option<String>, ContenderError> {
        match self {
            Self::Direct => Ok(None),
            Self::Nginx => nginx::read_version().map(Some),
            Self::Haproxy => haproxy::read_version().map(Some),
            Self::Envoy => envoy::read_version().map(Some),
            Self::Mcpmeter(_) => mcpmeter::read_version().map(Some),
        }
    }

    /// Whether the bench knows how it speaks TLS.
    pub(crate) const fn can_speak_tls(&self) -> bool {
        matches!(self, Self::Nginx | Self::Mcpmeter(_))
    }

    /// Whether it has its rows in a PostgreSQL cluster of the bench's.
    pub(crate) fn needs_cluster(&self) -> bool {
        matches!(self, Self::Mcpmeter(Variant { store: Store::Postgres, .. }))
    }

    /// Starts it before `upstream`, with its files in `directory`, and waits until it can be called.
    /// With `tls` it speaks that, if it is one that [`Contender::can_speak_tls`].
    pub(crate) fn start(
        self,
        upstream: SocketAddr,
        directory: &Path,
        tls: Option<&Tls>,
    ) -> Result<Running, ContenderError> {
        match self {
            Self::Direct => Ok(direct::start(upstream)),
            Self::Nginx => nginx::start(upstream, directory, tls),
            Self::Haproxy => haproxy::start(upstream, directory),
            Self::Envoy => envoy::start(upstream, directory),
            Self::Mcpmeter(variant) => mcpmeter::start(upstream, directory, variant, tls),
        }
    }
}

impl Running {
    /// The root of the process tree whose CPU counts.
    pub(crate) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The root of the process tree that has the rows, where that is another one.
    pub(crate) fn store_process_id(&self) -> Option<u32> {
        self.books.as_ref()?.server()
    }

    /// The records that have still to be brought to the store, where that is another process. To ask costs the proxy some CPU.
    pub(crate) fn count_waiting(&self) -> io::Result<u64> {
        self.books.as_ref().map_or(Ok(0), Books::waiting)
    }

    /// Stops the server that has the rows. What is called from now on cannot be stored.
    pub(crate) fn halt_store(&self) {
        if let Some(books) = &self.books {
            books.halt();
        }
    }

    /// Stops it when its rows are where they belong; then their number, if it keeps any.
    pub(crate) fn finish(self) -> Result<Option<u64>, ContenderError> {
        let start = Instant::now();
        while self.process.is_some() && self.count_waiting()? > 0 {
            if start.elapsed() > STORE_PATIENCE {
                return Err(ContenderError::Unstored { waiting: self.count_waiting()? });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        if let Some(process) = self.process {
            process.stop()?;
        }
        self.books.map(Books::close).transpose()
    }

    /// Stops it with whatever it holds, and starts the server that has the rows again; then their number.
    pub(crate) fn finish_halted(self) -> Result<Option<u64>, ContenderError> {
        let stopped = self.process.map(Process::stop).transpose();
        if let Some(books) = &self.books {
            books.resume();
        }
        stopped?;
        self.books.map(Books::close).transpose()
    }
}

/// The first of `candidates` that answers `argument` with success, and what it printed.
fn ask_program(candidates: &[PathBuf], argument: &str) -> Option<(PathBuf, String)> {
    candidates.iter().find_map(|candidate| {
        let output = std::process::Command::new(candidate).arg(argument).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        output.status.success().then(|| (candidate.clone(), String::from_utf8_lossy(&text).trim().to_owned()))
    })
}
