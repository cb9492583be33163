//! `mcpmeter-bench growth`: what a call costs mcpmeter as there are more connections, sessions, routes, bytes, and rows that
//! cannot be stored. In each round every point once, each with a mcpmeter of its own, so that what else the machine does
//! falls on all alike.

mod plot;
mod point;
mod quantity;
mod report;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::files::allow_files;
use crate::load::Ids;
use crate::machine::{Machine, describe_machine};
use crate::postgres::Cluster;
use crate::run::start_upstream;
use crate::section::write_section;

use point::Measured;
use quantity::{Point, Quantity};

/// The most connections, each with one of its own to the upstream, and room for the rest.
const FILES: u64 = 4_096;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Extent {
    /// Only these quantities.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<Quantity>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The length of each window.
    #[arg(long, default_value_t = 2.0, value_parser = crate::arguments::parse_seconds)]
    seconds: f64,
    /// Rewrite the growth section of this file, and draw growth.svg beside it.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "benches/README.md")]
    write: Option<PathBuf>,
}

/// One point, and what was measured there in each round.
#[derive(Debug)]
struct Series {
    point: Point,
    rounds: Vec<Measured>,
}

/// Measures and prints a table. Must run inside a `LocalSet`.
pub(crate) async fn measure(extent: &Extent) -> anyhow::Result<()> {
    allow_files(FILES).context("too few files may be open")?;
    let quantities = if extent.only.is_empty() { &Quantity::ALL[..] } else { &extent.only };
    let points = quantities.iter().flat_map(|quantity| quantity.points());
    let mut series: Vec<_> = points.map(|point| Series { point, rounds: Vec::new() }).collect();
    let (directory, _cluster) = (tempfile::tempdir()?, Cluster::shared());
    let (_upstream, upstream) = start_upstream(directory.path())?;
    let (ids, window) = (Rc::<Ids>::default(), Duration::from_secs_f64(extent.seconds));
    for round in 1..=extent.rounds {
        for Series { point, rounds } in &mut series {
            let measured = point::measure(*point, upstream, &ids, window).await;
            let measured = measured.with_context(|| format!("cannot measure {}", point.name()))?;
            let (name, cpu_us) = (point.name(), measured.cpu_us);
            eprintln!("round {round}/{}: {name:32} {cpu_us:9.1} µs", extent.rounds);
            rounds.push(measured);
        }
    }
    let text = render(extent, &series);
    print!("{text}");
    if let Some(path) = &extent.write {
        write_section(path, "growth", &text)?;
        let drawing = path.parent().unwrap_or(Path::new("")).join("growth.svg");
        std::fs::write(&drawing, plot::draw(&report::panels(&series)))
            .with_context(|| format!("cannot write {}", drawing.display()))?;
    }
    Ok(())
}

fn render(extent: &Extent, series: &[Series]) -> String {
    let Machine { cpu, cores, kernel, date } = describe_machine();
    let (rounds, seconds) = (extent.rounds, extent.seconds);
    let table = report::render_table(series);
    format!(
        "* {date}; {cpu}, {cores} cores, Linux {kernel}\n\
         * {rounds} rounds of {seconds} s windows: median (minimum–maximum)\n\n{table}\n![growth](growth.svg)\n"
    )
}
