//! A client's connection that knows whether bytes wait in it for a client that does not take them, so that a stop does
//! not cut the end off an answer whose exchange is over; and that tells when a client begins to say something. Never
//! alters or holds back a byte.

use crate::{
    departure::Socket,
    lifecycle::{Activity, Kind, Ongoing},
    patience::HeadWatch,
};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The socket, and the note that it is full.
pub(crate) struct Outgoing {
    socket: Arc<Socket>,
    activity: Arc<Activity>,
    full: Option<Ongoing>,
    watch: Arc<HeadWatch>,
}

impl Outgoing {
    pub(crate) const fn new(socket: Arc<Socket>, activity: Arc<Activity>, watch: Arc<HeadWatch>) -> Self {
        Self { socket, activity, full: None, watch }
    }

    /// Waits for the client's first bytes and leaves them where they are; 0 if it has ended instead.
    pub(crate) async fn peek(&self, first: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.socket.lock().poll_peek(cx, first)).await
    }

    /// Whoever writes does so until everything is written or the socket is full; the last result tells which.
    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        match written {
            Poll::Ready(_) => self.full = None,
            Poll::Pending if self.full.is_none() => self.full = Some(self.activity.begin(Kind::Sending)),
            Poll::Pending => {}
        }
        written
    }
}

impl AsyncRead for Outgoing {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = self.socket.lock().poll_read(cx, buffer);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.watch.note_read();
        }
        polled
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.socket.lock().stream()).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.socket.lock().stream()).poll_write_vectored(cx, buffers);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket.lock().stream()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket.lock().stream()).poll_shutdown(cx)
    }
}
