//! What the operating system asks of the process.

use std::io;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// Listens for signals from its creation on.
pub(crate) struct Signals {
    terminate: Stream,
    interrupt: Stream,
    /// Absent if we were started to outlive our terminal (`nohup`).
    hang_up: Option<Stream>,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            Some(_) = received(&mut self.hang_up) => Signal::Reload,
        }
    }

    /// The next one that asks to stop; the others come too late to matter.
    pub(crate) async fn next_stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}

async fn received(stream: &mut Option<Stream>) -> Option<()> {
    stream.as_mut()?.recv().await
}

/// Whether whoever started us has set SIGHUP aside.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(ignored.trim(), 16).is_ok_and(|ignored| ignored & 1 != 0)
}
