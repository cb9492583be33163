//! The calls as they happen, as an endless response: one JSON object per line. A reader that is too slow gets
//! a line that says how many calls it has missed.

use super::AdminBody;
use crate::live::Live;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame};
use http_body_util::Either;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::{
    broadcast::error::RecvError,
    mpsc::{Receiver, channel},
};

/// Lines between the announcement and the socket.
const LINES: usize = 64;

/// The body of the response.
pub(crate) struct LiveStream {
    lines: Receiver<Bytes>,
}

impl Body for LiveStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.lines.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

/// Starts to watch; the watching ends when the client leaves.
#[expect(
    clippy::disallowed_methods,
    reason = "the task's owner is the response: it ends when that is dropped"
)]
pub(super) fn response(live: &Live) -> Response<AdminBody> {
    let mut calls = live.watch();
    let (sender, lines) = channel(LINES);
    tokio::spawn(async move {
        loop {
            let line: Arc<str> = tokio::select! {
                received = calls.recv() => match received {
                    Ok(json) => json,
                    Err(RecvError::Lagged(missed)) => format!("{{\"missed\":{missed}}}").into(),
                    Err(RecvError::Closed) => return,
                },
                () = sender.closed() => return,
            };
            if sender.send(Bytes::from(format!("{line}\n"))).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(Either::Right(LiveStream { lines }));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}
