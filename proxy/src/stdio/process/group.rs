//! The process group of a program: everything that it has started and that has not left it.
//!
//! Its number is its leader's, and can be given to somebody else once the leader is reaped. So it is ended before that,
//! and never signalled again.

use super::Undertaker;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::{io, os::fd::OwnedFd, sync::Arc};
use tokio::io::unix::AsyncFd;

/// A group that is ended when this is dropped, and only once. To be dropped before its leader's [`Child`].
///
/// [`Child`]: tokio::process::Child
pub(crate) struct Group {
    leader: Pid,
    undertaker: Option<Arc<Undertaker>>,
    has_ended: bool,
}

impl Group {
    /// The group of a leader that has just been started.
    pub(crate) fn of(leader: u32, undertaker: Option<Arc<Undertaker>>) -> Self {
        if let Some(undertaker) = &undertaker {
            undertaker.begin(leader);
        }
        let leader = Pid::from_raw(leader.cast_signed()).expect("no process has the number 0");
        Self { leader, undertaker, has_ended: false }
    }

    /// The process id of its leader, which is its own number and that of its session.
    pub(crate) const fn number(&self) -> u32 {
        self.leader.as_raw_nonzero().get().cast_unsigned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if !self.has_ended {
            // It may be empty already; there is nobody else that the number could mean before the leader is reaped.
            let _ = kill_process_group(self.leader, signal);
        }
    }

    /// Kills what is left of it. To be done before the leader is reaped.
    pub(crate) fn end(&mut self) {
        if self.has_ended {
            return;
        }
        self.signal(Signal::KILL);
        self.has_ended = true;
        if let Some(undertaker) = &self.undertaker {
            undertaker.end(self.number());
        }
    }

    /// Readable when the leader has ended, before it is reaped.
    #[expect(
        deprecated,
        reason = "the safe one is deprecated for types whose descriptor may change; this type's does not"
    )]
    pub(crate) fn watch_leader(&self) -> io::Result<AsyncFd<OwnedFd>> {
        AsyncFd::new(pidfd_open(self.leader, PidfdFlags::NONBLOCK)?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}
