//! Whether the two places that records go to can be reached, since when, and what was last wrong with them.
//!
//! Told by the writer and the shipper, asked by readiness probes and the System page. Never on the request path.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// A disk that does not answer for so long is out of order, whether or not it will answer one day.
const STALLED: Duration = Duration::from_secs(5);

/// How one of the two places is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether the last attempt to use it succeeded; false before the first.
    pub ok: bool,
    /// Since when that has been so.
    pub since: SystemTime,
    /// What was last wrong, without secrets; kept after it is right again. Absent if nothing ever was.
    pub error: Option<String>,
}

/// How the journal is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The SQLite file: outbox, or the store itself.
    pub disk: Condition,
    /// PostgreSQL; absent if none is configured.
    pub postgres: Option<Condition>,
    /// Rows in the default partition, counted up to 1,000: more than none keeps a day from having its partition.
    pub default_partition_rows: u64,
    /// Calls that PostgreSQL had already when they were shipped, since the process began: after a backup of it
    /// was put back, or the cursor was deleted. They count as stored.
    pub duplicates: u64,
}

/// The shared notice of [`Health`].
#[derive(Debug)]
pub(crate) struct Notice {
    health: Mutex<Health>,
    opened: Instant,
    /// When the writer began what it is waiting for the disk to do, in milliseconds since `opened`; 0 for
    /// nothing.
    disk_work: AtomicU64,
}

impl Notice {
    /// The disk was just opened; PostgreSQL, if there is to be one, has not been tried.
    pub(crate) fn new(with_postgres: bool) -> Self {
        let since = SystemTime::now();
        let untried = Condition { ok: false, since, error: None };
        let disk = Condition { ok: true, since, error: None };
        let postgres = with_postgres.then_some(untried);
        let health = Mutex::new(Health { disk, postgres, default_partition_rows: 0, duplicates: 0 });
        Self { health, opened: Instant::now(), disk_work: AtomicU64::default() }
    }

    pub(crate) fn read(&self) -> Health {
        let mut health = self.lock().clone();
        let began = Duration::from_millis(self.disk_work.load(Ordering::Relaxed));
        let waiting = self.opened.elapsed().saturating_sub(began);
        if !began.is_zero() && waiting >= STALLED && health.disk.ok {
            let seconds = waiting.as_secs();
            let error = format!("the disk has not answered for {seconds} seconds: look at the system's log");
            let since = SystemTime::now() - waiting;
            health.disk = Condition { ok: false, since, error: Some(error) };
        }
        health
    }

    /// The writer is about to wait for the disk.
    pub(crate) fn begin_disk_work(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.disk_work.store(now.max(1), Ordering::Relaxed);
    }

    /// The disk has answered.
    pub(crate) fn end_disk_work(&self) {
        self.disk_work.store(0, Ordering::Relaxed);
    }

    /// Notes how an attempt on the disk ended; true if that is news.
    pub(crate) fn tell_disk(&self, result: Result<(), String>) -> bool {
        self.lock().disk.tell(result)
    }

    /// Notes how an attempt on PostgreSQL ended; true if that is news.
    pub(crate) fn tell_postgres(&self, result: Result<(), String>) -> bool {
        self.lock().postgres.as_mut().is_some_and(|condition| condition.tell(result))
    }

    /// Notes how many rows the default partition holds; true if there are some since now.
    pub(crate) fn tell_default_partition(&self, rows: u64) -> bool {
        let before = std::mem::replace(&mut self.lock().default_partition_rows, rows);
        before == 0 && rows > 0
    }

    /// Notes calls that PostgreSQL had already.
    pub(crate) fn tell_duplicates(&self, calls: u64) {
        self.lock().duplicates += calls;
    }

    /// A panic while telling leaves a complete, if old, notice behind.
    fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    fn tell(&mut self, result: Result<(), String>) -> bool {
        // How the first attempt ends is news, even if it fails.
        let first = !self.ok && self.error.is_none();
        let turned = first || self.ok != result.is_ok();
        if turned {
            self.ok = result.is_ok();
            self.since = SystemTime::now();
        }
        if let Err(error) = result {
            self.error = Some(error);
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_failure_is_news_and_the_same_one_again_is_not() {
        let notice = Notice::new(true);
        let fail = || notice.tell_postgres(Err("refused".to_owned()));
        assert_eq!([fail(), fail()], [true, false]);
        assert_eq!([notice.tell_postgres(Ok(())), notice.tell_postgres(Ok(()))], [true, false]);
        assert!(fail());
        let untroubled = Notice::new(true);
        assert_eq!([untroubled.tell_postgres(Ok(())), untroubled.tell_postgres(Ok(()))], [true, false]);
    }
}
