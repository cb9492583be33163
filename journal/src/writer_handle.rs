//! The owner's grip on the writer thread: waiting for it, and ending it.

use crate::{body::DeskHandle, journal::Shared, orders::Order, writer::Writer};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle, sleep},
    time::{Duration, Instant},
};
use tracing::error;

/// How long [`WriterHandle::flush`] waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the end of the thread is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The writer thread. Dropping the handle tells it to end but does not wait; [`WriterHandle::close`] does.
///
/// The order of an orderly end: stop the traffic, [`WriterHandle::flush`], stop the shipper and let it ship
/// what is left, [`WriterHandle::close`]. Closing before the shipper has ended loses nothing either; only the
/// deletion of what was shipped last is then left to the next process.
pub struct WriterHandle {
    thread: Option<JoinHandle<u64>>,
    orders: SyncSender<Order>,
    shared: Arc<Shared>,
    /// The queue's file, if it has one.
    queue: Option<PathBuf>,
    /// What comes from there has to end before the writer does.
    desk: DeskHandle,
}

/// Records that the disk did not take until the end. They stay in the queue's file for the next process; where
/// the queue has no file they are counted as lost.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{records} finished calls could not be written: {}", Unwritten::fate(.queue.as_deref()))]
pub struct Unwritten {
    /// How many.
    pub records: u64,
    /// Where the next process finds them; absent if they are lost.
    pub queue: Option<PathBuf>,
}

impl Unwritten {
    fn fate(queue: Option<&Path>) -> String {
        let stay = |queue: &Path| format!("they stay in {} for the next start", queue.display());
        queue.map_or_else(|| "they are lost".to_owned(), stay)
    }
}

impl WriterHandle {
    pub(crate) fn start(
        writer: Writer,
        orders: SyncSender<Order>,
        shared: Arc<Shared>,
        desk: DeskHandle,
    ) -> io::Result<Self> {
        let queue = writer.queue_file();
        let notice = Arc::clone(&shared);
        let work = move || {
            catch_unwind(AssertUnwindSafe(|| writer.run())).unwrap_or_else(|_| {
                notice.notice.tell_disk(Err("the journal's writer has panicked".to_owned()));
                error!("the journal's writer has panicked: calls are no longer recorded");
                0
            })
        };
        let thread = Builder::new().name("journal-writer".to_owned()).spawn(work)?;
        Ok(Self { thread: Some(thread), orders, shared, queue, desk })
    }

    /// Blocks until everything that was accepted before is durable; false if the disk did not take it within
    /// 5 seconds.
    pub fn flush(&self) -> bool {
        self.shared.bodies.flush();
        let (done, told) = sync_channel(1);
        if self.orders.try_send(Order::Flush(done)).is_err() {
            return false;
        }
        told.recv_timeout(PATIENCE).is_ok()
    }

    /// Ends the thread; blocks until everything that was accepted before is durable, or until the disk has
    /// refused it for 5 seconds, or has not answered for 10: then the thread is left to itself, and what it has not
    /// written stays in the queue's file for the next process.
    pub fn close(mut self) -> Result<(), Unwritten> {
        self.desk.end();
        self.shared.closing.store(true, Ordering::Release);
        self.wake();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let deadline = Instant::now() + 2 * PATIENCE;
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                return Err(self.unwritten(self.shared.ledger.snapshot().queued));
            }
            sleep(LOOK_AGAIN);
        }
        // A thread that panicked has said so; what is in the queue then stays there for the next process.
        match thread.join() {
            Ok(records) if records > 0 => Err(self.unwritten(records)),
            _ => Ok(()),
        }
    }

    fn unwritten(&mut self, records: u64) -> Unwritten {
        Unwritten { records, queue: self.queue.take() }
    }

    fn wake(&self) {
        // Without room for it there is enough to do that the writer is awake.
        drop(self.orders.try_send(Order::Wake));
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Opened, Options, Retention, open};
    use std::sync::mpsc::channel;

    #[test]
    fn work_on_the_file_that_the_disk_does_not_answer_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            sqlite_file: directory.path().join("journal.db"),
            postgres: None,
            queue_bytes: 1 << 20,
            queue_directory: directory.path().to_owned(),
            outbox_max_bytes: None,
            retention: Retention::default(),
            migrate: false,
        };
        let Opened { journal, writer, .. } = open(options, Box::new(|_| {})).unwrap();
        let (release, held) = channel::<()>();
        let work = move |_: Option<&mut rusqlite::Connection>| {
            // The disk answers when the test drops the other end.
            let _ = held.recv();
            Ok(())
        };
        assert!(writer.orders.try_send(Order::Work(Box::new(work))).is_ok());
        let deadline = Instant::now() + Duration::from_secs(60);
        let wait_for = |ok| {
            while journal.health().disk.ok != ok {
                assert!(Instant::now() < deadline, "ok is not {ok}");
                sleep(LOOK_AGAIN);
            }
        };
        wait_for(false);
        assert!(journal.health().disk.error.unwrap().contains("has not answered"));
        drop(release);
        wait_for(true);
        writer.close().unwrap();
    }
}
