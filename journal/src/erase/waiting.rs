//! Calls that wait in the SQLite file in encoded form: in the outbox for PostgreSQL, in the quarantine for a person.
//!
//! What cannot be decoded cannot be told from a call of the person; it is taken for one if the id stands in its bytes,
//! and then nothing of it is kept.

use super::{
    Erasure, Manner, Whose,
    file::{PAUSE, PIECE},
    traces::{anonymise, is_of},
};
use crate::outbox::{ERASED, FORMAT, Undecodable, decode, encode};
use rusqlite::{Connection, TransactionBehavior};
use std::thread::sleep;

/// What becomes of one of them.
enum Fate {
    Gone,
    /// In the format of this version.
    Anonymous(Vec<u8>),
}

/// The reason for which an anonymised call is in the quarantine: what it was may quote the call.
const NO_REASON: &str = "the reason was removed with what led to a person";

/// The outbox: rows stay, because their numbers have to follow each other, and hold nothing.
pub(super) fn outbox(connection: &mut Connection, erasure: &Erasure) -> rusqlite::Result<u64> {
    in_pieces(connection, "outbox", erasure, |connection, seq, fate| {
        let mut update =
            connection.prepare_cached("update outbox set format = ?2, record = ?3 where seq = ?1")?;
        match fate {
            Fate::Gone => update.execute((seq, ERASED, [0_u8; 0])),
            Fate::Anonymous(record) => update.execute((seq, FORMAT, record)),
        }
    })
}

/// The quarantine: who looks at it wants to know why PostgreSQL refuses calls, not how many there were.
pub(super) fn quarantine(connection: &mut Connection, erasure: &Erasure) -> rusqlite::Result<u64> {
    in_pieces(connection, "quarantine", erasure, |connection, seq, fate| match fate {
        Fate::Gone => connection.prepare_cached("delete from quarantine where seq = ?1")?.execute([seq]),
        Fate::Anonymous(record) => connection
            .prepare_cached("update quarantine set format = ?2, record = ?3, reason = ?4 where seq = ?1")?
            .execute((seq, FORMAT, record, NO_REASON)),
    })
}

/// Goes through the table from the first to the last, and has every call of the person changed.
fn in_pieces(
    connection: &mut Connection,
    table: &str,
    erasure: &Erasure,
    change: impl Fn(&Connection, i64, Fate) -> rusqlite::Result<usize>,
) -> rusqlite::Result<u64> {
    let select = format!("select seq, format, record from {table} where seq > ?1 order by seq limit {PIECE}");
    let (mut after, mut changed) = (i64::MIN, 0);
    loop {
        let mut fates = Vec::new();
        let mut last = None;
        let mut statement = connection.prepare_cached(&select)?;
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            last = Some(seq);
            if let Some(fate) = fate(row.get(1)?, row.get_ref(2)?.as_blob()?, erasure) {
                fates.push((seq, fate));
            }
        }
        drop(rows);
        drop(statement);
        let Some(last) = last else { return Ok(changed) };
        after = last;
        if erasure.manner == Manner::Count {
            changed += fates.len() as u64;
        } else if !fates.is_empty() {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (seq, fate) in fates {
                // One that has been shipped in the meantime is not there any more.
                changed += change(&transaction, seq, fate)? as u64;
            }
            transaction.commit()?;
            sleep(PAUSE);
        }
    }
}

/// What becomes of a record; nothing if it is not of the person.
fn fate(format: i64, bytes: &[u8], erasure: &Erasure) -> Option<Fate> {
    match decode(format, bytes) {
        Ok(record) if !is_of(&record, &erasure.whose) => None,
        Ok(record) => Some(match erasure.name() {
            // What was decoded can be encoded.
            Some(name) => encode(&anonymise(record, name)).map_or(Fate::Gone, Fate::Anonymous),
            None => Fate::Gone,
        }),
        Err(Undecodable::Erased) => None,
        Err(_) => names(bytes, &erasure.whose).then_some(Fate::Gone),
    }
}

fn names(bytes: &[u8], whose: &Whose) -> bool {
    let id = whose.id().as_bytes();
    !id.is_empty() && bytes.windows(id.len()).any(|window| window == id)
}
