//! One run: rounds, and in each every workload for every contender in turn, so that what else the machine does falls on
//! all alike. Everything is started afresh in each round, and at its end the books are compared with the calls made.

use std::error::Error;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::connection::CallError;
use crate::contender::{Contender, ContenderError, Running, Tls};
use crate::cpu::sample_tree;
use crate::load::{Ids, Load, Stuck, apply_load};
use crate::machine::{busy_time, own_time};
use crate::outcome::{Outcome, Window, summarize};
use crate::postgres::Cluster;
use crate::process::{Process, ProcessError, tethered};
use crate::settle::{Settled, settle};
use crate::workload::Workload;

/// Load before each window, to fill pools and caches; its calls count as rows but not as figures.
const WARM_UP: Duration = Duration::from_millis(500);

/// A proxy that works longer than this after its last call is reported as not quiet.
const QUIET_PATIENCE: Duration = Duration::from_secs(30);

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order of the tables.
    pub(crate) workloads: Vec<&'static Workload>,
    /// In the order of the first round; each later round begins with the next.
    pub(crate) contenders: Vec<Contender>,
    /// How often everything is repeated.
    pub(crate) rounds: usize,
    /// The length of a window.
    pub(crate) window: Duration,
    /// Whether clients and contenders speak TLS.
    pub(crate) tls: bool,
}

/// A run that could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// A contender could not be started or stopped.
    #[error("{name} cannot be measured")]
    Contender {
        /// Its name.
        name: String,
        /// Why.
        source: ContenderError,
    },
    /// The upstream could not be started.
    #[error("cannot start the upstream")]
    Upstream(#[source] ProcessError),
    /// No directory for the contenders' files, or no path to our own program.
    #[error("cannot prepare the run")]
    Directory(#[source] io::Error),
    /// The kernel does not tell the CPU of a contender; it has probably ended.
    #[error("cannot read the CPU time of {name}")]
    Cpu {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A contender holds answers back for ever.
    #[error("{name} got stuck in {workload}")]
    Stuck {
        /// Its name.
        name: String,
        /// The workload's.
        workload: &'static str,
        /// Why.
        source: Stuck,
    },
}

/// Carries out `plan`, telling `progress` of every window. Must run inside a `LocalSet`.
pub(crate) async fn carry_out(plan: &Plan, mut progress: impl FnMut(&Window)) -> Result<Outcome, RunError> {
    let directory = tempfile::tempdir().map_err(RunError::Directory)?;
    let (_upstream, upstream) = start_upstream(directory.path())?;
    // One for all rounds: every store is a database of its own in it.
    let _cluster = plan.contenders.iter().any(|contender| contender.needs_cluster()).then(Cluster::shared);
    let (mut outcome, ids) = (Outcome::default(), Rc::default());
    for round in 0..plan.rounds {
        let directory = tempfile::tempdir().map_err(RunError::Directory)?;
        let mut entrants = start_all(plan, round, upstream, directory.path())?;
        for workload in &plan.workloads {
            for entrant in &mut entrants {
                let window = entrant.measure(workload, &ids, plan.window, &mut outcome).await?;
                if let Some(window) = window.map(|window| Window { round, ..window }) {
                    progress(&window);
                    outcome.windows.push(window);
                }
            }
        }
        for entrant in entrants {
            entrant.close_books(&mut outcome)?;
        }
    }
    Ok(outcome)
}

fn start_all(
    plan: &Plan,
    round: usize,
    upstream: SocketAddr,
    directory: &Path,
) -> Result<Vec<Entrant>, RunError> {
    let mut order = plan.contenders.clone();
    order.rotate_left(round % plan.contenders.len().max(1));
    let tls = plan.tls.then(|| Tls::create(directory)).transpose().map_err(RunError::Directory)?;
    let start = |contender: Contender| {
        let name = contender.name();
        let own = directory.join(&name);
        let running = fs::create_dir(&own).map_err(ContenderError::from);
        match running.and_then(|()| contender.start(upstream, &own, tls.as_ref())) {
            Ok(running) => Ok(Entrant { name, running, calls: 0 }),
            Err(source) => Err(RunError::Contender { name, source }),
        }
    };
    order.into_iter().map(start).collect()
}

/// A contender within a round.
struct Entrant {
    name: String,
    running: Running,
    calls: u64,
}

impl Entrant {
    /// Warms up, then measures one window; nothing if no call was answered.
    async fn measure(
        &mut self,
        workload: &'static Workload,
        ids: &Rc<Ids>,
        duration: Duration,
        outcome: &mut Outcome,
    ) -> Result<Option<Window>, RunError> {
        self.load(workload, ids, duration.min(WARM_UP), outcome).await?;
        let before = self.settle(outcome).await?;
        let tree = std::process::id();
        let ours = || sample_tree(tree).map_err(|source| RunError::Cpu { name: "the bench".into(), source });
        let (start, all, own, us) = (Instant::now(), busy_time(), own_time(), ours()?);
        let load = self.load(workload, ids, duration, outcome).await?;
        let generator = (own_time() - own).as_secs_f64() / load.elapsed.as_secs_f64();
        let after = self.settle(outcome).await?;
        let cpu = before.proxy.zip(after.proxy).map(|(before, after)| after.at_rest.since(&before.asked));
        let store_cpu = before.store.zip(after.store).map(|(before, after)| after.since(&before));
        let known = ours()?.since(&us).total + store_cpu.map_or(Duration::ZERO, |spent| spent.total);
        let others = (busy_time() - all).saturating_sub(known).as_secs_f64() / start.elapsed().as_secs_f64();
        Ok(summarize(workload, self.name.clone(), load, cpu, store_cpu, generator, others))
    }

    async fn load(
        &mut self,
        workload: &'static Workload,
        ids: &Rc<Ids>,
        duration: Duration,
        outcome: &mut Outcome,
    ) -> Result<Load, RunError> {
        let load = apply_load(&self.running.target, workload, ids, duration).await;
        let stuck = |source| RunError::Stuck { name: self.name.clone(), workload: workload.name, source };
        let load = load.map_err(stuck)?;
        self.calls += load.calls() as u64;
        outcome.checked += load.calls() as u64;
        if let Some(first) = load.failures.first() {
            let (name, failed) = (&self.name, load.failures.len());
            let causes = join_causes(first);
            outcome
                .faults
                .push(format!("{name}, {}: {failed} calls failed, the first: {causes}", workload.name));
        }
        Ok(load)
    }

    async fn settle(&self, outcome: &mut Outcome) -> Result<Settled, RunError> {
        let settled = settle(&self.running, QUIET_PATIENCE).await;
        let settled = settled.map_err(|source| RunError::Cpu { name: self.name.clone(), source })?;
        if !settled.quiet {
            let (name, patience) = (&self.name, QUIET_PATIENCE.as_secs());
            outcome.faults.push(format!("{name} was still working {patience} s after its last call"));
        }
        Ok(settled)
    }

    /// Stops the contender and compares its rows with the calls it was sent.
    fn close_books(self, outcome: &mut Outcome) -> Result<(), RunError> {
        let Self { name, running, calls } = self;
        let rows = match running.finish() {
            Ok(rows) => rows,
            Err(source) => return Err(RunError::Contender { name, source }),
        };
        if let Some(rows) = rows {
            if rows != calls {
                outcome
                    .faults
                    .push(format!("{name}: {calls} calls were answered but {rows} rows were stored"));
            }
            let books = outcome.books.entry(name).or_default();
            books.calls += calls;
            books.rows += rows;
        }
        Ok(())
    }
}

fn join_causes(error: &CallError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Starts this program's other subcommand with its output in `directory`; it ends when dropped.
pub(crate) fn start_upstream(directory: &Path) -> Result<(Process, SocketAddr), RunError> {
    let mut command = std::env::current_exe().and_then(|own| tethered(&own)).map_err(RunError::Directory)?;
    command.args(["upstream", "--port", "0"]);
    let output = directory.join("upstream");
    // The line is complete when its end is there.
    let read_port = || fs::read_to_string(&output).ok()?.strip_suffix('\n')?.parse::<u16>().ok();
    let mut process = Process::start("the upstream", command, &output).map_err(RunError::Upstream)?;
    process.wait_until(|| read_port().is_some()).map_err(RunError::Upstream)?;
    let port = read_port().expect("it was read a moment ago");
    Ok((process, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
}
