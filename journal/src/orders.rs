//! What others ask of the writer, because only one thread may write the file; each is answered when it is
//! durable.

use crate::quarantine::Misfit;
use std::sync::mpsc::SyncSender;
use tokio::sync::oneshot;
use uuid::Uuid;

/// One thing to be done between two batches.
pub(crate) enum Order {
    /// Answer when everything that is queued now is durable.
    Flush(SyncSender<()>),
    /// Set the records aside.
    SetAside(Vec<Misfit>, Answer<()>),
    /// Give the outbox a new identity.
    NewSpool(Answer<Uuid>),
}

type Answer<T> = oneshot::Sender<Result<T, rusqlite::Error>>;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("cannot write the journal's file")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the journal's writer has ended")]
    NoWriter,
}

/// The shipper's way to the writer.
#[derive(Clone)]
pub(crate) struct Orders(pub(crate) SyncSender<Order>);

impl Orders {
    /// Sets the records aside.
    pub(crate) async fn set_aside(&self, misfits: Vec<Misfit>) -> Result<(), OrderError> {
        self.ask(|answer| Order::SetAside(misfits, answer)).await
    }

    /// Gives the outbox a new identity.
    pub(crate) async fn new_spool(&self) -> Result<Uuid, OrderError> {
        self.ask(Order::NewSpool).await
    }

    async fn ask<T>(&self, order: impl FnOnce(Answer<T>) -> Order) -> Result<T, OrderError> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(order(answer)).map_err(|_| OrderError::NoWriter)?;
        Ok(answered.await.map_err(|_| OrderError::NoWriter)??)
    }
}
