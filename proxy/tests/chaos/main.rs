//! Chaos: real calls through the real program while PostgreSQL, the network, the disk, the clock and the program
//! itself are broken under it. One file per fault, and a storm of all of them.
//!
//! The oracle is outside the program: the callers note every call whose answer they have received to the end, and
//! the judge asks the database, over a client of its own, for every row. A call that a caller has heard the end of
//! is stored exactly once, or it is missing and the gap rows say so, to the number. The accounts are read from
//! /metrics all the time and have to balance each time.
//!
//! `MCPMETER_CHAOS_SECONDS=300 cargo test -p mcpmeter --test chaos` (`make chaos`) is the long form: the storm lasts
//! that long, and everything else is repeated in proportion. Without it all takes less than a minute.

mod backlog;
mod broken_link;
mod corrupt_outbox;
mod full_disk;
mod judge;
mod kills;
mod link;
mod lost_cursor;
mod poison;
#[path = "../../../journal/tests/support/postgres.rs"]
mod postgres;
mod postgres_stops;
mod program;
mod second_process;
mod stepping_clock;
mod storm;
mod traffic;
mod upstream;
mod world;

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up; far more than it ever takes.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long the storm lasts; asked for by `MCPMETER_CHAOS_SECONDS`.
fn storm_seconds() -> u64 {
    let wanted = std::env::var("MCPMETER_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(8)
}

/// How often a scenario repeats its fault: `short` times, and more in the long form.
fn rounds(short: u64) -> u64 {
    short * (storm_seconds() / 30).max(1)
}

/// Waits until the condition holds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
