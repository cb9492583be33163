//! `mcpmeter-bench`: what mcpmeter costs per call, beside other proxies and beside no proxy, in one interleaved run. Figures come
//! from release builds only; README.md says what is measured and how.

mod connection;
mod contender;
mod cpu;
mod dechunk;
mod exchange;
mod faults;
mod files;
mod growth;
mod instructions;
mod journal;
mod load;
mod machine;
mod memory;
mod metrics;
mod outcome;
#[path = "../../journal/tests/support/postgres.rs"]
mod postgres;
mod process;
mod report;
mod run;
mod section;
mod settle;
mod stats;
mod table;
mod template;
mod ticker;
mod upstream;
mod workload;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::contender::{Contender, Identity, Kind, Runtime, Store, Variant};
use crate::outcome::{Outcome, Window};
use crate::run::Plan;
use crate::workload::{WORKLOADS, Workload, find_workload};

/// Measures what mcpmeter costs per call, beside other ways to the same server.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Subcommands>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The length of each window.
    #[arg(long, default_value_t = 4.0, value_parser = parse_seconds)]
    seconds: f64,
    /// All workloads in three minutes: 2 rounds, windows of 1 second.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Only these workloads, separated by commas; --list names them.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = find_workload)]
    only: Vec<&'static Workload>,
    /// Who is measured.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES",
        default_value = "direct,nginx,haproxy,envoy,mcpmeter",
        default_value_if("check", "true", "direct,nginx,mcpmeter")
    )]
    contenders: Vec<Kind>,
    /// Measure mcpmeter once per store.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "STORES",
        default_value = "postgres",
        default_value_if("check", "true", "sqlite")
    )]
    mcpmeter_store: Vec<Store>,
    /// Measure mcpmeter once per runtime layout.
    #[arg(long, value_delimiter = ',', value_name = "LAYOUTS")]
    mcpmeter_runtime: Vec<Runtime>,
    /// Measure mcpmeter once per way of knowing its callers.
    #[arg(long, value_delimiter = ',', value_name = "MODES")]
    mcpmeter_identity: Vec<Identity>,
    /// List the workloads and do nothing else.
    #[arg(long)]
    list: bool,
    /// Rewrite the figures section of this file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "benches/README.md")]
    write: Option<PathBuf>,
    /// Check answers and rows but print no figures; works in a debug build.
    #[arg(long, conflicts_with = "write")]
    check: bool,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Measure the journal: handing records over, writing, shipping to PostgreSQL, and the dashboard's questions.
    Journal(journal::Extent),
    /// Ship an hour's backlog to PostgreSQL while calls keep coming, and count the rows.
    Replay {
        /// Calls in the backlog; 7,200,000 are an hour of 2,000 a second, take about ten minutes and 10 GB.
        #[arg(long, default_value_t = 7_200_000, value_parser = clap::value_parser!(u64).range(10_000..))]
        rows: u64,
    },
    /// Count the instructions of a call under valgrind, and compare them with those that were committed last.
    Instructions {
        /// Commit the new figures.
        #[arg(long)]
        write: bool,
    },
    /// Measure what proxies hold at rest, with 3,000 idle streams, and after a storm of 256 connections.
    Memory(memory::Extent),
    /// Measure how the CPU of a call grows with connections, sessions, routes, bodies and a backlog.
    Growth(growth::Extent),
    /// Run the upstream alone: prints its port, then serves /mcp.
    Upstream {
        /// The port on the loopback; 0 for any free one.
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Measure a call while PostgreSQL is stopped and while the disk hangs (as root), beside the healthy case.
    Faults {
        /// The load.
        #[arg(long, default_value = "open", value_parser = find_workload)]
        workload: &'static Workload,
        /// How often everything is measured.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
        /// The length of each window.
        #[arg(long, default_value_t = 4.0, value_parser = parse_seconds)]
        seconds: f64,
    },
    /// Become another program that ends with our parent.
    #[command(name = process::TETHER, hide = true)]
    Tether {
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("must be from 0.1 to 3600".into()) }
}

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        WORKLOADS.iter().for_each(|Workload { name, about, .. }| println!("{name:10} {about}"));
        return Ok(ExitCode::SUCCESS);
    }
    match arguments.command {
        Some(Subcommands::Upstream { port }) => match run_locally(upstream::run_upstream(port))?? {},
        Some(Subcommands::Memory(extent)) => {
            refuse_debug()?;
            run_locally(memory::measure(&extent))??;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Subcommands::Growth(extent)) => {
            refuse_debug()?;
            run_locally(growth::measure(&extent))??;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Subcommands::Instructions { write }) => {
            refuse_debug()?;
            let fits = run_locally(instructions::measure(write))??;
            return Ok(if fits { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Some(Subcommands::Faults { workload, rounds, seconds }) => {
            refuse_debug()?;
            let window = Duration::from_secs_f64(seconds);
            run_locally(faults::measure(workload, rounds.into(), window))??;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Subcommands::Tether { program }) => {
            let error = process::become_tethered(&program);
            return Err(error).with_context(|| format!("cannot become {program:?}"));
        }
        Some(Subcommands::Journal(extent)) => {
            refuse_debug()?;
            journal::measure(&extent)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Subcommands::Replay { rows }) => {
            refuse_debug()?;
            journal::replay::measure(rows)?;
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    if !arguments.check {
        refuse_debug()?;
    }
    measure(&arguments)
}

fn refuse_debug() -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        bail!("this is a debug build, whose figures mean nothing: build with --release, or use --check");
    }
    Ok(())
}

/// Carries the plan out, prints the report and says by the exit code whether every call was answered and stored.
fn measure(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let plan = plan(arguments);
    let versions = read_versions(&plan.contenders)?;
    let Some(outcome) = run_locally(run_until_interrupted(&plan))?? else {
        eprintln!("interrupted");
        return Ok(ExitCode::from(130));
    };
    if !arguments.check {
        let command: Vec<_> = std::env::args().skip(1).collect();
        let command = format!("mcpmeter-bench {}", command.join(" "));
        let machine = machine::describe_machine();
        let text = report::render_report(&plan, &machine, &versions, command.trim_end(), &outcome);
        print!("{text}");
        if let Some(path) = &arguments.write {
            section::write_section(path, "figures", &text)?;
        }
    }
    for (name, books) in &outcome.books {
        eprintln!("{name}: {} calls answered, {} rows stored", books.calls, books.rows);
    }
    eprintln!("{} answers checked", outcome.checked);
    outcome.faults.iter().for_each(|fault| eprintln!("FAULT: {fault}"));
    Ok(if outcome.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// mcpmeter as it is by default, or in each way that was asked for, with each store.
fn variants(arguments: &Arguments) -> Vec<Variant> {
    let of_store = |store: &Store| {
        let plain = Variant { store: *store, ..Variant::default() };
        let runtimes = arguments.mcpmeter_runtime.iter();
        let mut variants: Vec<_> =
            runtimes.map(|runtime| Variant { runtime: Some(*runtime), ..plain }).collect();
        let identities = arguments.mcpmeter_identity.iter();
        variants.extend(identities.map(|identity| Variant { identity: Some(*identity), ..plain }));
        if variants.is_empty() { vec![plain] } else { variants }
    };
    arguments.mcpmeter_store.iter().flat_map(of_store).collect()
}

fn plan(arguments: &Arguments) -> Plan {
    let (rounds, seconds) =
        if arguments.quick { (2, 1.0) } else { (arguments.rounds.into(), arguments.seconds) };
    let workloads =
        if arguments.only.is_empty() { WORKLOADS.iter().collect() } else { arguments.only.clone() };
    Plan {
        workloads,
        contenders: Contender::choose(&arguments.contenders, &variants(arguments)),
        rounds,
        window: Duration::from_secs_f64(seconds),
    }
}

/// The versions of all programs, so that a missing one is known before the first window.
fn read_versions(contenders: &[Contender]) -> anyhow::Result<Vec<String>> {
    let mut versions = Vec::new();
    for contender in contenders {
        versions.extend(contender.version()?);
    }
    versions.dedup();
    Ok(versions)
}

async fn run_until_interrupted(plan: &Plan) -> anyhow::Result<Option<Outcome>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = run::carry_out(plan, |window| print_progress(plan, window)) => Ok(Some(outcome?)),
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
    }
}

fn print_progress(plan: &Plan, window: &Window) {
    let Window { workload, contender, round, calls, .. } = window;
    eprintln!("round {}/{}: {:9} {contender:16} {calls:8} calls", round + 1, plan.rounds, workload.name);
}

/// Everything runs on one thread: the load generator must not compete with itself for two cores.
fn run_locally<F: Future>(future: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, future))
}
