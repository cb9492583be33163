//! A request's body as the upstream's connection takes it. While that is being made, the beginning is read already, so
//! that a call's time begins when the client has sent it; it is held here, up to a limit, and never altered.

use crate::{held_bytes::Hold, tap::RequestBody};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};
use tokio::{sync::oneshot, time::Instant};

/// How much is read ahead. More waits with the client.
const MAX_HELD: u64 = 64 << 10;

/// When a request was complete, for those who count from there.
#[derive(Debug, Clone, Default)]
pub(crate) struct UploadEnd(Arc<OnceLock<Instant>>);

impl UploadEnd {
    /// The instant, once it has come.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.0.get().copied()
    }
}

/// What came of an attempt to read all of a body.
pub(crate) enum Gathered {
    /// All of it.
    Whole(Bytes),
    TooLong,
    /// Too much is held already.
    NoRoom,
    /// By the client.
    BrokenOff,
}

/// The body, and what of it has been read ahead. Boxed wherever it is handed on: hyper's queue to a connection has room for
/// 32 requests, whatever their size.
pub(crate) struct Upload {
    held: VecDeque<Result<Frame<Bytes>, hyper::Error>>,
    held_bytes: u64,
    /// Absent where all of it was held from the beginning.
    body: Option<RequestBody>,
    is_over: bool,
    end: Option<UploadEnd>,
    /// Not if the client waits for `100 Continue`: reading would invite it before there is anybody to upload to.
    reads_ahead: bool,
    /// The room that a gathered body takes, until it has gone on.
    hold: Option<Hold>,
    /// Told when a body that was there already has been taken, or never will be.
    taken: Option<oneshot::Sender<()>>,
}

impl Upload {
    pub(crate) fn new(body: RequestBody, end: Option<UploadEnd>, reads_ahead: bool) -> Box<Self> {
        let is_over = body.is_end_stream();
        let mut upload = Box::new(Self {
            held: VecDeque::new(),
            held_bytes: 0,
            body: Some(body),
            is_over: false,
            end,
            reads_ahead,
            hold: None,
            taken: None,
        });
        if is_over {
            upload.note_end();
        }
        upload
    }

    /// A body that is there already. `taken` is told when the connection takes it: from then on what is sent on another one
    /// comes later.
    pub(crate) fn of_bytes(bytes: Bytes, taken: Option<oneshot::Sender<()>>) -> Box<Self> {
        let held_bytes = bytes.len() as u64;
        let held = (held_bytes > 0).then(|| Ok(Frame::data(bytes))).into_iter().collect();
        Box::new(Self {
            held,
            held_bytes,
            body: None,
            is_over: true,
            end: None,
            reads_ahead: false,
            hold: None,
            taken,
        })
    }

    fn note_end(&mut self) {
        self.is_over = true;
        if let Some(UploadEnd(end)) = &self.end {
            // Only the first time counts.
            let _ = end.set(Instant::now());
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || (polled.is_ready() && body.is_end_stream()) {
            self.note_end();
        }
        polled
    }

    /// Reads what there is room for. Never returns: whoever calls it waits for something else.
    pub(super) async fn read_ahead(&mut self) {
        while self.reads_ahead && self.held_bytes < MAX_HELD {
            let Some(read) = std::future::poll_fn(|cx| self.poll_body(cx)).await else { break };
            self.held_bytes +=
                read.as_ref().ok().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
            self.held.push_back(read);
        }
        std::future::pending().await
    }

    /// Reads all of it, and keeps it for the upstream in one piece. Of what is more than `max` bytes long, or broken off, it
    /// keeps what it has read, which is at least the beginning.
    pub(crate) async fn gather(&mut self, max: u64, mut hold: Hold) -> Gathered {
        let (mut whole, mut behind) = (BytesMut::new(), None);
        let cut_short = loop {
            if !hold.grow_to(whole.len() as u64) {
                break Some(Gathered::NoRoom);
            }
            if !whole.is_empty() && whole.len() as u64 + self.size_hint().lower() > max {
                break Some(Gathered::TooLong);
            }
            match std::future::poll_fn(|cx| self.poll_body(cx)).await.map(|read| read.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => whole.extend_from_slice(&data),
                Some(Ok(Err(trailers))) => behind = Some(Ok(trailers)),
                Some(Err(error)) => {
                    behind = Some(Err(error));
                    break Some(Gathered::BrokenOff);
                }
                None => break None,
            }
        };
        self.hold = Some(hold);
        let whole = whole.freeze();
        self.held_bytes = whole.len() as u64;
        self.held.extend((!whole.is_empty()).then(|| Ok(Frame::data(whole.clone()))));
        self.held.extend(behind);
        cut_short.unwrap_or(Gathered::Whole(whole))
    }

    /// Of what is held, the first byte that is not blank.
    pub(crate) fn first_byte(&self) -> Option<u8> {
        let mut held = self.held.iter().filter_map(|read| read.as_ref().ok()?.data_ref());
        held.find_map(|data| data.iter().copied().find(|byte| !byte.is_ascii_whitespace()))
    }

    /// Reads what is left without keeping it, up to a number of bytes.
    pub(crate) async fn read_off(&mut self, max: usize) {
        let mut bytes = 0;
        while let Some(Ok(frame)) = self.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > max {
                break;
            }
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if let Some(held) = this.held.pop_front() {
            // Nobody may be waiting for it.
            this.taken.take().map(|taken| taken.send(()));
            this.held_bytes -=
                held.as_ref().ok().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
            return Poll::Ready(Some(held));
        }
        this.poll_body(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && (self.is_over || self.body.as_ref().is_none_or(Body::is_end_stream))
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::default();
        hint.set_lower(rest.lower() + self.held_bytes);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + self.held_bytes);
        }
        hint
    }
}
