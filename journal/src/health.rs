//! Whether the two places that records go to can be reached, since when, and what was last wrong with them.
//!
//! Told by the writer and the shipper, asked by readiness probes and the System page. Never on the request path.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

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
}

/// The shared notice of [`Health`].
#[derive(Debug)]
pub(crate) struct Notice {
    health: Mutex<Health>,
}

impl Notice {
    /// The disk was just opened; PostgreSQL, if there is to be one, has not been tried.
    pub(crate) fn new(with_postgres: bool) -> Self {
        let since = SystemTime::now();
        let untried = Condition { ok: false, since, error: None };
        let disk = Condition { ok: true, since, error: None };
        Self { health: Mutex::new(Health { disk, postgres: with_postgres.then_some(untried) }) }
    }

    pub(crate) fn read(&self) -> Health {
        self.lock().clone()
    }

    /// Notes how an attempt on the disk ended; true if that is news.
    pub(crate) fn tell_disk(&self, result: Result<(), String>) -> bool {
        self.lock().disk.tell(result)
    }

    /// Notes how an attempt on PostgreSQL ended; true if that is news.
    pub(crate) fn tell_postgres(&self, result: Result<(), String>) -> bool {
        self.lock().postgres.as_mut().is_some_and(|condition| condition.tell(result))
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
