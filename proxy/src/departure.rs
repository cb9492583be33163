//! Notices that a client has left while its answer is under way, also when nobody reads its connection: hyper does not
//! read on while it holds anything that the client has sent behind its request.
//!
//! Takes no byte from anybody and costs nothing as long as hyper listens by itself. Otherwise the kernel's word that more
//! has come is taken away from the runtime, so that the next one can be waited for, and kept for whoever reads next.

use crate::patience::HeadWatch;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};
use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::TcpStream,
};

/// A client's socket. All that use it run in its connection's task: its lock is never waited for.
pub(crate) struct Socket(Mutex<Watched>);

/// The socket, and who has been told what about it.
pub(crate) struct Watched {
    stream: TcpStream,
    /// Whoever reads has read everything and will be woken.
    is_listened_to: bool,
    /// There may be more than the runtime knows.
    was_passed_over: bool,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Watched { stream, is_listened_to: false, was_passed_over: false })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the client has gone although its one exchange goes on, or when that exchange was cut and the client
    /// does not take what is left of it. To be polled behind the connection, in its task.
    pub(crate) async fn left(&self, watch: &HeadWatch) {
        poll_fn(|cx| {
            if watch.is_cut() {
                return Poll::Ready(());
            }
            ready!(watch.poll_waits_for_answer(cx));
            self.lock().poll_closed(cx)
        })
        .await;
    }
}

impl Watched {
    pub(crate) const fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>, first: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_peek(cx, &mut ReadBuf::new(first))
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.was_passed_over {
            match rustix::io::retry_on_intr(|| rustix::io::read(&self.stream, buffer.initialize_unfilled())) {
                Err(rustix::io::Errno::AGAIN) => self.was_passed_over = false,
                read => {
                    self.is_listened_to = false;
                    return Poll::Ready(read.map(|read| buffer.advance(read)).map_err(io::Error::from));
                }
            }
        }
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.is_listened_to = polled.is_pending();
        polled
    }

    /// Whether the client has closed its side, or has gone altogether.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_listened_to {
            return Poll::Pending;
        }
        loop {
            if ready!(self.stream.poll_read_ready(cx)).is_err() || self.is_read_closed() {
                return Poll::Ready(());
            }
            // This forgets what is known so far, and nothing that comes meanwhile.
            let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = self.stream.try_io(Interest::READABLE, forget);
            self.was_passed_over = true;
        }
    }

    /// As far as the runtime knows; asks nobody.
    fn is_read_closed(&self) -> bool {
        let mut known = std::pin::pin!(self.stream.ready(Interest::READABLE));
        let known = known.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        matches!(known, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}
