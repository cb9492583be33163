//! What a program is told. Whoever tells it something never waits: a line goes into the pipe at once where that has room;
//! otherwise lines wait here, up to a limit, and are written as fast as the program reads, independently of what it says
//! (two full pipes would block each other).

use super::upkeep::Upkeep;
use bytes::Bytes;
use std::{
    io::{self, IoSlice},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
};
use tokio::{net::unix::pipe::Sender, process::ChildStdin, sync::mpsc};

/// How much may wait beside the longest line.
const SLACK: usize = 8 << 20;
/// What a waiting line takes beside its bytes, so that a million empty ones are not for nothing.
const OVERHEAD: usize = 64;

/// Where a program is told lines. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LineWriter {
    /// What the pipe had no room for. `None` closes it behind that.
    lines: mpsc::UnboundedSender<Option<Rest>>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
    /// Gone when the pipe is to be closed. Locked by whoever writes past the queue, so that lines stay whole.
    pipe: Arc<Mutex<Weak<Sender>>>,
}

/// A line of which a part may have been written.
#[derive(Debug)]
struct Rest {
    line: Bytes,
    written: usize,
}

impl LineWriter {
    pub(super) fn start(stdin: ChildStdin, max_line: usize, upkeep: &Upkeep) -> io::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        let stdin = Arc::new(Sender::from_owned_fd(stdin.into_owned_fd()?)?);
        let pipe = Arc::new(Mutex::new(Arc::downgrade(&stdin)));
        upkeep.spawn(write_all(stdin, receiver, Arc::clone(&waiting)));
        Ok(Self { lines: sender, waiting, limit: max_line.saturating_add(SLACK), pipe })
    }

    /// Whether a line of this length may wait. One that is told next to it may be longer by a few numbers.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.waiting.load(Acquire) + bytes + OVERHEAD <= self.limit
    }

    /// Tells it a line, given without its end. Beyond the limit, twice over, it is dropped: a program that asks and asks and
    /// reads no answer.
    pub(crate) fn write(&self, line: Bytes) {
        let pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = Rest { line, written: 0 };
        // Where nothing waits, nobody else writes. The thread that programs live on need not be woken for it.
        if self.waiting.load(Acquire) == 0
            && let Some(stdin) = pipe.upgrade()
            && rest.try_write(&stdin).is_ok_and(|()| rest.is_written())
        {
            return;
        }
        // What is begun has to be finished.
        if rest.written == 0 && self.waiting.load(Acquire) > 2 * self.limit {
            return;
        }
        self.waiting.fetch_add(rest.line.len() + OVERHEAD, AcqRel);
        // One that has closed its stdin is ended for that, and whoever waits is told of its end.
        let _ = self.lines.send(Some(rest));
    }

    /// It can be told nothing any more.
    pub(super) async fn closed(&self) {
        self.lines.closed().await;
    }

    /// Closes its stdin behind what it has been told.
    pub(super) fn close(&self) {
        // It may have closed it itself.
        let _ = self.lines.send(None);
    }
}

async fn write_all(
    stdin: Arc<Sender>,
    mut lines: mpsc::UnboundedReceiver<Option<Rest>>,
    waiting: Arc<AtomicUsize>,
) {
    while let Some(Some(mut rest)) = lines.recv().await {
        while !rest.is_written() {
            let written = match stdin.writable().await {
                Ok(()) => rest.try_write(&stdin),
                Err(error) => Err(error),
            };
            if written.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
                // Its end is seen elsewhere; here, nothing can be told any more.
                return;
            }
        }
        waiting.fetch_sub(rest.line.len() + OVERHEAD, Release);
    }
}

impl Rest {
    /// Writes as much as the pipe takes, in one system call: a short line and its end arrive together.
    fn try_write(&mut self, stdin: &Sender) -> io::Result<()> {
        let begun = &self.line[self.written.min(self.line.len())..];
        let written = stdin.try_write_vectored(&[IoSlice::new(begun), IoSlice::new(b"\n")])?;
        self.written += written;
        Ok(())
    }

    /// Whether its end is written, too.
    fn is_written(&self) -> bool {
        self.written > self.line.len()
    }
}
