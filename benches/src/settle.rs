//! Waits until a contender has done all the work its calls caused, that of storing them included, and reads the CPU of
//! its processes then: the proxy's and the store's apart.

use std::io;
use std::time::{Duration, Instant};

use crate::contender::Running;
use crate::cpu::{CpuSample, sample_tree, sample_when_quiet};

/// What PostgreSQL does by itself (vacuum, checkpoints) may go on for long, and is not waited for.
const STORE_PATIENCE: Duration = Duration::from_secs(3);

/// The CPU time of a contender that has nothing to do.
#[derive(Debug)]
pub(crate) struct Settled {
    /// None if there is no proxy.
    pub(crate) proxy: Option<Proxy>,
    /// The tree of the process that has the rows, where that is another one.
    pub(crate) store: Option<CpuSample>,
    /// Whether it had nothing to do in time.
    pub(crate) quiet: bool,
}

/// The proxy's process tree. A window lasts from `asked` before it to `at_rest` after it, so that what it costs to ask
/// is in no window.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Before it was asked whether it has nothing more to store.
    pub(crate) at_rest: CpuSample,
    /// Afterwards.
    pub(crate) asked: CpuSample,
}

/// Waits for at most about `patience`.
pub(crate) async fn settle(running: &Running, patience: Duration) -> io::Result<Settled> {
    let Some(process) = running.process_id() else {
        return Ok(Settled { proxy: None, store: None, quiet: true });
    };
    let start = Instant::now();
    let (at_rest, quiet) = loop {
        let (sample, quiet) = sample_when_quiet(process, patience.saturating_sub(start.elapsed())).await?;
        let stored = running.count_waiting()? == 0;
        if (quiet && stored) || start.elapsed() > patience {
            break (sample, quiet && stored);
        }
    };
    let store = match running.store_process_id() {
        Some(store) => Some(sample_when_quiet(store, STORE_PATIENCE).await?.0),
        None => None,
    };
    Ok(Settled { proxy: Some(Proxy { at_rest, asked: sample_tree(process)? }), store, quiet })
}
