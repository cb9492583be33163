//! How long the shipper waits between two batches. A batch costs nearly the same for one call as for hundreds (a
//! transaction, a cursor, a mark, on both sides), so that few calls wait for company, and many do not.

use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The shortest time between two batches, unless there was more to ship.
pub(super) const SHORTEST: Duration = Duration::from_millis(200);
/// The longest that a call waits for others.
const LONGEST: Duration = Duration::from_secs(1);
/// So many calls are worth a batch of their own.
const WORTH_A_BATCH: i64 = 1_000;

/// Waits for the next batch after the one that began then; `waiting` tells how many calls there are for it.
pub(super) async fn pass(began: Instant, waiting: impl Fn() -> i64) {
    loop {
        let step = SHORTEST.saturating_sub(began.elapsed());
        sleep(if step.is_zero() { SHORTEST } else { step }).await;
        if waiting() >= WORTH_A_BATCH || began.elapsed() >= LONGEST {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn few_calls_wait_for_company_and_many_do_not() {
        let looks = Cell::new(0);
        let count = |calls: i64| {
            looks.set(looks.get() + 1);
            calls
        };
        pass(Instant::now(), || count(WORTH_A_BATCH)).await;
        assert_eq!(looks.take(), 1);
        let began = Instant::now();
        pass(began, || count(WORTH_A_BATCH - 1)).await;
        assert!(looks.get() > 1 && began.elapsed() >= LONGEST);
    }
}
