//! `mcpmeter-bench`: what mcpmeter costs per call, beside other proxies and beside no proxy, in one interleaved run. Figures come
//! from release builds only; README.md says what is measured and how.

mod arguments;
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
mod stream;
mod table;
mod template;
mod ticker;
mod upstream;
mod workload;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Arguments, Subcommands};
use crate::contender::{Contender, Store, Variant};
use crate::outcome::{Outcome, Window};
use crate::run::Plan;
use crate::workload::{WORKLOADS, Workload};

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
    if plan.tls && !plan.contenders.iter().all(Contender::can_speak_tls) {
        bail!("--tls is for nginx and mcpmeter: leave the others out of --contenders");
    }
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
            section::write_section(path, if plan.tls { "tls" } else { "figures" }, &text)?;
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
        let workers = arguments.mcpmeter_workers.iter();
        variants.extend(workers.map(|workers| Variant { workers: Some(*workers), ..plain }));
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
        tls: arguments.tls,
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
