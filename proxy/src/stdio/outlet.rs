//! From a program to one response: what it says waits here until the client takes it. Bounded in bytes, because the
//! program must not be stopped for one slow client, and memory must not grow for it either.

use super::conversation::Delivery;
use mcpmeter_observer::Failure;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// What comes on a response.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A message of the program.
    Message(Delivery),
    /// The program has failed, or the client was too slow.
    Failed(Failure),
}

/// The program's side.
#[derive(Debug)]
pub(super) struct Outlet {
    sender: mpsc::UnboundedSender<Arrival>,
    waiting: Arc<AtomicUsize>,
}

/// The response's side. `None` where nothing more comes.
#[derive(Debug)]
pub(super) struct Inlet {
    receiver: mpsc::UnboundedReceiver<Arrival>,
    waiting: Arc<AtomicUsize>,
}

/// Both sides of one response.
pub(super) fn pair() -> (Outlet, Inlet) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::<AtomicUsize>::default();
    (Outlet { sender, waiting: Arc::clone(&waiting) }, Inlet { receiver, waiting })
}

impl Outlet {
    /// Hands a message over; `false` if more than `limit` bytes would wait. One message always may.
    pub(super) fn send(&self, delivery: Delivery, limit: usize) -> bool {
        let bytes = delivery.message.len();
        let before = self.waiting.fetch_add(bytes, Relaxed);
        if before > 0 && before + bytes > limit {
            return false;
        }
        // Without a receiver the client has left, and its guard says so.
        let _ = self.sender.send(Arrival::Message(delivery));
        true
    }

    /// The last word.
    pub(super) fn fail(&self, failure: Failure) {
        let _ = self.sender.send(Arrival::Failed(failure));
    }
}

impl Inlet {
    /// The next message, or failure.
    pub(super) async fn next(&mut self) -> Option<Arrival> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrival>> {
        let arrival = std::task::ready!(self.receiver.poll_recv(cx));
        if let Some(Arrival::Message(delivery)) = &arrival {
            self.waiting.fetch_sub(delivery.message.len(), Relaxed);
        }
        Poll::Ready(arrival)
    }
}
