//! What a program is told. Whoever tells it something never waits: lines wait here, up to a limit, and are written as
//! fast as the program reads, independently of what it says (two full pipes would block each other).

use super::upkeep::Upkeep;
use bytes::Bytes;
use std::{
    io::IoSlice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{io::AsyncWriteExt, process::ChildStdin, sync::mpsc};

/// How much may wait beside the longest line.
const SLACK: usize = 8 << 20;
/// What a waiting line takes beside its bytes, so that a million empty ones are not for nothing.
const OVERHEAD: usize = 64;

/// The program does not read what waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotReading;

/// Where a program is told lines. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LineWriter {
    /// `None` closes the pipe behind what has been told.
    lines: mpsc::UnboundedSender<Option<Bytes>>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

impl LineWriter {
    pub(super) fn start(stdin: ChildStdin, max_line: usize, upkeep: &Upkeep) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        upkeep.spawn(write_all(stdin, receiver, Arc::clone(&waiting)));
        Self { lines: sender, waiting, limit: max_line.saturating_add(SLACK) }
    }

    /// Tells it a line, given without its end.
    pub(crate) fn write(&self, line: Bytes) -> Result<(), NotReading> {
        let bytes = line.len() + OVERHEAD;
        if self.waiting.fetch_add(bytes, Relaxed) + bytes > self.limit {
            self.waiting.fetch_sub(bytes, Relaxed);
            return Err(NotReading);
        }
        // One that has closed its stdin is ended for that, and whoever waits is told of its end.
        let _ = self.lines.send(Some(line));
        Ok(())
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
    mut stdin: ChildStdin,
    mut lines: mpsc::UnboundedReceiver<Option<Bytes>>,
    waiting: Arc<AtomicUsize>,
) {
    while let Some(Some(line)) = lines.recv().await {
        if write_line(&mut stdin, &line).await.is_err() {
            // Its end is seen elsewhere; here, nothing can be told any more.
            return;
        }
        waiting.fetch_sub(line.len() + OVERHEAD, Relaxed);
    }
}

/// In one system call where the pipe has room: a short line and its end arrive together.
async fn write_line(stdin: &mut ChildStdin, line: &[u8]) -> std::io::Result<()> {
    let mut written = stdin.write_vectored(&[IoSlice::new(line), IoSlice::new(b"\n")]).await?;
    if written < line.len() {
        stdin.write_all(&line[written..]).await?;
        written = line.len();
    }
    if written == line.len() {
        stdin.write_all(b"\n").await?;
    }
    Ok(())
}
