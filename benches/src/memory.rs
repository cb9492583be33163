//! What proxies hold at rest: alone, with thousands of open streams on which nothing happens, and after a storm has gone.
//! Resident memory of the whole process tree, as the kernel tells it; one contender after the other, each started afresh.

mod resident;
mod streams;

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;

use crate::contender::{Contender, Kind, Store, Variant};
use crate::load::{Ids, apply_load};
use crate::run::start_upstream;
use crate::workload::find_workload;

use resident::resident_kib;
use streams::Streams;

/// Open streams.
const STREAMS: usize = 3_000;
/// The storm, and how long it is looked at afterwards.
const STORM: Duration = Duration::from_secs(5);
const AFTERWARDS: Duration = Duration::from_secs(20);
/// Until what was just done has settled.
const SETTLE: Duration = Duration::from_secs(2);

/// What one contender held, in KiB.
struct Held {
    name: String,
    idle: u64,
    with_streams: u64,
    fresh: u64,
    in_storm: u64,
    after_storm: u64,
}

/// Measures every proxy of `kinds` and gives a table.
pub(crate) async fn measure(kinds: &[Kind]) -> anyhow::Result<String> {
    streams::allow_files(4 * STREAMS as u64).context("too few files may be open")?;
    let variant = Variant { store: Store::Sqlite, ..Variant::default() };
    let mut rows = Vec::new();
    for contender in Contender::choose(kinds, &[variant]) {
        if contender != Contender::Direct {
            let name = contender.name();
            rows.push(hold(contender).await.with_context(|| format!("cannot measure {name}"))?);
        }
    }
    Ok(render(&rows))
}

async fn hold(contender: Contender) -> anyhow::Result<Held> {
    let directory = tempfile::tempdir()?;
    let (_upstream, upstream) = start_upstream(directory.path())?;
    let start = |folder: &str| {
        let own = directory.path().join(folder);
        std::fs::create_dir(&own)?;
        let running = contender.start(upstream, &own)?;
        let process = running.process_id().context("it has no process")?;
        anyhow::Ok((running, process))
    };
    let (running, process) = start("streams")?;
    tokio::time::sleep(SETTLE).await;
    let idle = resident_kib(process)?;
    let streams = Streams::open(&running.target, STREAMS).await?;
    tokio::time::sleep(SETTLE).await;
    let with_streams = resident_kib(process)?;
    drop(streams);
    running.finish()?;

    let (running, process) = start("storm")?;
    tokio::time::sleep(SETTLE).await;
    let fresh = resident_kib(process)?;
    let workload = find_workload("small-256").expect("it is one of ours");
    let ids = Rc::new(Ids::default());
    let load = apply_load(&running.target, workload, &ids, STORM);
    let peak = async {
        tokio::time::sleep(STORM - Duration::from_millis(200)).await;
        resident_kib(process)
    };
    let (load, in_storm) = tokio::join!(load, peak);
    anyhow::ensure!(load?.failures.is_empty(), "calls of the storm failed");
    tokio::time::sleep(AFTERWARDS).await;
    let after_storm = resident_kib(process)?;
    running.finish()?;
    Ok(Held { name: contender.name(), idle, with_streams, fresh, in_storm: in_storm?, after_storm })
}

fn render(rows: &[Held]) -> String {
    let mut table = format!(
        "| contender | at rest MiB | KiB per stream, {STREAMS} open | before a storm MiB | in it | {} s after it |\n|---|---|---|---|---|---|\n",
        AFTERWARDS.as_secs()
    );
    let mib = |kib: u64| kib as f64 / 1024.0;
    for held in rows {
        let Held { name, idle, with_streams, fresh, in_storm, after_storm } = held;
        let per_stream = (*with_streams as f64 - *idle as f64) / STREAMS as f64;
        table += &format!(
            "| {name} | {:.1} | {per_stream:.1} | {:.1} | {:.1} | {:.1} |\n",
            mib(*idle),
            mib(*fresh),
            mib(*in_storm),
            mib(*after_storm)
        );
    }
    table
}
