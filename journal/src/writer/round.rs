//! What the writer has before it: the stretches of the queue that were committed when it last looked, and who
//! waits until all of them are durable.

use crate::ring::{Drain, Range};
use std::{collections::VecDeque, sync::mpsc::SyncSender};

/// Bytes of records in one transaction. More gains nothing, and makes a log that is long to fold.
const BATCH_BYTES: usize = 2 << 20;

/// The work of one look at the queue, written in one or more batches.
#[derive(Debug, Default)]
pub(super) struct Round {
    ranges: VecDeque<Range>,
    /// Who is told at the end of this round, and who at the end of the next.
    now: Vec<SyncSender<()>>,
    next: Vec<SyncSender<()>>,
}

impl Round {
    /// Looks at the queue, unless there is work left; says whether it has found new work.
    pub(super) fn begin(&mut self, drain: &mut Drain) -> bool {
        if !self.ranges.is_empty() {
            return false;
        }
        self.now.append(&mut self.next);
        self.ranges = drain.pending().into();
        !self.ranges.is_empty()
    }

    /// The stretches are not what they seemed; the next look finds others.
    pub(super) fn forget(&mut self) {
        self.ranges.clear();
        // Whoever waits for them waits for those.
        self.next.append(&mut self.now);
    }

    /// The work that lies ahead.
    pub(super) const fn ranges(&self) -> &VecDeque<Range> {
        &self.ranges
    }

    /// Whether everything is durable that was in the queue at the last look.
    pub(super) fn is_done(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Somebody wants to know when everything that is in the queue now is durable.
    pub(super) fn call_back(&mut self, done: SyncSender<()>) {
        self.next.push(done);
    }

    /// What the next transaction is to hold.
    pub(super) fn batch(&self) -> Vec<Range> {
        let mut bytes = 0;
        let fits = |range: &&Range| {
            let before = bytes;
            bytes += range.bytes();
            before < BATCH_BYTES
        };
        self.ranges.iter().take_while(fits).copied().collect()
    }

    /// The ranges of the batch are durable.
    pub(super) fn settle(&mut self, batch: &[Range]) {
        self.ranges.drain(..batch.len());
    }

    /// Tells whoever waits for the end of the round, if this is it.
    pub(super) fn tell_if_done(&mut self) {
        if self.ranges.is_empty() {
            for done in self.now.drain(..) {
                // A caller that ran out of patience is no longer there to be told.
                let _ = done.try_send(());
            }
        }
    }
}
