//! What callgrind has counted, and what it is compared with.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Instructions per call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counted {
    /// Of the thread that carries calls.
    pub(super) worker: u64,
    /// Of all threads. What the others do also depends on how long the run took.
    pub(super) all: u64,
}

impl Counted {
    /// What a run with `calls` more calls has more. The worker is the thread that has most more: books are kept for less
    /// than calls are carried.
    pub(super) fn between(short: &[u64], long: &[u64], calls: u64) -> Self {
        let more = |(long, short): (&u64, &u64)| long.saturating_sub(*short) / calls;
        let more: Vec<u64> = long.iter().zip(short.iter().chain(std::iter::repeat(&0))).map(more).collect();
        Self { worker: more.iter().copied().max().unwrap_or(0), all: more.iter().sum() }
    }

    /// By how much of itself the worker's figure has grown.
    pub(super) fn growth_since(&self, before: &Self) -> f64 {
        self.worker as f64 / before.worker.max(1) as f64 - 1.0
    }
}

/// The totals of all threads, in the order in which they began.
pub(super) fn read_threads(directory: &Path) -> anyhow::Result<Vec<u64>> {
    let mut files: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    files.retain(|file| file.file_name().to_string_lossy().starts_with("counted-"));
    files.sort_by_key(fs::DirEntry::file_name);
    let totals = files.iter().map(|file| {
        let text = fs::read_to_string(file.path())?;
        total(&text).with_context(|| format!("{} has no total", file.path().display()))
    });
    totals.collect()
}

fn total(text: &str) -> Option<u64> {
    // The summary comes before the figures, the total behind them; one may be left 0.
    let numbers = text.lines().filter_map(|line| {
        line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: "))?.trim().parse::<u64>().ok()
    });
    numbers.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_costs_what_the_longer_run_has_more() {
        let counted = Counted::between(&[500, 1_000, 90], &[500, 9_000, 1_090, 80], 10);
        assert_eq!(counted, Counted { worker: 800, all: 908 });
        assert!((counted.growth_since(&Counted { worker: 400, all: 0 }) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_total_is_found_at_either_end() {
        assert_eq!(total("version: 1\nsummary: 0\nfn=(1) main\n5 7\ntotals: 7\n"), Some(7));
        assert_eq!(total("summary: 9\n"), Some(9));
        assert_eq!(total("fn=(1)\n"), None);
    }
}
