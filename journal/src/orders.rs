//! What others ask of the writer, because only one thread may write the file; each is answered when it is
//! durable.

use crate::{chain::chain, trouble};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::sync::mpsc::SyncSender;
use tokio::sync::oneshot;

/// What somebody does with the file, if it is open. An error is what damage it has found.
pub(crate) type Work = dyn FnOnce(Option<&mut Connection>) -> Result<(), String> + Send;

/// One thing to be done between two batches.
pub(crate) enum Order {
    /// Answer when everything that is queued now is durable.
    Flush(SyncSender<()>),
    /// Do this with the file, and say if it turns out to be damaged. New records wait meanwhile: it must be
    /// short.
    Work(Box<Work>),
    /// Look at once what there is to do.
    Wake,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("cannot write the journal's file")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the journal's file is not open")]
    NoFile,
    #[error("the journal's writer has ended")]
    NoWriter,
}

/// The way to the writer for those who have to change the file.
#[derive(Clone)]
pub(crate) struct Orders(pub(crate) SyncSender<Order>);

impl Orders {
    /// Has the writer do the work in a transaction of its own, between two batches, and answers when that is
    /// durable. Finished calls wait in memory meanwhile, so the work should take milliseconds; more of it is
    /// split over several orders.
    pub(crate) async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, OrderError> {
        let (answer, answered) = oneshot::channel();
        let order = Order::Work(Box::new(move |connection| {
            let result = connection
                .ok_or(OrderError::NoFile)
                .and_then(|connection| Ok(in_transaction(connection, work)?));
            let damage = match &result {
                Err(OrderError::Sqlite(error)) if trouble::is_damage(error) => Err(chain(error)),
                _ => Ok(()),
            };
            // Whoever asked may have been stopped in the meantime; then nobody needs to know.
            drop(answer.send(result));
            damage
        }));
        self.0.try_send(order).map_err(|_| OrderError::NoWriter)?;
        answered.await.map_err(|_| OrderError::NoWriter)?
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}
