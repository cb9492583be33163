//! When a shared program that has ended may be started again: at once after the first time, later and later if it keeps
//! ending, and not for a while if it does so five times a minute (WIRE.md 6). Pure: instants are arguments.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// Who lives this long is well.
const WELL: Duration = Duration::from_secs(60);
/// So many ends within [`WELL`] are too many.
const TOO_MANY: usize = 5;

/// The failures of late.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    failures: VecDeque<Instant>,
    pause: Duration,
    not_before: Option<Instant>,
}

impl Restarts {
    /// It has ended of itself.
    pub(super) fn note_failure(&mut self, started: Instant, now: Instant) {
        if now.duration_since(started) >= WELL {
            *self = Self::default();
        }
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|at| now.duration_since(*at) >= WELL) {
            self.failures.pop_front();
        }
        self.pause = if self.pause.is_zero() { FIRST } else { (self.pause * 2).min(LONGEST) };
        let pause = if self.failures.len() >= TOO_MANY { LONGEST } else { self.pause };
        self.not_before = Some(now + pause);
    }

    /// How long to wait before the next start.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_start_anew_after_a_good_minute() {
        let mut restarts = Restarts::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        assert_eq!(restarts.pause(now), Duration::ZERO);
        for _ in 0..6 {
            let started = now;
            now += Duration::from_millis(10);
            restarts.note_failure(started, now);
            pauses.push(restarts.pause(now).as_millis());
            now += restarts.pause(now);
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 30_000, 30_000]);
        restarts.note_failure(now, now + WELL);
        assert_eq!(restarts.pause(now + WELL), FIRST);
    }
}
