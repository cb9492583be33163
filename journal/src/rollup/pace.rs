//! How many buckets one transaction in PostgreSQL takes. Many sparse ones cost little more than one, because the
//! hours and days that hold them are made once for all; a single one of a busy installation takes seconds. So the
//! number follows the time that the last transaction took. Pure: no clock.

use std::time::Duration;

/// An hour's, until it is known what they cost.
const FIRST: u32 = 12;
/// A week's: more would not make the days any cheaper, and what a transaction reads has to fit somewhere.
const MOST: u32 = 2_016;
/// Less than this, and twice as many are taken the next time.
const SHORT: Duration = Duration::from_secs(2);
/// More than this, and half as many are: it is lost work if the leader dies.
const LONG: Duration = Duration::from_secs(10);

/// The number of buckets of the next transaction.
#[derive(Debug)]
pub(super) struct Pace(u32);

impl Pace {
    pub(super) const fn new() -> Self {
        Self(FIRST)
    }

    /// At least 1.
    pub(super) const fn buckets(&self) -> u32 {
        self.0
    }

    /// A transaction took so many buckets and so long.
    pub(super) fn took(&mut self, buckets: usize, time: Duration) {
        let full = buckets >= self.0 as usize;
        if time > LONG {
            self.fall_back();
        } else if full && time < SHORT {
            self.0 = (self.0 * 2).min(MOST);
        }
    }

    /// A transaction failed after so long: perhaps because it took too long, or wanted too much. One that failed at once
    /// says nothing about how much it had to do, only that PostgreSQL was going away.
    pub(super) fn failed(&mut self, time: Duration) {
        if time >= SHORT {
            self.fall_back();
        }
    }

    fn fall_back(&mut self) {
        self.0 = (self.0 / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_buckets_are_taken_by_the_week_and_huge_ones_one_by_one() {
        let mut pace = Pace::new();
        for _ in 0..20 {
            pace.took(pace.buckets() as usize, Duration::from_millis(1));
        }
        assert_eq!(pace.buckets(), MOST);
        pace.took(1, Duration::from_millis(1));
        assert_eq!(pace.buckets(), MOST, "few say nothing about many");
        for _ in 0..20 {
            pace.took(1, Duration::from_secs(60));
        }
        assert_eq!(pace.buckets(), 1);
        pace.failed(LONG);
        assert_eq!(pace.buckets(), 1);
    }

    #[test]
    fn a_postgresql_that_is_away_does_not_make_the_steps_smaller() {
        let mut pace = Pace::new();
        for _ in 0..20 {
            pace.failed(Duration::from_millis(3));
        }
        assert_eq!(pace.buckets(), FIRST);
        pace.failed(SHORT);
        assert_eq!(pace.buckets(), FIRST / 2);
    }
}
