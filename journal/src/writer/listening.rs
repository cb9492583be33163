//! How the writer takes orders: between two batches, and while it waits for the next. The disk may be slow to answer to
//! any of them, which is noticed as it is for a batch.

use super::Writer;
use crate::orders::Order;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::RecvTimeoutError,
    thread,
    time::Duration,
};
use tracing::error;

impl Writer {
    /// Carries out what somebody asks for.
    pub(super) fn obey(&mut self, order: Order) {
        match order {
            Order::Wake => {}
            Order::Flush(done) => self.round.call_back(done),
            Order::Work(work) => {
                self.shared.notice.begin_disk_work();
                let done = catch_unwind(AssertUnwindSafe(|| work(self.connection.as_mut())));
                self.shared.notice.end_disk_work();
                match done {
                    Ok(Ok(())) => {}
                    Ok(Err(damage)) => self.damaged = Some(damage),
                    Err(_) => error!("whoever wanted something of the journal's file panicked"),
                }
            }
        }
    }

    pub(super) fn wait(&mut self, pause: Duration) {
        match self.orders.recv_timeout(pause) {
            Ok(order) => self.obey(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(pause),
        }
    }
}
