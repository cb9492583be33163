//! Keeps a proxy's keys as the store has them: asks every second what has changed, and writes back when keys were used.
//!
//! A store that cannot be read changes nothing about the keys that are known. It is said once when that begins, and once
//! when it ends.

use super::{KeyRing, Keys};
use mcpmeter_journal::{KeyError, KeyStore, chain};
use std::{mem, time::Duration};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// How often it is asked what has changed: a revocation is known about that much later. No notification, because none gets
/// through a pooler in transaction mode; one row is read, unless something has changed.
const PERIOD: Duration = Duration::from_secs(1);
/// How often uses are written back: each key once a minute at most.
const USES_PERIOD: Duration = Duration::from_secs(60);
/// How long the last uses may take to be written, when the proxy stops. What comes too late is lost, and nothing else.
const LAST_USES: Duration = Duration::from_millis(800);

/// Reads that have to fail in a row before it is said: a database that is being made, or started again, needs a moment.
const WORTH_TELLING: u32 = 3;

/// How far the reading has come.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// What has been read so far.
    revision: i64,
    /// What will be known as soon as all that has changed has been read.
    coming: Option<Keys>,
    /// Reads that have failed in a row.
    failures: u32,
}

impl KeyRing {
    /// Keeps the keys current until it is told to stop, and then writes the last uses.
    pub(crate) async fn keep_current(&self, store: KeyStore, stopped: impl Future<Output = ()>) {
        tokio::select! {
            () = stopped => {}
            // Beside each other: writing may take longer than a revocation may wait.
            () = self.keep_reading(&store) => {}
            () = self.keep_writing(&store) => {}
        }
        let uses = self.take_uses();
        if !uses.is_empty() && !matches!(timeout(LAST_USES, store.touch(&uses)).await, Ok(Ok(()))) {
            info!(keys = uses.len(), "the last uses of keys could not be noted");
        }
    }

    async fn keep_reading(&self, store: &KeyStore) {
        let mut reading = Reading::default();
        loop {
            let read = self.read_changes(store, &mut reading).await;
            self.tell(&mut reading, read);
            sleep(PERIOD).await;
        }
    }

    /// Reads what has changed. What is known changes only when all of it has been read.
    pub(super) async fn read_changes(&self, store: &KeyStore, reading: &mut Reading) -> Result<(), KeyError> {
        loop {
            let changes = store.changes_since(reading.revision).await?;
            if changes.starts_over {
                reading.coming = Some(Keys::new());
            } else if !changes.keys.is_empty() || !self.is_ready() {
                reading.coming.get_or_insert_with(|| self.known());
            }
            if let Some(coming) = &mut reading.coming {
                self.add(coming, changes.keys);
            }
            reading.revision = changes.revision;
            if changes.starts_over {
                warn!("the store has fewer changes of keys than it had: all keys are read anew");
            }
            if !changes.has_more {
                break;
            }
        }
        if let Some(keys) = reading.coming.take() {
            self.know(keys);
        }
        Ok(())
    }

    fn tell(&self, reading: &mut Reading, read: Result<(), KeyError>) {
        let failures = mem::take(&mut reading.failures);
        let Err(error) = read else {
            if failures >= WORTH_TELLING {
                info!("the keys can be read again");
            }
            return;
        };
        reading.failures = failures.saturating_add(1);
        if reading.failures == WORTH_TELLING {
            let consequence = if self.is_ready() {
                "those that are known stay as they are"
            } else {
                "callers with one are answered 503 until that works"
            };
            warn!(error = chain(&error), "cannot read the keys: {consequence}");
        }
    }

    async fn keep_writing(&self, store: &KeyStore) {
        let mut is_failing = false;
        loop {
            sleep(USES_PERIOD).await;
            let uses = self.take_uses();
            if uses.is_empty() {
                continue;
            }
            let written = store.touch(&uses).await;
            if let Err(error) = &written {
                self.give_back(&uses);
                if !is_failing {
                    warn!(
                        error = chain(error),
                        "cannot note when keys were used: it is tried again every minute"
                    );
                }
            }
            is_failing = written.is_err();
        }
    }
}
