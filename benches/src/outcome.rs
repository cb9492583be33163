//! What a run gave: figures per window, calls and rows per contender, and what must not happen. Plain data; report.rs turns
//! it into tables.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cpu::CpuSpent;
use crate::load::Load;
use crate::stats::percentile;
use crate::workload::Workload;

/// The figures of one workload for one contender in one round.
#[derive(Debug)]
pub(crate) struct Window {
    /// The workload.
    pub(crate) workload: &'static Workload,
    /// The contender's name.
    pub(crate) contender: String,
    /// From 0.
    pub(crate) round: usize,
    /// Calls answered.
    pub(crate) calls: usize,
    /// From the first call to the last answer.
    pub(crate) elapsed: Duration,
    /// CPU of the proxy's processes until they were quiet again; none without a proxy.
    pub(crate) cpu: Option<CpuSpent>,
    /// CPU of the PostgreSQL server that has the rows, until all were there; none without one.
    pub(crate) store_cpu: Option<CpuSpent>,
    /// Half of the calls took at most this long.
    pub(crate) p50: Duration,
    /// 99 of 100 calls took at most this long.
    pub(crate) p99: Duration,
    /// Half of the answers began within this time.
    pub(crate) first_p50: Duration,
    /// The share of one core the load generator used: near 1 it is what is measured.
    pub(crate) generator: f64,
    /// Cores busy with what is not ours.
    pub(crate) others: f64,
}

/// Calls and rows of one contender over all rounds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Books {
    /// Calls answered, warm-up included.
    pub(crate) calls: u64,
    /// Rows found.
    pub(crate) rows: u64,
}

/// What a run gave.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// All windows that had calls.
    pub(crate) windows: Vec<Window>,
    /// Answers checked, warm-up included.
    pub(crate) checked: u64,
    /// By contender, those that keep books.
    pub(crate) books: BTreeMap<String, Books>,
    /// What must not happen. A run with faults has failed.
    pub(crate) faults: Vec<String>,
}

/// The figures of a window that `load` filled; none if no call was answered. The caller sets the round.
pub(crate) fn summarize(
    workload: &'static Workload,
    contender: String,
    mut load: Load,
    cpu: Option<CpuSpent>,
    store_cpu: Option<CpuSpent>,
    generator: f64,
    others: f64,
) -> Option<Window> {
    load.latencies_ns.sort_unstable();
    load.first_ns.sort_unstable();
    let share = |sorted: &[u64], share| percentile(sorted, share).map(Duration::from_nanos);
    Some(Window {
        workload,
        contender,
        round: 0,
        calls: load.calls(),
        elapsed: load.elapsed,
        cpu,
        store_cpu,
        p50: share(&load.latencies_ns, 0.5)?,
        p99: share(&load.latencies_ns, 0.99)?,
        first_p50: share(&load.first_ns, 0.5)?,
        generator,
        others,
    })
}
