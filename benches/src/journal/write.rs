//! What the writer's thread pays to make records durable, at the pace of a busy proxy.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use mcpmeter_journal::Opened;

use super::{Extent, Line, calls::Calls, open_journal};

/// Records per tenth of a second: 26,000 a second.
const BURST: usize = 2_600;
const PACE: Duration = Duration::from_millis(100);

/// CPU per record into the outbox, and into the table that is the store.
pub(super) fn measure(extent: &Extent) -> anyhow::Result<Vec<Line>> {
    // Nobody listens there, and nobody ships.
    let nowhere = Some("postgres://nobody@127.0.0.1:1/none");
    [("write into the outbox", nowhere), ("write into the SQLite store", None)]
        .into_iter()
        .map(|(what, url)| measure_target(extent, what, url))
        .collect()
}

fn measure_target(extent: &Extent, what: &str, url: Option<&str>) -> anyhow::Result<Line> {
    let mut values = Vec::new();
    for _ in 0..extent.rounds {
        let directory = tempfile::tempdir()?;
        let Opened { journal, writer, .. } = open_journal(directory.path(), url)?;
        let mut calls = Calls::from(1_790_000_000_000_000, 40);
        // A thread gives itself its name when it begins to run.
        anyhow::ensure!(writer.flush(), "the disk takes nothing");
        let before = writer_time()?;
        let bursts = (extent.rows as usize / BURST).max(1);
        for _ in 0..bursts {
            calls.by_ref().take(BURST).for_each(|record| journal.accept(record));
            sleep(PACE);
        }
        anyhow::ensure!(writer.flush(), "the disk takes nothing");
        let spent = writer_time()?.saturating_sub(before);
        anyhow::ensure!(journal.accounts().lost_total() == 0, "records were lost");
        values.push(spent.as_secs_f64() * 1e6 / (bursts * BURST) as f64);
        writer.close()?;
    }
    Ok(Line { what: what.to_owned(), unit: "CPU µs a record", values })
}

/// CPU time of the writer's thread.
fn writer_time() -> anyhow::Result<Duration> {
    for entry in fs::read_dir("/proc/self/task")? {
        let task = entry?.path();
        if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim_end() == "journal-writer") {
            let text = fs::read_to_string(task.join("schedstat"))?;
            return Ok(Duration::from_nanos(text.split(' ').next().unwrap_or_default().parse()?));
        }
    }
    anyhow::bail!("the writer's thread is not there")
}
