//! `mcpmeter-bench replay`: PostgreSQL comes back after an hour. How long the backlog takes while calls keep coming, and
//! whether every one of them is a row then.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mcpmeter_journal::{Accounts, Journal, Opened};

use super::{calls::Calls, open_journal, ship};
use crate::machine::{Machine, describe_machine};
use crate::postgres::Cluster;

/// 2026-03-01T08:00:00Z.
const START: i64 = 1_772_352_000_000_000;
/// Calls per second, before and after.
const RATE: i64 = 2_000;
/// What is late of them by no more than this has caught up: a tick of the writer and a batch.
const BEHIND: u64 = 2_000;
const TICK: Duration = Duration::from_millis(10);

/// Makes a backlog of so many calls, ships it during traffic, prints how long that took, and counts the rows.
pub(crate) fn measure(rows: u64) -> anyhow::Result<()> {
    let Machine { cpu, cores, kernel, date } = describe_machine();
    println!("* {date}, {cpu}, {cores} cores, Linux {kernel}");
    let (cluster, directory) = (Cluster::new(), tempfile::tempdir()?);
    let url = cluster.database();
    let Opened { journal, writer, shipper, .. } = open_journal(directory.path(), Some(&url))?;
    let mut calls = Calls::from(START, 1_000_000 / RATE);
    let began = Instant::now();
    ship::fill(&journal, &writer, &mut calls, rows)?;
    println!("* {rows} calls in the outbox after {:.0} s", began.elapsed().as_secs_f64());

    let shipper = shipper.expect("PostgreSQL is configured");
    let began = Instant::now();
    let (behind, done) = (AtomicBool::new(true), AtomicBool::new(false));
    let caught_up = thread::scope(|scope| {
        scope.spawn(|| {
            keep_calling(&journal, calls, began, &behind);
            writer.flush();
            done.store(true, Ordering::Relaxed);
        });
        let mut caught_up = None;
        let watch = || {
            let Accounts { queued, outbox, .. } = journal.accounts();
            if caught_up.is_none() && queued + outbox <= BEHIND {
                caught_up = Some((began.elapsed(), journal.accounts().stored));
                behind.store(false, Ordering::Relaxed);
            }
            done.load(Ordering::Relaxed) && queued + outbox == 0
        };
        let shipped = ship::run_until(watch, shipper.run(pending(), Duration::ZERO));
        behind.store(false, Ordering::Relaxed);
        shipped.map(|()| caught_up)
    })?;
    let (took, stored) = caught_up.expect("it is empty, so it was nearly so before");
    println!(
        "* caught up after {:.0} s: {stored} rows, {:.0} a second, {} of them of calls that came meanwhile",
        took.as_secs_f64(),
        stored as f64 / took.as_secs_f64(),
        stored - rows
    );
    writer.close()?;
    compare(&cluster, &url, &journal)
}

/// Goes on with calls at their rate until told otherwise.
fn keep_calling(journal: &Journal, mut calls: Calls, began: Instant, behind: &AtomicBool) {
    let mut made = 0;
    while behind.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * RATE as f64) as usize;
        calls.by_ref().take(due - made).for_each(|record| journal.accept(record));
        made = due;
        thread::sleep(TICK);
    }
}

/// Every finished call is one row.
fn compare(cluster: &Cluster, url: &str, journal: &Journal) -> anyhow::Result<()> {
    let told = cluster.query(url, "select count(*), count(distinct id) from mcpmeter.mcp_server_request_log");
    let Accounts { finished, .. } = journal.accounts();
    println!("* {finished} calls finished, {told} rows, all and different ones");
    anyhow::ensure!(told == format!("{finished}|{finished}"), "they are not the same");
    Ok(())
}
