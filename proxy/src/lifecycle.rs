//! How the proxy stops, in steps: accept nothing new, let calls end, cut what is left; and when programs have had their last
//! words heard, let the workers go.
//!
//! Streams that owe no answer are not waited for: an idle `GET` would otherwise hold every stop up to its
//! deadline.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// How often the end of the last call is looked for while stopping.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The signal that the proxy stops. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopping(Arc<Steps>);

#[derive(Debug, Default)]
struct Steps {
    draining: CancellationToken,
    aborting: CancellationToken,
    dismissing: CancellationToken,
}

impl Stopping {
    /// The same signal for one worker. It is asked several times for each call, and has a lock: one for all workers would
    /// go from core to core.
    pub(crate) fn for_worker(&self) -> Self {
        let Steps { draining, aborting, dismissing } = &*self.0;
        let [draining, aborting, dismissing] =
            [draining, aborting, dismissing].map(CancellationToken::child_token);
        Self(Arc::new(Steps { draining, aborting, dismissing }))
    }

    /// Nothing new is accepted from now on.
    pub(crate) fn drain(&self) {
        self.0.draining.cancel();
    }

    /// What is still open is cut.
    pub(crate) fn abort(&self) {
        self.0.draining.cancel();
        self.0.aborting.cancel();
    }

    /// Nothing needs a worker any more.
    pub(crate) fn dismiss(&self) {
        self.abort();
        self.0.dismissing.cancel();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.is_cancelled()
    }

    pub(crate) fn is_aborting(&self) -> bool {
        self.0.aborting.is_cancelled()
    }

    pub(crate) fn drained(&self) -> WaitForCancellationFuture<'_> {
        self.0.draining.cancelled()
    }

    pub(crate) fn aborted(&self) -> WaitForCancellationFuture<'_> {
        self.0.aborting.cancelled()
    }

    pub(crate) fn dismissed(&self) -> WaitForCancellationFuture<'_> {
        self.0.dismissing.cancelled()
    }
}

/// What is going on at this moment, counted by one worker.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    connections: AtomicI64,
    exchanges: AtomicI64,
    streams: AtomicI64,
    sending: AtomicI64,
}

/// Which number of an [`Activity`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A client's connection.
    Connection,
    /// An exchange that owes its client an answer.
    Exchange,
    /// A `GET`, which may last for ever.
    Stream,
    /// A connection with bytes for a client that has not taken them yet.
    Sending,
}

impl Activity {
    fn number(&self, kind: Kind) -> &AtomicI64 {
        match kind {
            Kind::Connection => &self.connections,
            Kind::Exchange => &self.exchanges,
            Kind::Stream => &self.streams,
            Kind::Sending => &self.sending,
        }
    }

    /// How many there are.
    pub(crate) fn count(&self, kind: Kind) -> i64 {
        self.number(kind).load(Ordering::Relaxed)
    }

    /// One more, until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, kind: Kind) -> Ongoing {
        self.number(kind).fetch_add(1, Ordering::Relaxed);
        Ongoing { activity: Arc::clone(self), kind }
    }
}

/// Something that is going on.
#[derive(Debug)]
pub(crate) struct Ongoing {
    activity: Arc<Activity>,
    kind: Kind,
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.activity.number(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits until nothing is owed any more; `false` if that takes longer than `limit`.
pub(crate) async fn wait_until_settled(limit: Duration, owes: impl Fn() -> bool) -> bool {
    let settled = async {
        loop {
            // Twice, because between two looks at different numbers one thing may turn into another.
            let first = owes();
            tokio::time::sleep(LOOK_AGAIN).await;
            if !first && !owes() {
                return;
            }
        }
    };
    tokio::time::timeout(limit, settled).await.is_ok()
}
