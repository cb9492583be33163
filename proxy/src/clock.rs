//! The process's clocks and randomness. The only place that asks the system what time it is for a record;
//! everything behind it is told.

use mcpmeter_observer::{Tick, Timestamp};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks; copied freely.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose ticks begin now.
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The monotonic clock.
    pub(crate) fn tick(self) -> Tick {
        Tick(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The wall clock, which may step.
    pub(crate) fn timestamp(self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }
}
