//! What is left of deleted rows in a SQLite file: in free pages, in unused bytes of pages, in the log beside it. Rows that
//! were deleted or moved before, by the writer, leave their bytes behind, so the file is written anew as a whole.
//!
//! That keeps the writer from writing, and its queue takes what comes meanwhile; so it is only done while no proxy writes
//! the file, or where it takes a moment.

use super::{EraseReport, file::File};
use crate::{backlog::Backlog, chain::chain, sqlite, trouble};
use mcpmeter_observer::Timestamp;
use rusqlite::Connection;
use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

/// Up to this size a file is rewritten while a proxy writes it: half a second for 120,000 rows (measured once, with other
/// work going on).
const SMALL_BYTES: u64 = 64 << 20;
/// How long readers are waited for that keep the log from being cut.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one attempt waits for them: the writer waits with it.
const ATTEMPT: Duration = Duration::from_millis(100);

impl File {
    /// Sees to it that nothing is left of what was erased, and says what is. `is_written` tells that a proxy is at work.
    pub(super) fn clean(&mut self, is_written: bool, report: &mut EraseReport) {
        let place = self.place();
        let bytes = fs::metadata(&self.path).map_or(u64::MAX, |metadata| metadata.len());
        if is_written && bytes > SMALL_BYTES {
            report.leave(
                &place,
                "it is in use and large, so it was not rewritten: unused bytes of it may still hold what was erased",
                "run the command again while no proxy writes this file",
            );
        } else if let Err(error) = self.connection.execute_batch("vacuum") {
            report.leave(
                &place,
                format!(
                    "it could not be rewritten ({}): unused bytes of it may still hold what was erased",
                    trouble::advise(&error, &self.path)
                ),
                "make room for a second copy of it, and run the command again",
            );
        }
        if !cut_log(&self.connection) {
            report.leave(
                sqlite::wal_path(&self.path).display(),
                "somebody reads the file, so its log could not be cut: it may still hold what was erased",
                "end whoever reads it, and run the command again",
            );
        }
    }

    /// Says what beside the file may hold calls that this program does not get at.
    pub(super) fn look_around(&self, report: &mut EraseReport) {
        let backlog = match Backlog::read(&self.path, None, Timestamp(i64::MAX)) {
            Ok(backlog) => backlog,
            Err(error) => {
                let text = format!("what lies beside it could not be looked at: {}", chain(&error));
                return report.leave(self.place(), text, "look for queues and for files that were set aside");
            }
        };
        for aside in backlog.set_aside {
            report.leave(
                aside.display(),
                "a damaged file that was set aside",
                "delete it, with what belongs to it (-wal), once nothing in it is needed",
            );
        }
        for queue in backlog.queues.iter().filter(|_| backlog.writer.is_none()) {
            report.leave(
                queue.path.display(),
                "the queue of a proxy that was killed, or of one that cannot be seen from here",
                "start mcpmeter on this machine, which stores the calls in it, and run the command again",
            );
        }
    }
}

/// Folds the log into the file and cuts it; false if readers are in the way for too long.
fn cut_log(connection: &Connection) -> bool {
    let deadline = Instant::now() + PATIENCE;
    drop(connection.busy_timeout(ATTEMPT));
    loop {
        let busy = connection.query_row("pragma wal_checkpoint(truncate)", [], |row| row.get::<_, i64>(0));
        match busy {
            Ok(0) => return true,
            _ if Instant::now() >= deadline => return false,
            _ => sleep(ATTEMPT),
        }
    }
}
