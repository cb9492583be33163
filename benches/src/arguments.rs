//! The command line. What is written here is what `--help` says.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::contender::{Identity, Kind, Runtime, Store};
use crate::workload::{Workload, find_workload};
use crate::{growth, journal, memory, process};

/// Measures what mcpmeter costs per call, beside other ways to the same server.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Subcommands>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// The length of each window.
    #[arg(long, default_value_t = 4.0, value_parser = parse_seconds)]
    pub(crate) seconds: f64,
    /// All workloads in three minutes: 2 rounds, windows of 1 second.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    pub(crate) quick: bool,
    /// Only these workloads, separated by commas; --list names them.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = find_workload)]
    pub(crate) only: Vec<&'static Workload>,
    /// Who is measured.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES",
        default_value = "direct,nginx,haproxy,envoy,mcpmeter",
        default_value_if("tls", "true", "nginx,mcpmeter"),
        default_value_if("check", "true", "direct,nginx,mcpmeter")
    )]
    pub(crate) contenders: Vec<Kind>,
    /// Measure mcpmeter once per store.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "STORES",
        default_value = "postgres",
        default_value_if("check", "true", "sqlite")
    )]
    pub(crate) mcpmeter_store: Vec<Store>,
    /// Measure mcpmeter once per runtime layout.
    #[arg(long, value_delimiter = ',', value_name = "LAYOUTS")]
    pub(crate) mcpmeter_runtime: Vec<Runtime>,
    /// Measure mcpmeter once per number of workers.
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    pub(crate) mcpmeter_workers: Vec<u16>,
    /// Speak TLS with the proxies; nginx and mcpmeter.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Measure mcpmeter once per way of knowing its callers.
    #[arg(long, value_delimiter = ',', value_name = "MODES")]
    pub(crate) mcpmeter_identity: Vec<Identity>,
    /// List the workloads and do nothing else.
    #[arg(long)]
    pub(crate) list: bool,
    /// Rewrite the figures section of this file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "benches/README.md")]
    pub(crate) write: Option<PathBuf>,
    /// Check answers and rows but print no figures; works in a debug build.
    #[arg(long, conflicts_with = "write")]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Subcommands {
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

/// A length of time that a window can have.
pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("must be from 0.1 to 3600".into()) }
}
