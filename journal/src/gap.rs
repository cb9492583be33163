//! The gaps in the books: when how many calls were lost and why, in the table `mcp_log_gap`.
//!
//! The writer compares the counters of what is lost with what it has noted, and writes the difference as soon
//! as the disk takes it, in the transaction of the next batch. A further loss for the same reason within a
//! minute of the last extends its row. A gap survives restarts; only a process that is killed before the disk
//! took it forgets it. `calls` is 0 where nobody knows how many.
//!
//! A transaction of which the disk reports an error may have happened all the same. So what is being written does not
//! change until it is known to be durable, and goes by a number that is written with it: tried again, it is found there
//! and left out.

use crate::accounts::{Ledger, LossReason};
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// The table; instants in microseconds since 1970. `shipped` is how many of `calls` PostgreSQL was told, -1 before
/// it was told of the row at all; a `closed` row does not grow any more.
pub(crate) const TABLE: &str = "
    create table if not exists mcp_log_gap (
      seq integer primary key autoincrement, from_at integer not null, to_at integer not null,
      calls integer not null, reason text not null, shipped integer not null default -1, closed integer not null default 0) strict;
";

/// A loss within this time of the last for the same reason belongs to the same gap.
const SAME_GAP: Duration = Duration::from_secs(60);
const REASONS: usize = LossReason::ALL.len();

/// What has been lost and is not in the table yet.
#[derive(Debug)]
pub(crate) struct Gaps {
    /// What of the ledger's counters is in `open` or in the table.
    counted: [u64; REASONS],
    open: [Option<Gap>; REASONS],
    /// What is being written, and may have been.
    attempted: [Option<Gap>; REASONS],
    /// Tells what is being written from what was written before, by whomever.
    run: Uuid,
    attempt: u64,
    /// When the counters were last looked at.
    looked: i64,
}

/// A stretch of loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    from: i64,
    to: i64,
    calls: u64,
}

impl Gaps {
    pub(crate) fn new() -> Self {
        Self {
            counted: [0; REASONS],
            open: [None; REASONS],
            attempted: [None; REASONS],
            run: Uuid::new_v4(),
            attempt: 0,
            looked: now(),
        }
    }

    /// So many that are lost, or are just about to be counted as lost, are in the table already.
    pub(crate) fn skip(&mut self, reason: LossReason, calls: u64) {
        self.counted[reason as usize] += calls;
    }

    /// Looks what was lost since the last look.
    pub(crate) fn observe(&mut self, ledger: &Ledger) {
        let (from, to) = (self.looked, now());
        for reason in LossReason::ALL {
            let lost = ledger.lost(reason);
            let calls = lost - self.counted[reason as usize];
            if calls > 0 {
                self.add(reason, Gap { from: from.min(to), to, calls });
                self.counted[reason as usize] = lost;
            }
        }
        self.looked = to;
    }

    fn add(&mut self, reason: LossReason, gap: Gap) {
        let open = &mut self.open[reason as usize];
        let before = open.unwrap_or(gap);
        let calls = open.map_or(0, |open| open.calls) + gap.calls;
        *open = Some(Gap { from: before.from.min(gap.from), to: gap.to, calls });
    }

    /// Whether there is anything to write.
    pub(crate) fn is_open(&self) -> bool {
        self.open.iter().chain(&self.attempted).any(Option::is_some)
    }

    /// To be called before [`Gaps::write`]: what is open is what is going to be written, unless something else still is.
    pub(crate) fn prepare(&mut self) {
        if self.attempted.iter().all(Option::is_none) {
            self.attempted = std::mem::replace(&mut self.open, [None; REASONS]);
            self.attempt += 1;
        }
    }

    /// Writes what was prepared, unless an earlier attempt did.
    pub(crate) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.attempted.iter().all(Option::is_none) || self.is_written(transaction)? {
            return Ok(());
        }
        for reason in LossReason::ALL {
            if let Some(gap) = self.attempted[reason as usize] {
                write(transaction, reason, gap)?;
            }
        }
        write_stamp(transaction, &self.stamp())
    }

    /// What was written is durable.
    pub(crate) fn settle(&mut self) {
        self.attempted = [None; REASONS];
    }

    fn is_written(&self, connection: &Connection) -> rusqlite::Result<bool> {
        Ok(read_stamp(connection)?.is_some_and(|stamp| stamp == self.stamp()))
    }

    fn stamp(&self) -> Vec<u8> {
        [&self.run.as_bytes()[..], &self.attempt.to_be_bytes()].concat()
    }
}

/// The number of what was written last.
pub(crate) fn read_stamp(connection: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
    let select = "select value from meta where key = 'gap_stamp'";
    connection.query_row(select, [], |row| row.get(0)).optional()
}

/// See [`read_stamp`].
pub(crate) fn write_stamp(connection: &Connection, stamp: &[u8]) -> rusqlite::Result<()> {
    let upsert = "insert or replace into meta (key, value) values ('gap_stamp', ?1)";
    connection.execute(upsert, [stamp]).map(drop)
}

/// Notes in the transaction that so many were lost just now; 0 where nobody knows how many.
pub(crate) fn note(transaction: &Transaction<'_>, reason: LossReason, calls: u64) -> rusqlite::Result<()> {
    let now = now();
    write(transaction, reason, Gap { from: now, to: now, calls })
}

fn write(transaction: &Transaction<'_>, reason: LossReason, gap: Gap) -> rusqlite::Result<()> {
    let last: Option<(i64, i64)> = transaction
        .prepare_cached(
            "select seq, to_at from mcp_log_gap where reason = ?1 and closed = 0 order by seq desc limit 1",
        )?
        .query_row([reason.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let calls = i64::try_from(gap.calls).unwrap_or(i64::MAX);
    let near = i64::try_from(SAME_GAP.as_micros()).unwrap_or(i64::MAX);
    match last {
        // A clock that was set back makes a row of its own.
        Some((seq, to_at)) if (to_at - near..=to_at + near).contains(&gap.from) => transaction
            .prepare_cached(
                "update mcp_log_gap set to_at = max(to_at, ?2), calls = calls + ?3 where seq = ?1",
            )?
            .execute((seq, gap.to, calls))?,
        _ => transaction
            .prepare_cached(
                "insert into mcp_log_gap (from_at, to_at, calls, reason) values (?1, ?2, ?3, ?4)",
            )?
            .execute((gap.from, gap.to, calls, reason.as_str()))?,
    };
    Ok(())
}

/// Begins new rows from here on: under its new name the outbox would tell PostgreSQL of the old ones again.
pub(crate) fn close(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute("update mcp_log_gap set closed = 1", [])?;
    Ok(())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    i64::try_from(since).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLE).unwrap();
        connection.execute_batch("create table meta (key text primary key, value blob)").unwrap();
        connection
    }

    fn rows(connection: &Connection) -> Vec<(String, i64)> {
        let mut select = connection.prepare("select reason, calls from mcp_log_gap order by seq").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn losses_of_one_stretch_share_a_row_and_reasons_never_do() {
        let mut connection = file();
        let ledger = Ledger::new(false);
        let mut gaps = Gaps::new();
        let mut lose = |reason, calls| {
            ledger.count_lost(reason, calls);
            gaps.observe(&ledger);
            gaps.prepare();
            let transaction = connection.transaction().unwrap();
            gaps.write(&transaction).unwrap();
            transaction.commit().unwrap();
            gaps.settle();
        };
        lose(LossReason::QueueFull, 2);
        lose(LossReason::OutboxFull, 1);
        lose(LossReason::QueueFull, 3);
        assert_eq!(rows(&connection), [("queue_full".to_owned(), 5), ("outbox_full".to_owned(), 1)]);

        connection
            .execute("update mcp_log_gap set from_at = from_at - 70000000, to_at = to_at - 70000000", [])
            .unwrap();
        ledger.count_lost(LossReason::QueueFull, 4);
        gaps.observe(&ledger);
        gaps.prepare();
        let transaction = connection.transaction().unwrap();
        gaps.write(&transaction).unwrap();
        transaction.commit().unwrap();
        assert_eq!(rows(&connection).len(), 3);
    }

    #[test]
    fn what_the_disk_did_not_take_is_written_once_it_does() {
        let mut connection = file();
        let ledger = Ledger::new(false);
        let mut gaps = Gaps::new();
        for _ in 0..3 {
            ledger.count_lost(LossReason::QueueFull, 10);
            gaps.observe(&ledger);
            gaps.prepare();
            let transaction = connection.transaction().unwrap();
            gaps.write(&transaction).unwrap();
            // Rolled back, as on a full disk.
        }
        write_all(&mut gaps, &mut connection);
        assert_eq!(rows(&connection), [("queue_full".to_owned(), 30)]);
    }

    #[test]
    fn what_a_commit_has_written_that_was_reported_as_failed_is_not_written_again() {
        let mut connection = file();
        let ledger = Ledger::new(false);
        let mut gaps = Gaps::new();
        for calls in [10, 5] {
            ledger.count_lost(LossReason::QueueFull, calls);
            gaps.observe(&ledger);
            gaps.prepare();
            let transaction = connection.transaction().unwrap();
            gaps.write(&transaction).unwrap();
            // It happened, and nobody is told.
            transaction.commit().unwrap();
        }
        assert_eq!(rows(&connection), [("queue_full".to_owned(), 10)]);
        write_all(&mut gaps, &mut connection);
        assert_eq!(rows(&connection), [("queue_full".to_owned(), 15)]);
        // Another process begins to number anew.
        let ledger = Ledger::new(false);
        let mut next = Gaps::new();
        ledger.count_lost(LossReason::QueueFull, 1);
        next.observe(&ledger);
        write_all(&mut next, &mut connection);
        assert_eq!(rows(&connection), [("queue_full".to_owned(), 16)]);
    }

    /// As the writer does, until nothing is open.
    fn write_all(gaps: &mut Gaps, connection: &mut Connection) {
        while gaps.is_open() {
            gaps.prepare();
            let transaction = connection.transaction().unwrap();
            gaps.write(&transaction).unwrap();
            transaction.commit().unwrap();
            gaps.settle();
        }
    }
}
