//! How much is attempted at once, and how long PostgreSQL has for it: both follow what the link can carry.
//!
//! A batch that ran out of time would do so again, for ever. So the next one is a quarter of it; one that can
//! get no smaller is given twice the time. Batches grow again when one took less than a third of its time, so
//! that twice as much certainly fits; more eagerly, and every second attempt over a slow link would be in vain.

use crate::outbox::BATCH_RECORDS;
use std::time::Duration;

/// The longest that a batch may take: one call over a link of one byte a second. TCP notices a peer that has
/// gone long before.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 60);

/// What the next attempt may hold and take.
#[derive(Debug)]
pub(super) struct Pace {
    usual: Duration,
    /// What records need.
    patience: Duration,
    /// What it takes to get an answer at all.
    patience_for_any: Duration,
    records: usize,
}

impl Pace {
    /// Whole batches, with `usual` as the time for each.
    pub(super) const fn new(usual: Duration) -> Self {
        Self { usual, patience: usual, patience_for_any: usual, records: BATCH_RECORDS as usize }
    }

    /// How many records the next batch may have, at least 1.
    pub(super) const fn records(&self) -> usize {
        self.records
    }

    /// How long one attempt may take before the connection is taken for dead: a link that stalls says nothing.
    pub(super) fn patience(&self) -> Duration {
        self.patience.max(self.patience_for_any)
    }

    /// An attempt with so many records (0 for one that brought none) was not answered in time.
    pub(super) fn timed_out(&mut self, records: usize) {
        match records {
            0 => self.patience_for_any = (self.patience() * 2).min(LONGEST),
            1 => self.patience = (self.patience() * 2).min(LONGEST),
            _ => self.records = (records / 4).max(1),
        }
    }

    /// A question without records was answered: what an outage has taught is forgotten, not what a slow link has.
    pub(super) fn answered(&mut self, took: Duration) {
        self.patience_for_any = (took * 4).clamp(self.usual, LONGEST.max(self.usual));
    }

    /// An attempt was answered.
    pub(super) fn arrived(&mut self, records: usize, took: Duration) {
        if records >= self.records && took < self.patience() / 3 {
            self.records = (self.records * 2).min(BATCH_RECORDS as usize);
        }
        if records > 0 {
            self.patience = (took * 4).clamp(self.usual, LONGEST.max(self.usual));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn batches_shrink_to_one_call_before_the_patience_grows() {
        let mut pace = Pace::new(MINUTE);
        let mut sizes = Vec::new();
        while pace.records() > 1 {
            pace.timed_out(pace.records());
            sizes.push(pace.records());
        }
        assert_eq!((sizes, pace.patience()), (vec![1_250, 312, 78, 19, 4, 1], MINUTE));
        pace.timed_out(1);
        assert_eq!(pace.patience(), 2 * MINUTE);
        for _ in 0..20 {
            pace.timed_out(0);
        }
        assert_eq!(pace.patience(), LONGEST);
    }

    #[test]
    fn a_day_without_a_connection_does_not_make_patient_with_what_stalls_after_it() {
        let mut pace = Pace::new(MINUTE);
        for _ in 0..20 {
            pace.timed_out(0);
        }
        pace.answered(Duration::from_millis(5));
        assert_eq!(pace.patience(), MINUTE);
        // A link over which one call takes minutes is as slow as before, however quickly it says so.
        pace.timed_out(1);
        pace.timed_out(1);
        pace.answered(Duration::from_millis(5));
        assert_eq!(pace.patience(), 4 * MINUTE);
        // And one that takes long to say anything gets the time for it.
        pace.arrived(1, Duration::from_secs(1));
        pace.answered(2 * MINUTE);
        assert_eq!(pace.patience(), 8 * MINUTE);
    }

    #[test]
    fn a_link_settles_at_a_size_that_it_carries_and_recovers_when_it_is_fast_again() {
        let mut pace = Pace::new(MINUTE);
        let mut late = 0;
        // 600 bytes a record, 20 kB a second.
        for _ in 0..100 {
            let took = Duration::from_secs_f64(pace.records() as f64 * 600.0 / 20_000.0);
            if took > pace.patience() {
                late += 1;
                pace.timed_out(pace.records());
            } else {
                pace.arrived(pace.records(), took);
            }
        }
        assert_eq!(late, 1, "and never again");
        for _ in 0..13 {
            pace.arrived(pace.records(), Duration::from_millis(100));
        }
        assert_eq!((pace.records(), pace.patience()), (5_000, MINUTE));
    }
}
