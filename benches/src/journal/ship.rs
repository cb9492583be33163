//! How fast a backlog reaches PostgreSQL, with nothing else going on and while calls keep coming.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mcpmeter_journal::{Journal, Opened, WriterHandle};

use super::{Extent, Line, calls::Calls, open_journal};
use crate::postgres::Cluster;

/// Calls per 10 ms that keep coming: 2,000 a second.
const TRICKLE: usize = 20;
const TICK: Duration = Duration::from_millis(10);
/// Records handed over at a stretch while the backlog is made, below what the queue holds.
const BURST: usize = 10_000;

/// Rows per second of a backlog that is shipped over one connection, alone and during traffic.
pub(super) fn measure(extent: &Extent, cluster: &Cluster) -> anyhow::Result<Vec<Line>> {
    [("ship a backlog to PostgreSQL", false), ("the same while 2,000 calls/s keep coming", true)]
        .into_iter()
        .map(|(what, traffic)| {
            let round = |_| ship_backlog(extent.rows, cluster, traffic);
            let values = (0..extent.rounds).map(round).collect::<anyhow::Result<_>>()?;
            Ok(Line { what: what.to_owned(), unit: "rows/s", values })
        })
        .collect()
}

fn ship_backlog(rows: u64, cluster: &Cluster, traffic: bool) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir()?;
    let Opened { journal, writer, shipper, .. } = open_journal(directory.path(), Some(&cluster.database()))?;
    let mut calls = Calls::from(1_790_000_000_000_000, 100);
    fill(&journal, &writer, &mut calls, rows)?;
    let shipper = shipper.expect("PostgreSQL is configured");
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    thread::scope(|scope| {
        if traffic {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    calls.by_ref().take(TRICKLE).for_each(|record| journal.accept(record));
                    thread::sleep(TICK);
                }
            });
        }
        let shipped = run_until(|| journal.accounts().stored >= rows, shipper.run(pending(), Duration::ZERO));
        stop.store(true, Ordering::Relaxed);
        shipped
    })?;
    let rate = journal.accounts().stored as f64 / began.elapsed().as_secs_f64();
    writer.close()?;
    Ok(rate)
}

/// Hands records over no faster than they become durable.
pub(super) fn fill(
    journal: &Journal,
    writer: &WriterHandle,
    calls: &mut impl Iterator<Item = Box<mcpmeter_observer::CallRecord>>,
    rows: u64,
) -> anyhow::Result<()> {
    let mut left = rows as usize;
    while left > 0 {
        let burst = left.min(BURST);
        calls.take(burst).for_each(|record| journal.accept(record));
        anyhow::ensure!(writer.flush(), "the disk takes nothing");
        left -= burst;
    }
    anyhow::ensure!(journal.accounts().lost_total() == 0, "records were lost");
    Ok(())
}

/// Runs the task until the condition holds.
pub(super) fn run_until(
    mut done: impl FnMut() -> bool,
    task: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let watch = async {
            while !done() {
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::select! {
            () = watch => Ok(()),
            () = task => anyhow::bail!("it ended by itself"),
        }
    })
}
