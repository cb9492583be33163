//! What callgrind has counted, and what it is compared with.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// What a call costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counted {
    /// Instructions of the thread that carries calls.
    pub(super) worker: u64,
    /// Instructions of all threads. What the others do also depends on how long the run took.
    pub(super) all: u64,
    /// How often the thread that carries calls asks for memory, new or more.
    #[serde(default)]
    pub(super) allocations: u64,
}

/// What one thread did in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Thread {
    instructions: u64,
    allocations: u64,
}

impl Counted {
    /// What a run with `calls` more calls has more. The worker is the thread that has most more: books are kept for less
    /// than calls are carried.
    pub(super) fn between(short: &[Thread], long: &[Thread], calls: u64) -> Self {
        let before = short.iter().copied().chain(std::iter::repeat(Thread::default()));
        let more = long.iter().zip(before).map(|(long, short)| Thread {
            instructions: long.instructions.saturating_sub(short.instructions) / calls,
            allocations: long.allocations.saturating_sub(short.allocations) / calls,
        });
        let more: Vec<Thread> = more.collect();
        let worker = more.iter().copied().max_by_key(|thread| thread.instructions).unwrap_or_default();
        Self {
            worker: worker.instructions,
            all: more.iter().map(|thread| thread.instructions).sum(),
            allocations: worker.allocations,
        }
    }

    /// By how much of itself the worker's figure has grown.
    pub(super) fn growth_since(&self, before: &Self) -> f64 {
        self.worker as f64 / before.worker.max(1) as f64 - 1.0
    }
}

/// All threads, in the order in which they began.
pub(super) fn read_threads(directory: &Path) -> anyhow::Result<Vec<Thread>> {
    let mut files: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    files.retain(|file| file.file_name().to_string_lossy().starts_with("counted-"));
    files.sort_by_key(fs::DirEntry::file_name);
    let threads = files.iter().map(|file| {
        let text = fs::read_to_string(file.path())?;
        let instructions = total(&text).with_context(|| format!("{} has no total", file.path().display()))?;
        Ok(Thread { instructions, allocations: allocations(&text) })
    });
    threads.collect()
}

fn total(text: &str) -> Option<u64> {
    // The summary comes before the figures, the total behind them; one may be left 0.
    let numbers = text.lines().filter_map(|line| {
        line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: "))?.trim().parse::<u64>().ok()
    });
    numbers.max()
}

/// The allocator's ways in, as the program's own allocator is linked.
const ALLOCATE: [&str; 4] = ["_rjem_malloc", "_rjem_mallocx", "_rjem_calloc", "_rjem_rallocx"];

/// Calls of the allocator. A name is written once, with a number that stands for it from then on (Callgrind Format
/// Specification, "Name Compression"); `calls=` follows the name of what is called.
fn allocations(text: &str) -> u64 {
    let (mut names, mut is_allocator, mut count) = (HashMap::new(), false, 0);
    for line in text.lines() {
        if let Some(called) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            let (number, name) = called.split_once(' ').unwrap_or((called, ""));
            if !name.is_empty() {
                // Recursion is told apart by a suffix.
                let name = name.split('\'').next().unwrap_or(name);
                names.insert(number, ALLOCATE.contains(&name));
            }
            is_allocator = line.starts_with('c') && names.get(number).copied().unwrap_or(false);
        } else if let Some(calls) = line.strip_prefix("calls=").filter(|_| is_allocator) {
            count += calls.split(' ').next().and_then(|calls| calls.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_costs_what_the_longer_run_has_more() {
        let thread = |instructions, allocations| Thread { instructions, allocations };
        let short = [thread(500, 0), thread(1_000, 7), thread(90, 0)];
        let long = [thread(500, 0), thread(9_000, 107), thread(1_090, 900), thread(80, 0)];
        let counted = Counted::between(&short, &long, 10);
        assert_eq!(counted, Counted { worker: 800, all: 908, allocations: 10 });
        let before = Counted { worker: 400, all: 0, allocations: 0 };
        assert!((counted.growth_since(&before) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn calls_of_the_allocator_are_counted_by_whatever_name_stands_for_it() {
        let text = "fn=(1) main\ncfn=(2) _rjem_malloc\ncalls=3 0\n16 20\ncfn=(3) memcpy\ncalls=9 0\n\
                    fn=(2)\ncfn=(4) _rjem_malloc_slow\ncalls=2 0\nfn=(5) f\ncfn=(2)\ncalls=4 +1\n";
        assert_eq!(allocations(text), 7);
    }

    #[test]
    fn the_total_is_found_at_either_end() {
        assert_eq!(total("version: 1\nsummary: 0\nfn=(1) main\n5 7\ntotals: 7\n"), Some(7));
        assert_eq!(total("summary: 9\n"), Some(9));
        assert_eq!(total("fn=(1)\n"), None);
    }
}
