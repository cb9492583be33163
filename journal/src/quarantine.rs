//! Records that PostgreSQL can never take: set aside in the same SQLite file with the reason, so that one bad
//! row does not stop all the good ones behind it.
//!
//! A row is copied here, durably, before the cursor passes it. A crash between the two means that it is tried
//! once more and set aside once more, which changes nothing. Only the first [`MOST`] are kept: a constraint that
//! somebody adds refuses every call, and the quarantine takes room from the outbox. All of them are counted.

use rusqlite::Transaction;
use std::time::{SystemTime, UNIX_EPOCH};

/// Records that are kept, each of at most 32 KiB.
const MOST: u32 = 1_000;

/// One record to be set aside.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// Its number in the outbox.
    pub(crate) seq: i64,
    /// What PostgreSQL, or the decoder, said.
    pub(crate) reason: String,
}

/// Copies the records from the outbox into the quarantine.
pub(crate) fn set_aside(transaction: &Transaction<'_>, misfits: &[Misfit]) -> rusqlite::Result<()> {
    let now = now();
    let mut insert = transaction.prepare_cached(
        "insert or ignore into quarantine (seq, format, record, reason, set_aside_at)
         select seq, format, record, ?2, ?3 from outbox
         where seq = ?1 and (select count(*) from quarantine) < ?4",
    )?;
    for Misfit { seq, reason } in misfits {
        insert.execute((seq, reason, now, MOST))?;
    }
    Ok(())
}

/// Keeps a record that never was in the outbox and that the store cannot take. Its number is negative: those of
/// the outbox are not.
pub(crate) fn keep(
    transaction: &Transaction<'_>,
    format: u32,
    record: &[u8],
    reason: &str,
) -> rusqlite::Result<()> {
    transaction.execute(
        "insert into quarantine (seq, format, record, reason, set_aside_at)
         select min(coalesce(min(seq), 0), 0) - 1, ?1, ?2, ?3, ?4 from quarantine having count(*) < ?5",
        (format, record, reason, now(), MOST),
    )?;
    Ok(())
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    i64::try_from(now).unwrap_or(i64::MAX)
}
