//! `mcpmeter-bench journal`: what a call costs behind the proxy: handing its record over, making it durable, shipping it
//! to PostgreSQL, and asking for it again. Everything is the journal itself on real files and a PostgreSQL of its own.

mod accept;
mod calls;
mod queries;
pub(crate) mod replay;
mod ship;
mod write;

use std::path::Path;

use anyhow::Context;
use clap::Args;
use mcpmeter_journal::{Opened, Options, Retention, open};

use crate::machine::{Machine, describe_machine};
use crate::postgres::Cluster;
use crate::stats::Spread;

/// How much of everything.
#[derive(Debug, Args)]
pub(crate) struct Extent {
    /// Records per measurement of the queue, the outbox and the way to PostgreSQL.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    rows: u64,
    /// How often each is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Rows of 30 days to put the dashboard's questions to; 10000000 takes about ten minutes and 10 GB. 0 for none.
    #[arg(long, default_value_t = 1_000_000)]
    query_rows: u64,
}

/// One line of the report: what was measured, and the figure of every round.
struct Line {
    what: String,
    unit: &'static str,
    values: Vec<f64>,
}

/// Measures everything and prints a table.
pub(crate) fn measure(extent: &Extent) -> anyhow::Result<()> {
    let Machine { cpu, cores, kernel, date } = describe_machine();
    println!("* {date}, {cpu}, {cores} cores, Linux {kernel}");
    println!("* {} records, {} rounds: median (minimum–maximum)\n", extent.rows, extent.rounds);
    println!("| what | figure | |\n|---|---|---|");
    let cluster = Cluster::new();
    accept::measure(extent)?.iter().for_each(Line::print);
    write::measure(extent)?.iter().for_each(Line::print);
    ship::measure(extent, &cluster)?.iter().for_each(Line::print);
    if extent.query_rows > 0 {
        println!(
            "\n{} rows of 30 days in PostgreSQL; the best of 3, without parallel query:\n",
            extent.query_rows
        );
        println!("| question | rows | rollups |\n|---|---|---|");
        queries::measure(extent.query_rows, &cluster)?;
    }
    Ok(())
}

impl Line {
    fn print(&self) {
        let Some(Spread { min, median, max }) = Spread::of(self.values.iter().copied()) else { return };
        let decimals = usize::from(median < 100.0) * 2;
        let Self { what, unit, .. } = self;
        println!("| {what} | {median:.decimals$} ({min:.decimals$}–{max:.decimals$}) | {unit} |");
    }
}

/// Opens a journal in a directory, as a proxy does by default; with PostgreSQL if a URL is given.
fn open_journal(directory: &Path, url: Option<&str>) -> anyhow::Result<Opened> {
    let options = Options {
        sqlite_file: directory.join("journal.db"),
        postgres: url.map(str::parse).transpose().context("the cluster's URL")?,
        queue_bytes: 16 << 20,
        queue_directory: "/dev/shm".into(),
        outbox_max_bytes: Some(64 << 30),
        retention: Retention::default(),
        migrate: true,
    };
    Ok(open(options, Box::new(|_| {}))?)
}
