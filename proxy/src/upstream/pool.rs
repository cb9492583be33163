//! Connections that wait for their next request, per upstream. A worker has its own pool, so its lock is
//! taken by one thread only, unless the runtime is shared.

use super::Link;
use crate::clock::Clock;
use mcpmeter_observer::Tick;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How long a connection is kept, in nanoseconds. uvicorn and Node close idle ones after 5 s, and a request
/// that crosses their closing would be lost; so ours are given up before.
const MAX_IDLE: u64 = 4 * 1_000_000_000;
/// After so long a rest, in nanoseconds, a connection is looked at before it is used: one system call. No server
/// closes one as idle sooner, and those in constant use are not worth it.
const REST: u64 = 10 * 1_000_000;
/// Connections kept per upstream and worker; more are closed when their exchange ends.
const MAX_KEPT: usize = 256;

/// The kept connections of one worker.
#[derive(Clone)]
pub(crate) struct Pool {
    kept: Arc<Mutex<BTreeMap<u64, Vec<Kept>>>>,
    clock: Clock,
}

struct Kept {
    link: Link,
    since: Tick,
}

impl Pool {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { kept: Arc::default(), clock }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last, so that those no longer needed grow old.
    pub(super) fn take(&self, upstream: u64) -> Option<Link> {
        let now = self.clock.tick();
        let mut kept = self.kept();
        let connections = kept.get_mut(&upstream)?;
        while let Some(Kept { link, since }) = connections.pop() {
            let rest = now.nanos_since(since);
            if link.sender.is_ready() && rest < MAX_IDLE {
                if rest >= REST {
                    link.look.ask();
                }
                return Some(link);
            }
        }
        None
    }

    /// Remembers where a connection in use has to be given back.
    pub(super) fn lease(&self, upstream: u64, link: Link) -> Lease {
        Lease { pool: self.clone(), upstream, link }
    }

    /// Closes everything that is kept, because the worker stops.
    pub(crate) fn close(&self) {
        self.kept().clear();
    }

    /// Closes what has waited too long. To be called about once a second.
    pub(crate) fn close_idle(&self) {
        let now = self.clock.tick();
        self.kept().retain(|_, connections| {
            connections
                .retain(|kept| !kept.link.sender.is_closed() && now.nanos_since(kept.since) < MAX_IDLE);
            connections.shrink_to_fit();
            !connections.is_empty()
        });
    }
}

/// A connection that carries an exchange. Dropping it closes the connection: after anything but a complete
/// answer the next request would read the rest of this one.
pub(crate) struct Lease {
    pool: Pool,
    upstream: u64,
    link: Link,
}

impl Lease {
    /// The answer is complete: the connection can carry the next request.
    pub(crate) fn give_back(self) {
        if self.link.sender.is_closed() {
            return;
        }
        let since = self.pool.clock.tick();
        let mut kept = self.pool.kept();
        let connections = kept.entry(self.upstream).or_default();
        if connections.len() < MAX_KEPT {
            connections.push(Kept { link: self.link, since });
        }
    }
}
