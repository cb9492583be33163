//! The gaps in the books: when how many calls were lost and why, in the table `mcp_log_gap`.
//!
//! The writer compares the counters of what is lost with what it has noted, and writes the difference as soon
//! as the disk takes it, in the transaction of the next batch. A further loss for the same reason within a
//! minute of the last extends its row. A gap survives restarts; only a process that is killed before the disk
//! took it forgets it. `calls` is 0 where nobody knows how many.

use crate::accounts::{Ledger, LossReason};
use rusqlite::{OptionalExtension, Transaction};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
        Self { counted: [0; REASONS], open: [None; REASONS], looked: now() }
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

    /// Nobody knows how many were lost just now.
    pub(crate) fn add_unknown(&mut self, reason: LossReason) {
        let now = now();
        self.add(reason, Gap { from: now, to: now, calls: 0 });
    }

    fn add(&mut self, reason: LossReason, gap: Gap) {
        let open = &mut self.open[reason as usize];
        let before = open.unwrap_or(gap);
        let calls = open.map_or(0, |open| open.calls) + gap.calls;
        *open = Some(Gap { from: before.from.min(gap.from), to: gap.to, calls });
    }

    /// Whether there is anything to write.
    pub(crate) fn is_open(&self) -> bool {
        self.open.iter().any(Option::is_some)
    }

    /// Writes what is open.
    pub(crate) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for reason in LossReason::ALL {
            if let Some(gap) = self.open[reason as usize] {
                write(transaction, reason, gap)?;
            }
        }
        Ok(())
    }

    /// What was written is durable.
    pub(crate) fn settle(&mut self) {
        self.open = [None; REASONS];
    }
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
    use rusqlite::Connection;

    fn rows(connection: &Connection) -> Vec<(String, i64)> {
        let mut select = connection.prepare("select reason, calls from mcp_log_gap order by seq").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn losses_of_one_stretch_share_a_row_and_reasons_never_do() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLE).unwrap();
        let ledger = Ledger::new(false);
        let mut gaps = Gaps::new();
        let mut lose = |reason, calls| {
            ledger.count_lost(reason, calls);
            gaps.observe(&ledger);
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
        let transaction = connection.transaction().unwrap();
        gaps.write(&transaction).unwrap();
        transaction.commit().unwrap();
        assert_eq!(rows(&connection).len(), 3);
    }

    #[test]
    fn what_the_disk_did_not_take_is_written_once_it_does() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLE).unwrap();
        let ledger = Ledger::new(false);
        let mut gaps = Gaps::new();
        for _ in 0..3 {
            ledger.count_lost(LossReason::QueueFull, 10);
            gaps.observe(&ledger);
            let transaction = connection.transaction().unwrap();
            gaps.write(&transaction).unwrap();
            // Rolled back, as on a full disk.
        }
        let transaction = connection.transaction().unwrap();
        gaps.write(&transaction).unwrap();
        transaction.commit().unwrap();
        gaps.settle();
        assert!(!gaps.is_open());
        assert_eq!(rows(&connection), [("queue_full".to_owned(), 30)]);
    }
}
