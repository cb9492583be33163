//! Measures one point: a mcpmeter of its own, its load, and the CPU it used per call. Checks that every call was answered
//! and is a row.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::quantity::{Point, Quantity};
use crate::contender::{Contender, Running};
use crate::cpu::sample_when_quiet;
use crate::load::{Ids, Load, apply_load};
use crate::settle::settle;
use crate::workload::Workload;

/// A mcpmeter that works longer than this after its last call is an error.
const QUIET_PATIENCE: Duration = Duration::from_secs(60);

/// A backlog that takes longer than this will not come about.
const FILL_PATIENCE: Duration = Duration::from_secs(120);
/// The load that makes it goes on for so long at a time.
const FILL_STEP: Duration = Duration::from_millis(250);

/// What one window gave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// CPU of mcpmeter, per call.
    pub(super) cpu_us: f64,
    /// CPU of PostgreSQL, per call; none while it is stopped.
    pub(super) store_us: Option<f64>,
}

/// Measures `point` once.
pub(super) async fn measure(
    point: Point,
    upstream: SocketAddr,
    ids: &Rc<Ids>,
    window: Duration,
) -> anyhow::Result<Measured> {
    let directory = tempfile::tempdir()?;
    let running = Contender::Mcpmeter(point.variant()).start(upstream, directory.path(), None)?;
    if point.quantity == Quantity::Backlog {
        return measure_with_backlog(point, running, ids, window).await;
    }
    let before = load(&running, &point.workload(), ids, point.warm_up()).await?;
    ensure!(before >= point.least_calls_before(), "only {before} calls were made before the window");
    let start = settle(&running, QUIET_PATIENCE).await?;
    let calls = load(&running, &point.workload(), ids, window).await?;
    let end = settle(&running, QUIET_PATIENCE).await?;
    ensure!(start.quiet && end.quiet, "it did not become quiet");
    let proxy = end.proxy.zip(start.proxy).context("it has no process")?;
    let store = end.store.zip(start.store);
    let rows = running.finish()?.context("it has no books")?;
    ensure!(rows == before + calls, "{} calls were answered but {rows} rows were stored", before + calls);
    let per_call = |time: Duration| time.as_secs_f64() * 1e6 / calls as f64;
    Ok(Measured {
        cpu_us: per_call(proxy.0.at_rest.since(&proxy.1.asked).total),
        store_us: store.map(|(end, start)| per_call(end.since(&start).total)),
    })
}

/// With PostgreSQL stopped and `point.size` rows waiting for it, and more as the calls come.
async fn measure_with_backlog(
    point: Point,
    running: Running,
    ids: &Rc<Ids>,
    window: Duration,
) -> anyhow::Result<Measured> {
    let process = running.process_id().context("it has no process")?;
    // The tables are made for the first rows; nothing but the calls shall be different from now on.
    let mut made = load(&running, &point.workload(), ids, point.warm_up()).await?;
    settle(&running, QUIET_PATIENCE).await?;
    running.halt_store();
    let began = Instant::now();
    while running.count_waiting()? < point.size {
        ensure!(began.elapsed() < FILL_PATIENCE, "the backlog does not grow");
        made += load(&running, &point.filling(), ids, FILL_STEP).await?;
    }
    made += load(&running, &point.workload(), ids, point.warm_up()).await?;
    let (start, was_quiet) = sample_when_quiet(process, QUIET_PATIENCE).await?;
    let calls = load(&running, &point.workload(), ids, window).await?;
    let (end, is_quiet) = sample_when_quiet(process, QUIET_PATIENCE).await?;
    let waiting = running.count_waiting()?;
    let rows = running.finish_halted()?.context("it has no books")?;
    ensure!(was_quiet && is_quiet, "it did not become quiet");
    made += calls;
    ensure!(made == rows + waiting, "{made} calls were answered, {rows} are rows and {waiting} wait");
    Ok(Measured { cpu_us: end.since(&start).total.as_secs_f64() * 1e6 / calls as f64, store_us: None })
}

/// The calls that were answered; an error if one was not.
async fn load(
    running: &Running,
    workload: &Workload,
    ids: &Rc<Ids>,
    duration: Duration,
) -> anyhow::Result<u64> {
    let load = apply_load(&running.target, workload, ids, duration).await?;
    let calls = load.calls() as u64;
    let Load { failures, .. } = load;
    match failures.into_iter().next() {
        Some(failure) => Err(failure).context("a call failed"),
        None if calls == 0 => anyhow::bail!("no call was answered"),
        None => Ok(calls),
    }
}
