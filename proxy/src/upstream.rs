//! The upstream's side: a connection per exchange in flight, kept for the next one when the answer has ended.
//!
//! A request that was written even in part is never sent again (promise 7). One that was not, because a kept
//! connection had been closed by the server in the meantime, is sent once more on a new connection.

mod connect;
mod failure;
mod pool;
mod socket;

pub(crate) use connect::{Connector, client_tls, set_options};
pub(crate) use failure::{UPLOAD_BROKEN, failure_mid_body};
pub(crate) use pool::{Lease, Pool};

use crate::{tap::RequestBody, tasks::Tasks};
use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use mcpmeter_observer::Failure;

/// A connection that can carry a request.
pub(crate) type Sender = SendRequest<RequestBody>;

/// What became of a request that was to be sent.
pub(crate) enum Sent {
    /// The head of the answer, and the connection to give back behind it.
    Answered(Response<Incoming>, Lease),
    /// No byte of the request was written; its body can still be read.
    Unsent(Failure, Box<Request<RequestBody>>),
    /// The connection broke after something was written.
    Broken(Failure),
}

/// Sends a request over a kept connection or a new one.
pub(crate) async fn send(
    connector: &Connector,
    pool: &Pool,
    tasks: &Tasks,
    request: Request<RequestBody>,
) -> Sent {
    let mut request = request;
    if let Some(sender) = pool.take(connector.id()) {
        match send_on(sender, connector, pool, request).await {
            Sent::Unsent(_, unsent) => request = *unsent,
            sent => return sent,
        }
    }
    // Rare, and large: boxed, so that the other requests need not carry the room for it.
    match Box::pin(connector.connect(tasks)).await {
        Ok(sender) => send_on(sender, connector, pool, request).await,
        Err(failure) => Sent::Unsent(failure, Box::new(request)),
    }
}

async fn send_on(
    mut sender: Sender,
    connector: &Connector,
    pool: &Pool,
    request: Request<RequestBody>,
) -> Sent {
    match sender.try_send_request(request).await {
        Ok(response) => Sent::Answered(response, pool.lease(connector.id(), sender)),
        Err(mut error) => {
            let request = error.take_message();
            let failure = failure::before_head(&error.into_error());
            match request {
                Some(request) => Sent::Unsent(failure, Box::new(request)),
                None => Sent::Broken(failure),
            }
        }
    }
}
