//! How long a client may take to send the head of a request (`proxy.request_head_timeout_ms`), so that half-sent heads
//! hold no connection for ever. Never ends a connection on which an exchange is going on, nor one that is idle between
//! two of them.
//!
//! Costs no clock and no timer per request: one look at each connection every quarter of the limit.

use atomic_waker::AtomicWaker;
use http::Version;
use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll},
    time::Duration,
};

/// Looks per limit: a client is let go between the limit and a quarter more.
const LOOKS: u32 = 4;

/// What one connection waits for. Its socket and its exchanges tell it; both run in the connection's task.
#[derive(Debug)]
pub(crate) struct HeadWatch {
    /// Exchanges that are going on.
    exchanges: AtomicU32,
    /// Heads that have come so far.
    heads: AtomicU32,
    /// A head has been begun and is not complete. True from the start, for the handshake and the first head.
    is_begun: AtomicBool,
    /// On HTTP/2 bytes between exchanges are no sign of a head.
    is_multiplexed: AtomicBool,
    /// All of the last request has been read that ever will be.
    is_request_over: AtomicBool,
    /// The answer to the last request was cut by a limit.
    is_cut: AtomicBool,
    /// Waits for the end of a request.
    waiting: AtomicWaker,
}

impl HeadWatch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            exchanges: AtomicU32::new(0),
            heads: AtomicU32::new(0),
            is_begun: AtomicBool::new(true),
            is_multiplexed: AtomicBool::new(false),
            is_request_over: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            waiting: AtomicWaker::new(),
        })
    }

    /// The client has sent something.
    pub(crate) fn note_read(&self) {
        if self.exchanges.load(Relaxed) == 0 {
            self.is_begun.store(true, Relaxed);
        }
    }

    /// A head is complete; its exchange goes on until the guard is dropped.
    pub(crate) fn begin_exchange(self: &Arc<Self>, version: Version) -> Answering {
        self.exchanges.fetch_add(1, Relaxed);
        self.heads.fetch_add(1, Relaxed);
        self.is_begun.store(false, Relaxed);
        if version == Version::HTTP_2 {
            self.is_multiplexed.store(true, Relaxed);
        }
        self.is_request_over.store(false, Relaxed);
        self.is_cut.store(false, Relaxed);
        Answering(Arc::clone(self))
    }

    /// The request of the exchange that has begun last goes on until the guard is dropped.
    pub(crate) fn begin_request(self: &Arc<Self>) -> Asking {
        Asking(Arc::clone(self))
    }

    /// The answer has been cut by a limit, whether or not its client takes what there is of it.
    pub(crate) fn note_cut(&self) {
        self.is_cut.store(true, Release);
    }

    /// Whether the connection carries nothing but an exchange that was cut.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Acquire) && self.has_one_exchange()
    }

    fn has_one_exchange(&self) -> bool {
        self.exchanges.load(Relaxed) > 0 && !self.is_multiplexed.load(Relaxed)
    }

    /// Ready when there is one exchange, and its client has nothing to say any more. To be polled after the connection,
    /// which alone begins exchanges.
    pub(crate) fn poll_waits_for_answer(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_one_exchange() {
            return Poll::Pending;
        }
        if !self.is_request_over.load(Acquire) {
            self.waiting.register(cx.waker());
            if !self.is_request_over.load(Acquire) {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// The number of the head that is waited for, if one is.
    fn awaited(&self) -> Option<u32> {
        let waits = self.is_begun.load(Relaxed)
            && self.exchanges.load(Relaxed) == 0
            && !self.is_multiplexed.load(Relaxed);
        waits.then(|| self.heads.load(Relaxed))
    }

    /// Returns when one head has taken longer than `limit`; never, if that is zero.
    pub(crate) async fn overdue(&self, limit: Duration) {
        if limit.is_zero() {
            return std::future::pending().await;
        }
        let (mut seen, mut looks) = (None, 0);
        loop {
            let awaited = self.awaited();
            looks = if awaited.is_some() && awaited == seen { looks + 1 } else { 0 };
            if looks == LOOKS {
                return;
            }
            seen = awaited;
            tokio::time::sleep(limit / LOOKS).await;
        }
    }
}

/// An exchange that its connection is not to be ended under.
#[derive(Debug)]
pub(crate) struct Answering(Arc<HeadWatch>);

/// A request that its client may still be sending.
#[derive(Debug)]
pub(crate) struct Asking(Arc<HeadWatch>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.is_request_over.store(true, Release);
        self.0.waiting.wake();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.exchanges.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_awaited_from_its_first_byte_to_its_exchange() {
        let watch = HeadWatch::new();
        assert_eq!(watch.awaited(), Some(0), "the first one, from the start");
        let exchange = watch.begin_exchange(Version::HTTP_11);
        watch.note_read();
        assert_eq!(watch.awaited(), None, "that was the body");
        drop(exchange);
        assert_eq!(watch.awaited(), None, "idle");
        watch.note_read();
        assert_eq!(watch.awaited(), Some(1));
        drop(watch.begin_exchange(Version::HTTP_2));
        watch.note_read();
        assert_eq!(watch.awaited(), None, "a ping, perhaps");
    }
}
