//! Why a batch was not shipped. All of these are tried again, for ever; what can never work has been sorted out
//! before (`ShipmentError::is_for_ever`).

use crate::{migrate::MigrateError, orders::OrderError, outbox_reader::OutboxError, shipment::ShipmentError};
use std::time::Duration;

/// Why a batch was not shipped.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShipError {
    #[error("cannot connect")]
    Connect(#[from] deadpool_postgres::PoolError),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Shipment(#[from] ShipmentError),
    #[error("PostgreSQL did not answer within {} seconds", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("cannot read the outbox")]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Order(#[from] OrderError),
}

impl From<tokio_postgres::Error> for ShipError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Shipment(ShipmentError::Postgres(error))
    }
}
