//! What the files on this machine say: the outbox, or the store, and the queue in shared memory.

use super::{
    DAYS_BACK, days_ago,
    finding::{Finding, tell_gaps, tell_remains},
    span,
};
use mcpmeter_config::{Config, StoreUrl};
use mcpmeter_journal::{Backlog, chain};
use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

const MIB: u64 = 1 << 20;

/// Looks at them. `waiting` is how many calls wait in the outbox if a proxy has told: it knows of those that
/// PostgreSQL has and that are not deleted yet.
pub(super) fn examine(config: &Config, waiting: Option<u64>, findings: &mut Vec<Finding>) {
    let store = &config.store;
    let (file, embedded) = match &store.url {
        StoreUrl::Sqlite(file) => (file, true),
        StoreUrl::Postgres(_) => (&store.outbox, false),
    };
    if !file.exists() {
        let text =
            format!("{} is not there: nothing was recorded with this configuration yet", file.display());
        return findings.push(Finding::warning("file", text, "start mcpmeter once, or name the right file"));
    }
    let max_bytes = store.outbox_max_mib.map(|mib| u64::from(mib) * MIB);
    let mut backlog = match Backlog::read(file, max_bytes, days_ago(DAYS_BACK)) {
        Ok(backlog) => backlog,
        Err(error) => {
            let advice = "the next start sets a damaged file aside and goes on with a new one";
            return findings.push(Finding::problem("file", chain(&error), advice));
        }
    };
    backlog.records = waiting.unwrap_or(backlog.records);
    findings.extend(tell_writer(file, &backlog, waiting.is_some()));
    if embedded {
        findings.push(Finding::ok("store", format!("{} has {}", file.display(), mib(backlog.bytes))));
    } else {
        findings.push(tell_outbox(file, &backlog));
        findings.push(tell_oldest(&backlog));
    }
    tell_queue(config, &backlog, findings);
    tell_gaps("gaps", &backlog.gaps, findings);
    tell_remains(&backlog, findings);
}

fn tell_writer(file: &Path, backlog: &Backlog, runs: bool) -> Option<Finding> {
    let process = backlog.writer.filter(|_| !runs)?;
    let text = format!("process {process} writes {}, but does not answer as a proxy", file.display());
    Some(Finding::warning("file", text, "say with --admin where its admin port is"))
}

fn tell_outbox(file: &Path, backlog: &Backlog) -> Finding {
    let Backlog { records, bytes, max_bytes, .. } = backlog;
    let percent = bytes.saturating_mul(100) / (*max_bytes).max(1);
    let text = format!(
        "{records} calls wait in {}, which has {} of {} ({percent} %)",
        file.display(),
        mib(*bytes),
        mib(*max_bytes)
    );
    let advice =
        "get PostgreSQL back, or raise store.outbox_max_mib: when it is full the newest calls are lost";
    match percent {
        ..50 => Finding::ok("outbox", text),
        50..90 => Finding::warning("outbox", text, advice),
        _ => Finding::problem("outbox", text, advice),
    }
}

fn tell_oldest(backlog: &Backlog) -> Finding {
    let Some((began, _)) = backlog.oldest else {
        return Finding::ok("oldest", "no call waits in the outbox");
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let age = (now.as_secs_f64() - began.0 as f64 / 1e6).max(0.0);
    let text = format!("the oldest call in the outbox began {} ago", span(age));
    if age < 60.0 {
        Finding::ok("oldest", text)
    } else {
        Finding::warning("oldest", text, "it waits until PostgreSQL has it, however long that takes")
    }
}

fn tell_queue(config: &Config, backlog: &Backlog, findings: &mut Vec<Finding>) {
    for queue in &backlog.queues {
        let path = queue.path.display();
        findings.push(match (backlog.writer, queue.in_memory) {
            (None, _) => Finding::warning(
                "queue",
                format!("{path} was left by a proxy that was killed"),
                "start mcpmeter on this machine: it stores the calls in there",
            ),
            (Some(_), true) => Finding::ok("queue", format!("{path} is in memory")),
            (Some(_), false) => Finding::warning(
                "queue",
                format!("{path} is on a disk, which can slow requests down"),
                "set store.queue_directory to a directory in memory, as /dev/shm is",
            ),
        });
    }
    if backlog.queues.is_empty() && backlog.writer.is_some() {
        findings.push(Finding::problem(
            "queue",
            format!("the proxy runs, but its queue is not in {}", config.store.queue_directory.display()),
            "somebody has deleted it: a kill would lose the last milliseconds; restart mcpmeter",
        ));
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    #[test]
    fn an_outbox_is_graver_the_fuller_it_is() {
        let level = |bytes| {
            let backlog = Backlog { bytes, max_bytes: 100 * MIB, ..Backlog::default() };
            tell_outbox(Path::new("o"), &backlog).level
        };
        assert_eq!([10, 60, 95].map(|mib| level(mib * MIB)), [Level::Ok, Level::Warning, Level::Problem]);
    }
}
