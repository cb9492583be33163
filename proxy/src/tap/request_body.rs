//! A request's body under observation: each frame is shown to the observer before the upstream gets it. Never alters one.

use super::Tap;
use crate::patience::Asking;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mcpmeter_observer::Exchange;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// A request's body on its way to the upstream.
pub(crate) struct RequestBody {
    inner: Incoming,
    tap: Tap,
    /// Until the end.
    asking: Option<Asking>,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, tap: Tap, asking: Asking) -> Self {
        let mut body = Self { inner, tap, asking: Some(asking) };
        if body.inner.is_end_stream() {
            body.tap.tell(Exchange::handle_request_end);
            body.asking = None;
        }
        body
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let over = this.inner.is_end_stream();
                if let Some(data) = frame.data_ref() {
                    this.tap.tell(|exchange, now| {
                        exchange.handle_request_data(data, now);
                        if over {
                            exchange.handle_request_end(now);
                        }
                    });
                }
                if over {
                    this.asking = None;
                }
            }
            Poll::Ready(None) => {
                this.tap.tell(Exchange::handle_request_end);
                this.asking = None;
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
