//! Encoded records become rows, in a transaction of the writer's: of the outbox as they are, or of the table
//! that is the store.

use crate::{outbox, quarantine, ring::Frames, store};
use mcpmeter_observer::CallRecord;
use rusqlite::Transaction;

/// Where the records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// To the outbox, on their way to PostgreSQL.
    Outbox,
    /// Into the table that is the store.
    Store,
}

/// The records of one stretch of the queue, decoded; used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    pub(crate) records: Vec<CallRecord>,
    /// What could not be decoded, and why.
    unreadable: Vec<(Vec<u8>, String)>,
}

impl Sheet {
    /// Decodes the frames.
    pub(crate) fn fill(&mut self, format: u32, frames: Frames<'_>) {
        self.records.clear();
        self.unreadable.clear();
        for frame in frames {
            match outbox::decode(format.into(), frame) {
                Ok(record) => self.records.push(record),
                Err(error) => self.unreadable.push((frame.to_vec(), error.to_string())),
            }
        }
    }
}

/// What becomes of some records when the transaction is durable.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Inscribed {
    /// Rows.
    pub(crate) written: u64,
    /// Those of them that the store had already.
    pub(crate) duplicates: u64,
    /// In the quarantine: the store cannot hold what nobody can read. The outbox takes everything.
    pub(crate) unreadable: u64,
    /// Lost, because the memory that they were in is damaged.
    pub(crate) damaged: u64,
    /// The last number in the outbox, if there is any.
    pub(crate) last_seq: Option<i64>,
}

impl Inscribed {
    /// Both together.
    pub(crate) fn add(&mut self, other: Self) {
        self.written += other.written;
        self.duplicates += other.duplicates;
        self.unreadable += other.unreadable;
        self.damaged += other.damaged;
        self.last_seq = other.last_seq.or(self.last_seq);
    }
}

/// Writes the frames; for the store the sheet has to be filled with them.
pub(crate) fn inscribe(
    transaction: &Transaction<'_>,
    target: Target,
    format: u32,
    mut frames: Frames<'_>,
    sheet: &Sheet,
) -> rusqlite::Result<Inscribed> {
    let mut result = Inscribed::default();
    match target {
        Target::Outbox => {
            let records = frames.by_ref().inspect(|_| result.written += 1);
            result.last_seq = outbox::append(transaction, format, records)?;
        }
        Target::Store => {
            frames.by_ref().for_each(drop);
            result.duplicates = store::append(transaction, &sheet.records)?;
            for (record, reason) in &sheet.unreadable {
                quarantine::keep(transaction, format, record, reason)?;
            }
            result.written = sheet.records.len() as u64;
            result.unreadable = sheet.unreadable.len() as u64;
        }
    }
    result.damaged = frames.count_damaged();
    Ok(result)
}
