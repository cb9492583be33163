//! The writer's side of bodies: what is sealed and not durable yet.

use super::{BodyLoss, COLUMNS, NAMES, OUTBOX, SealedBody, TABLE};
use crate::{inscribe::Target, journal::Shared, quota::Quota};
use rusqlite::{Connection, Transaction};

/// Bodies that make room for calls at a time.
const PIECE: u32 = 500;

/// What has come and is not durable yet. Bounded, because no more is taken before it is.
#[derive(Default)]
pub(crate) struct Bodies {
    waiting: Vec<SealedBody>,
    /// There is no room for them.
    are_too_much: bool,
}

/// What becomes of the bodies that were written when that is durable.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    kept: u64,
    dropped: u64,
}

impl Bodies {
    /// Takes what has come, if what came before is durable, and sees whether there is room for it: of the outbox bodies
    /// may fill one half, the rest is for calls.
    pub(crate) fn take(
        &mut self,
        shared: &Shared,
        quota: Option<&Quota>,
        connection: &Connection,
    ) -> rusqlite::Result<()> {
        if self.is_empty() {
            self.waiting = shared.bodies.take_sealed();
        }
        let Some(quota) = quota.filter(|_| !self.is_empty()) else { return Ok(()) };
        let bytes: usize = self.waiting.iter().map(|body| body.sealed.len()).sum();
        self.are_too_much = quota.is_exceeded_by(bytes as u64 + quota.max_bytes() / 2, connection)?;
        Ok(())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Writes what waits, or drops it.
    pub(crate) fn write(&self, transaction: &Transaction<'_>, target: Target) -> rusqlite::Result<Written> {
        let bodies = self.waiting.len() as u64;
        if bodies == 0 || self.are_too_much {
            return Ok(Written { kept: 0, dropped: bodies });
        }
        let table = if target == Target::Outbox { OUTBOX } else { TABLE };
        let places = (1..=COLUMNS.len() + 1).map(|place| format!("?{place}")).collect::<Vec<_>>().join(", ");
        let insert = format!("insert or ignore into {table} ({}) values ({places})", *NAMES);
        let mut insert = transaction.prepare_cached(&insert)?;
        for body in &self.waiting {
            for (place, value) in body.values().iter().enumerate() {
                insert.raw_bind_parameter(place + 1, value)?;
            }
            insert.raw_bind_parameter(COLUMNS.len() + 1, &body.sealed)?;
            insert.raw_execute()?;
        }
        Ok(Written { kept: bodies, dropped: 0 })
    }

    /// What was written is durable.
    pub(crate) fn settle(&mut self, written: Written, shared: &Shared) {
        shared.bodies.books.keep(written.kept);
        shared.bodies.books.lose(BodyLoss::OutboxFull, written.dropped);
        *self = Self::default();
    }

    /// Drops bodies that wait for PostgreSQL, the oldest first, until there is room for so many bytes of calls; false if
    /// there is none when all of them are gone.
    pub(crate) fn make_room(
        quota: &Quota,
        bytes: u64,
        connection: &Connection,
        shared: &Shared,
    ) -> rusqlite::Result<bool> {
        let delete = format!(
            "delete from {OUTBOX} where seq in (select seq from {OUTBOX} order by seq limit {PIECE})"
        );
        loop {
            let gone = connection.prepare_cached(&delete)?.execute([])?;
            if gone == 0 {
                return Ok(false);
            }
            shared.bodies.books.lose(BodyLoss::OutboxFull, gone as u64);
            if !quota.is_exceeded_by(bytes, connection)? {
                return Ok(true);
            }
        }
    }
}
