//! What a program says on stderr. Always read, because a full pipe would stop it; never understood. The end is kept for
//! whoever wants to know why it has ended, and all of it goes to the log at `debug`.

use super::upkeep::Upkeep;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{io::AsyncReadExt, process::ChildStderr};
use tokio_util::sync::CancellationToken;
use tracing::debug;

const LINES: usize = 200;
/// Bytes of a line that are kept.
const LINE: usize = 64 << 10;
/// Bytes of all lines together.
const BYTES: usize = 256 << 10;
/// Lines that an end is explained with.
const LAST: usize = 20;

/// The end of what a program has said.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    ring: Arc<Mutex<Ring>>,
    /// Nothing more can come.
    over: CancellationToken,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<String>,
    bytes: usize,
    /// A line whose end has not come.
    partial: Vec<u8>,
}

impl Tail {
    pub(super) fn start(mut stderr: ChildStderr, pid: u32, upkeep: &Upkeep) -> Self {
        let tail = Self::default();
        let own = tail.clone();
        upkeep.spawn(async move {
            let mut piece = vec![0; 8 << 10];
            while let Ok(read @ 1..) = stderr.read(&mut piece).await {
                own.lock(|ring| ring.take(&piece[..read], pid));
            }
            own.over.cancel();
        });
        tail
    }

    fn lock<T>(&self, what: impl FnOnce(&mut Ring) -> T) -> T {
        what(&mut self.ring.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ready when it has said everything, and nobody else can.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// The last lines.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.lock(|ring| {
            let partial = (!ring.partial.is_empty()).then(|| text(&ring.partial));
            let lines: Vec<_> = ring.lines.iter().cloned().chain(partial).collect();
            lines[lines.len().saturating_sub(LAST)..].to_vec()
        })
    }
}

impl Ring {
    fn take(&mut self, piece: &[u8], pid: u32) {
        let mut parts = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = LINE.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&part[..part.len().min(room)]);
            if parts.peek().is_some() {
                self.end_line(pid);
            }
        }
    }

    fn end_line(&mut self, pid: u32) {
        let line = text(&self.partial);
        self.partial.clear();
        debug!(pid, stderr = %line);
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > LINES || self.bytes > BYTES {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_stay_and_memory_is_bounded() {
        let mut ring = Ring::default();
        for number in 0..1_000 {
            ring.take(format!("line {number}\r\n").as_bytes(), 1);
        }
        assert_eq!((ring.lines.len(), ring.lines.back().map(String::as_str)), (LINES, Some("line 999")));
        ring.take(&vec![b'x'; 10 << 20], 1);
        assert_eq!(ring.partial.len(), LINE);
        for _ in 0..10 {
            ring.take(&vec![b'y'; LINE], 1);
            ring.take(b"\n", 1);
        }
        assert!(ring.bytes <= BYTES && ring.lines.iter().map(String::len).sum::<usize>() == ring.bytes);
    }
}
