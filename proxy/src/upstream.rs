//! The upstream's side: a connection per exchange in flight, kept for the next one when the answer has ended.
//!
//! A request that was written even in part is never sent again (promise 7). One that was not, because a kept
//! connection had been closed by the server in the meantime, is sent once more on a new connection.

mod connect;
mod failure;
mod pool;
mod socket;
mod upload;

pub(crate) use connect::{Connector, HeadLimits, set_options};
pub(crate) use failure::{
    UPLOAD_BROKEN, failure_mid_body, late, late_upload, no_room, no_room_to_hold, upload_broken,
};
pub(crate) use pool::{Lease, Pool};
pub(crate) use upload::{Gathered, Upload, UploadEnd};

use crate::{headers, tasks::Tasks};
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use mcpmeter_observer::Failure;

/// A connection that can carry a request.
struct Link {
    sender: SendRequest<Box<Upload>>,
    look: socket::Look,
}

/// What became of a request that was to be sent.
pub(crate) enum Sent<A> {
    /// The answer, as far as it has come: its head, and where its body comes from.
    Answered(A),
    /// No byte of the request was written; its body can still be read.
    Unsent(Failure, Box<Request<Box<Upload>>>),
    /// The connection broke after something was written.
    Broken(Failure),
}

/// What an upstream answers: the head, the body as it comes, and the connection to give back behind it.
pub(crate) type Answer = (Response<Incoming>, Lease);

impl<A> Sent<A> {
    /// The same with another form of the answer.
    pub(crate) fn map<B>(self, form: impl FnOnce(A) -> B) -> Sent<B> {
        match self {
            Self::Answered(answer) => Sent::Answered(form(answer)),
            Self::Unsent(failure, request) => Sent::Unsent(failure, request),
            Self::Broken(failure) => Sent::Broken(failure),
        }
    }
}

/// Sends a request over a kept connection or a new one.
pub(crate) async fn send(
    connector: &Connector,
    pool: &Pool,
    tasks: &Tasks,
    request: Request<Box<Upload>>,
) -> Sent<Answer> {
    let mut request = request;
    // Once: a connection is given back as one of the kind it was made as.
    let kind = connector.id();
    if let Some(link) = pool.take(kind) {
        match send_on(link, kind, pool, request).await {
            Sent::Unsent(_, unsent) => request = *unsent,
            sent => return sent,
        }
    }
    // Rare, and large: boxed, so that the other requests need not carry the room for it.
    match Box::pin(connect(connector, tasks, request.body_mut())).await {
        Ok(link) => send_on(link, kind, pool, request).await,
        Err(failure) => Sent::Unsent(failure, Box::new(request)),
    }
}

/// Connects, and meanwhile takes what the client has to say: a call begins when it has been said.
async fn connect(connector: &Connector, tasks: &Tasks, body: &mut Upload) -> Result<Link, Failure> {
    tokio::select! {
        biased;
        connected = connector.connect(tasks) => connected,
        () = body.read_ahead() => unreachable!("reading ahead never returns"),
    }
}

async fn send_on(mut link: Link, kind: u64, pool: &Pool, request: Request<Box<Upload>>) -> Sent<Answer> {
    match link.sender.try_send_request(request).await {
        // Nobody asked for another protocol, because `Upgrade` ends here; what follows would not be HTTP.
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Sent::Broken(failure::invalid("101 Switching Protocols was not asked for"))
        }
        Ok(response) if headers::has_unknown_coding(response.headers()) => {
            Sent::Broken(failure::invalid("the transfer coding was not asked for"))
        }
        Ok(response) => Sent::Answered((response, pool.lease(kind, link))),
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
