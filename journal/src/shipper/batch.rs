//! One batch, in as many parts as it takes: whole if PostgreSQL takes it; in halves of halves, until the bad
//! rows are alone, if it refuses it for ever; past the rows that it has already, if there are any.

use super::{Shipper, error::ShipError, within};
use crate::{
    chain::chain,
    outbox::Entry,
    postgres::discard,
    quarantine::{self, Misfit},
    shipment::{self, Leg, ShipmentError, Way},
};
use deadpool_postgres::Object;
use mcpmeter_observer::CallRecord;
use std::time::Instant;
use tracing::{error, info, warn};

/// What to do about a part that was refused.
enum Instead<'a> {
    /// Try these, the last first.
    Parts(Vec<&'a [Entry]>),
    /// The one call can never be stored.
    Aside,
    /// Begin again later, with everything asked anew.
    Again,
}

impl Shipper {
    /// Ships the batch, which begins after `from`. What an error leaves over is read again.
    pub(super) async fn ship_parts(
        &mut self,
        connection: &mut Object,
        batch: &[Entry],
        mut from: i64,
        life: u64,
    ) -> Result<(), ShipError> {
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let Some(last) = part.last() else { continue };
            let leg = Leg { spool_id: self.spool_id, from, to: last.seq };
            let records: Vec<_> = part.iter().filter_map(|entry| entry.record.as_ref().ok()).collect();
            let aside = match self.attempt(connection, &records, leg).await {
                Ok(()) => part.iter().filter(|entry| entry.is_misfit()).count(),
                Err(ShipError::Shipment(error)) => match self.instead(part, &error) {
                    Instead::Parts(split) => {
                        self.renew(connection).await?;
                        parts.extend(split);
                        continue;
                    }
                    Instead::Aside => {
                        self.renew(connection).await?;
                        self.set_aside(vec![Misfit { seq: last.seq, reason: chain(&error) }]).await?;
                        self.attempt(connection, &[], leg).await?;
                        1
                    }
                    Instead::Again => return Err(error.into()),
                },
                Err(error) => return Err(error),
            };
            self.progress.arrive((part.len() - aside) as u64, aside as u64, leg.to, life);
            from = leg.to;
        }
        Ok(())
    }

    /// What to do about a part that was refused.
    fn instead<'a>(&mut self, part: &'a [Entry], error: &ShipmentError) -> Instead<'a> {
        // A partition that is believed to be there may have been dropped: everything is asked anew.
        let doubtful = (error.is_check() || error.is_stray()) && self.partitions.doubt();
        if !error.is_for_ever() || doubtful {
            return Instead::Again;
        }
        if error.is_duplicate() && self.way == Way::Straight {
            warn!("PostgreSQL has some of these calls already (was a backup put back?): skipping those");
            self.way = Way::SkipDuplicates;
            return Instead::Parts(vec![part]);
        }
        if part.len() == 1 {
            return Instead::Aside;
        }
        let (first, second) = part.split_at(part.len() / 2);
        Instead::Parts(vec![second, first])
    }

    /// Takes another connection. A COPY that was refused leaves the old one usable, but not what PgBouncer makes
    /// of it: it waits for an answer too many (1.18 does).
    async fn renew(&mut self, connection: &mut Object) -> Result<(), ShipError> {
        let fresh = self.connect().await?;
        discard(std::mem::replace(connection, fresh));
        Ok(())
    }

    /// Tries to store the records and to move the cursor.
    async fn attempt(
        &mut self,
        connection: &mut Object,
        records: &[&CallRecord],
        leg: Leg,
    ) -> Result<(), ShipError> {
        self.progress.attempt(leg.to);
        let (began, patience) = (Instant::now(), self.pace.patience());
        let shipment = shipment::ship(connection, records, leg, self.way, patience);
        let new = match within(patience, shipment).await {
            Ok(result) => result?,
            Err(late) => {
                self.pace.timed_out(records.len());
                return Err(late);
            }
        };
        self.pace.arrived(records.len(), began.elapsed());
        self.count_duplicates(records.len() as u64 - new);
        Ok(())
    }

    /// Goes back to the straight way after the first batch that was all new.
    fn count_duplicates(&mut self, duplicates: u64) {
        if self.way == Way::Straight {
            return;
        }
        self.shared.notice.tell_duplicates(duplicates);
        if duplicates == 0 {
            let skipped = self.shared.notice.read().duplicates;
            info!(skipped, "no more calls that PostgreSQL has already");
            self.way = Way::Straight;
        }
    }

    pub(super) async fn set_aside_unreadable(&mut self, batch: &[Entry]) -> Result<(), ShipError> {
        let mut unreadable = Vec::new();
        for entry in batch.iter().filter(|entry| entry.is_misfit()) {
            if let Err(error) = &entry.record {
                unreadable.push(Misfit { seq: entry.seq, reason: chain(error) });
            }
        }
        if unreadable.is_empty() { Ok(()) } else { self.set_aside(unreadable).await }
    }

    async fn set_aside(&mut self, misfits: Vec<Misfit>) -> Result<(), ShipError> {
        for Misfit { seq, reason } in &misfits {
            error!(seq, reason, "a call can never be stored: it is set aside in the table quarantine");
        }
        Ok(self.orders.transact(move |transaction| quarantine::set_aside(transaction, &misfits)).await?)
    }
}
