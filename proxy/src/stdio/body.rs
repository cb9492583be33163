//! The body of an answer: a whole one, or the events of a stream as the program says them, each a line of `data`. A
//! comment now and then shows that the stream lives.

use super::{answers::Answers, outlet::Arrival, session::SessionGuard};
use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use mcpmeter_observer::Failure;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// How long a stream is silent before a comment (WIRE.md 6).
pub(super) const SILENCE: Duration = Duration::from_secs(15);
const COMMENT: Bytes = Bytes::from_static(b": \n\n");

/// What a client is sent.
pub(crate) enum Body {
    /// All of it is known.
    Whole(Full<Bytes>),
    /// It comes.
    Events(Box<Events>),
}

/// An event stream.
pub(crate) struct Events {
    answers: Option<Answers>,
    first: Option<Bytes>,
    alive: Pin<Box<Sleep>>,
    /// Ends with the stream.
    _session: Option<SessionGuard>,
}

impl Body {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }

    /// A stream that begins with an event, if there is one already.
    pub(super) fn events(answers: Answers, first: Option<Bytes>) -> Self {
        Self::stream(answers, first, None)
    }

    /// The stream of a client of 2024-11-05, which is its session.
    pub(super) fn session(answers: Answers, first: Bytes, session: SessionGuard) -> Self {
        Self::stream(answers, Some(first), Some(session))
    }

    fn stream(answers: Answers, first: Option<Bytes>, session: Option<SessionGuard>) -> Self {
        let alive = Box::pin(tokio::time::sleep(SILENCE));
        Self::Events(Box::new(Events { answers: Some(answers), first, alive, _session: session }))
    }
}

/// A message as an event.
pub(super) fn event(name: &str, data: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(data.len() + name.len() + 16);
    event.put_slice(b"event: ");
    event.put_slice(name.as_bytes());
    event.put_slice(b"\ndata: ");
    event.put_slice(data);
    // Between the parts of a message it is blank; for readers of events it would be the end of the line.
    if let Some(at) = memchr::memchr(b'\r', data) {
        let begun = event.len() - data.len() + at;
        event[begun..].iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b' ');
    }
    event.put_slice(b"\n\n");
    event.freeze()
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Pin::new(bytes).poll_frame(cx).map_err(|never| match never {}),
            Self::Events(events) => events.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_end_stream(),
            Self::Events(events) => events.answers.is_none() && events.first.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => bytes.size_hint(),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

impl Events {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(answers) = &mut self.answers else { return Poll::Ready(None) };
        let event = match answers.poll_next(cx) {
            Poll::Ready(Some(Arrival::Message(delivery))) => {
                let event = event("message", &delivery.message);
                if delivery.is_last {
                    self.answers = None;
                }
                Ok(event)
            }
            Poll::Ready(Some(Arrival::Failed(failure))) => {
                self.answers = None;
                Err(failure)
            }
            Poll::Ready(None) => {
                self.answers = None;
                return Poll::Ready(None);
            }
            Poll::Pending => {
                std::task::ready!(self.alive.as_mut().poll(cx));
                Ok(COMMENT)
            }
        };
        self.alive.as_mut().reset(Instant::now() + SILENCE);
        Poll::Ready(Some(event.map(Frame::data)))
    }
}
