//! What the request path pays to hand a finished record over.

use std::thread;
use std::time::Duration;

use mcpmeter_journal::Opened;

use super::{Extent, Line, calls::Calls, open_journal};
use crate::machine::own_time;

/// Records handed over at a stretch, well below what the queue holds.
const BURST: usize = 4_000;

/// CPU per record with one and with two threads.
pub(super) fn measure(extent: &Extent) -> anyhow::Result<Vec<Line>> {
    [1, 2].into_iter().map(|threads| measure_threads(extent, threads)).collect()
}

fn measure_threads(extent: &Extent, threads: usize) -> anyhow::Result<Line> {
    let mut values = Vec::new();
    for _ in 0..extent.rounds {
        let directory = tempfile::tempdir()?;
        let Opened { journal, writer, .. } = open_journal(directory.path(), None)?;
        let bursts = extent.rows as usize / BURST / threads;
        let mut spent = Duration::ZERO;
        for _ in 0..bursts.max(1) {
            spent += thread::scope(|scope| {
                let work = |_| {
                    let journal = journal.clone();
                    scope.spawn(move || {
                        let records: Vec<_> = Calls::from(0, 1).take(BURST).collect();
                        let before = own_time();
                        records.into_iter().for_each(|record| journal.accept(record));
                        own_time().saturating_sub(before)
                    })
                };
                let working: Vec<_> = (0..threads).map(work).collect();
                working.into_iter().map(|thread| thread.join().expect("it does not panic")).sum::<Duration>()
            });
            writer.flush();
        }
        anyhow::ensure!(journal.accounts().lost_total() == 0, "the queue was full");
        values.push(spent.as_secs_f64() * 1e6 / (bursts.max(1) * threads * BURST) as f64);
        writer.close()?;
    }
    Ok(Line { what: format!("hand a record over, {threads} threads"), unit: "CPU µs a record", values })
}
