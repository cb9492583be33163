//! `mcpmeter-bench memory`: what proxies hold at rest, with thousands of open streams on which nothing happens, and in and
//! after a storm. Resident memory of the whole process tree, as the kernel tells it; one contender after the other, each
//! started afresh for the streams and for the storm.

mod resident;
mod streams;

use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::contender::{Contender, Kind, Running, Variant};
use crate::files::allow_files;
use crate::load::{Ids, apply_load};
use crate::machine::{Machine, describe_machine};
use crate::postgres::Cluster;
use crate::run::start_upstream;
use crate::section::write_section;
use crate::table::{align, group_digits};
use crate::workload::find_workload;

use resident::{Resident, read_resident};
use streams::Streams;

/// Calls before streams are counted: what a proxy makes once for all clients is then made.
const WARM_UP: Duration = Duration::from_secs(1);
const STORM: Duration = Duration::from_secs(5);
/// How long after the end of the storm it is looked at again.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// Between two looks at what is held in the storm.
const LOOK: Duration = Duration::from_millis(200);
/// Until what was just done has settled.
const REST: Duration = Duration::from_secs(2);

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Extent {
    /// Who is measured.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", default_value = "nginx,haproxy,envoy,mcpmeter")]
    contenders: Vec<Kind>,
    /// Open streams.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=4_000))]
    streams: u32,
    /// Rewrite the memory section of this file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "benches/README.md")]
    write: Option<PathBuf>,
}

/// What one contender held.
struct Held {
    name: String,
    at_rest: Resident,
    before_streams: Resident,
    with_streams: Resident,
    before_storm: Resident,
    peak: Resident,
    after_storm: Resident,
}

/// Measures every proxy and prints a table. Must run inside a `LocalSet`.
pub(crate) async fn measure(extent: &Extent) -> anyhow::Result<()> {
    // A proxy has two sockets for each stream.
    allow_files(u64::from(extent.streams) * 2 + 1_000).context("too few files may be open")?;
    let _cluster = Cluster::shared();
    let contenders = Contender::choose(&extent.contenders, &[Variant::default()]);
    let (mut held, mut versions) = (Vec::new(), Vec::new());
    for contender in contenders.into_iter().filter(|contender| *contender != Contender::Direct) {
        let name = contender.name();
        eprintln!("{name}");
        versions.extend(contender.version()?);
        let holds = hold(contender, extent.streams as usize).await;
        held.push(holds.with_context(|| format!("cannot measure {name}"))?);
    }
    let Machine { cpu, cores, kernel, date } = describe_machine();
    let text = format!(
        "* {date}; {cpu}, {cores} cores, Linux {kernel}\n* {}\n\n{}",
        versions.join(", "),
        render(&held, extent.streams)
    );
    print!("{text}");
    if let Some(path) = &extent.write {
        write_section(path, "memory", &text)?;
    }
    Ok(())
}

async fn hold(contender: Contender, streams: usize) -> anyhow::Result<Held> {
    let directory = tempfile::tempdir()?;
    let (_upstream, upstream) = start_upstream(directory.path())?;
    let start = |folder: &str| {
        let own = directory.path().join(folder);
        std::fs::create_dir(&own)?;
        anyhow::Ok(contender.start(upstream, &own, None)?)
    };
    let running = start("streams")?;
    let at_rest = rest(&running).await?;
    load(&running, "small-16", WARM_UP).await?;
    let before_streams = rest(&running).await?;
    let open = Streams::open(&running.target, streams).await?;
    let with_streams = rest(&running).await?;
    drop(open);
    running.finish()?;

    let running = start("storm")?;
    let before_storm = rest(&running).await?;
    let peak = hold_in_storm(&running).await?;
    tokio::time::sleep(AFTERWARDS).await;
    let after_storm = read(&running)?;
    running.finish()?;
    let name = contender.name();
    Ok(Held { name, at_rest, before_streams, with_streams, before_storm, peak, after_storm })
}

/// The most that was seen until all connections of the storm are closed.
async fn hold_in_storm(running: &Running) -> anyhow::Result<Resident> {
    let (mut peak, mut storm) = (read(running)?, pin!(load(running, "small-256", STORM)));
    loop {
        tokio::select! {
            done = &mut storm => {
                done?;
                return Ok(peak);
            }
            () = tokio::time::sleep(LOOK) => peak = peak.max(read(running)?),
        }
    }
}

async fn load(running: &Running, workload: &str, duration: Duration) -> anyhow::Result<()> {
    let workload = find_workload(workload).map_err(anyhow::Error::msg)?;
    let load = apply_load(&running.target, workload, &Rc::<Ids>::default(), duration).await?;
    match load.failures.into_iter().next() {
        Some(failure) => Err(failure).context("calls failed"),
        None => Ok(()),
    }
}

async fn rest(running: &Running) -> anyhow::Result<Resident> {
    tokio::time::sleep(REST).await;
    read(running)
}

fn read(running: &Running) -> anyhow::Result<Resident> {
    Ok(read_resident(running.process_id().context("it has no process")?)?)
}

fn render(held: &[Held], streams: u32) -> String {
    let head = [
        "contender".to_owned(),
        "at rest, RSS MiB".to_owned(),
        "PSS MiB".to_owned(),
        format!("KiB per idle stream, {} open", group_digits(streams.into())),
        "before the storm, RSS MiB".to_owned(),
        "most in it".to_owned(),
        format!("{} s after it", AFTERWARDS.as_secs()),
    ];
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    let row = |held: &Held| {
        let grown = held.with_streams.rss_kib as f64 - held.before_streams.rss_kib as f64;
        [
            held.name.clone(),
            mib(held.at_rest.rss_kib),
            mib(held.at_rest.pss_kib),
            format!("{:.1}", grown / f64::from(streams)),
            mib(held.before_storm.rss_kib),
            mib(held.peak.rss_kib),
            mib(held.after_storm.rss_kib),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(held.iter().map(row)).map(Vec::from).collect();
    align(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_costs_what_memory_grew_by_divided_by_their_number() {
        let resident = |mib: u64| Resident { rss_kib: mib * 1024, pss_kib: mib * 512 };
        let held = Held {
            name: "nginx".into(),
            at_rest: resident(10),
            before_streams: resident(12),
            with_streams: resident(22),
            before_storm: resident(10),
            peak: resident(40),
            after_storm: resident(11),
        };
        let table = render(&[held], 1_024);
        let cells: Vec<_> = table.lines().last().unwrap().split('|').map(str::trim).collect();
        assert_eq!(cells[1..8], ["nginx", "10.0", "5.0", "10.0", "10.0", "40.0", "11.0"], "{table}");
    }
}
