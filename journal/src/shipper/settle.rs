//! Settles what is in doubt about the cursor: after a start, after an error, and now and then.

use super::{Shipper, error::ShipError};
use crate::{
    shipment::{self, Leg, Way},
    sqlite,
};
use deadpool_postgres::Object;
use tracing::{error, warn};

impl Shipper {
    /// Asks PostgreSQL for the cursor, draws the conclusions, and says where to go on.
    pub(super) async fn settle(&mut self, connection: &mut Object) -> Result<i64, ShipError> {
        let life = self.shared.life();
        let mut cursor = shipment::read_cursor(connection, self.spool_id).await?;
        let settled = self.progress.settled;
        if !self.progress.is_ours(cursor) {
            // This file never sent the rows up to there: it is a copy, or a backup that was put back. Under a
            // new name nothing is taken for stored that is not; what is stored already is skipped as a
            // duplicate.
            error!(cursor, settled, "somebody else has moved this outbox's cursor: starting a new one");
            self.spool_id = self.orders.transact(sqlite::new_spool_id).await?;
            cursor = shipment::read_cursor(connection, self.spool_id).await?;
        } else if cursor < settled {
            warn!(cursor, settled, "PostgreSQL has lost calls that it had stored: was a backup put back?");
        }
        if cursor < settled {
            let leg = Leg { spool_id: self.spool_id, from: cursor, to: settled };
            self.progress.attempt(leg.to);
            shipment::ship(connection, &[], leg, Way::Straight, self.pace.patience()).await?;
            self.progress.arrive(0, 0, settled, life);
            return Ok(settled);
        }
        let (stored, aside) = self.outbox.count_between(settled, cursor).await?;
        self.progress.arrive(stored, aside, cursor, life);
        Ok(cursor)
    }
}
