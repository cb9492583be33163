//! What one response gets from a program, message by message, and how the program learns that nobody waits for it any more.

use super::{
    child::Child,
    conversation::Stream,
    outlet::{Arrival, Inlet},
};
use std::{
    sync::Arc,
    task::{Context, Poll},
};

/// The program's side of one response. Dropped before its end, it tells the program that the client has left.
pub(super) struct Answers {
    pub(super) inlet: Inlet,
    pub(super) child: Arc<Child>,
    pub(super) stream: Stream,
    /// In the revision without sessions, leaving is cancelling.
    pub(super) cancels: bool,
}

impl Answers {
    /// What comes next; `None` behind the last.
    pub(super) async fn next(&mut self) -> Option<Arrival> {
        self.inlet.next().await
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrival>> {
        self.inlet.poll_next(cx)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.child.leave(self.stream, self.cancels);
    }
}
