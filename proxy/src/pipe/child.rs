//! The server as a process of ours: started without a shell and in a session of its own, so that all it ever starts can be
//! ended together; with our environment and our stderr, because the client meant both for it.
//!
//! Only for raw pass-through, where nobody reads lines: whoever bridges to HTTP has its own.

use crate::stdio::process::{Group, Undertaker};
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessSession};
use rustix::process::Signal;
use serde_json::json;
use std::{
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{ExitStatus, Stdio},
    sync::Arc,
};
use tokio::{
    io::unix::AsyncFd,
    process::{ChildStdin, ChildStdout},
};
use tracing::warn;

/// A running server.
pub(crate) struct Child {
    /// Before the process, so that it is ended before its leader is reaped.
    group: Group,
    process: Box<dyn ChildWrapper>,
    ended: AsyncFd<OwnedFd>,
}

/// Why a command does not run.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {program:?}: {advice}")]
pub(crate) struct SpawnError {
    program: String,
    advice: &'static str,
    source: io::Error,
}

impl SpawnError {
    fn new(program: &str, source: io::Error) -> Self {
        let advice = match source.kind() {
            io::ErrorKind::NotFound => "there is no such program on the PATH",
            io::ErrorKind::PermissionDenied => "it may not be executed",
            _ => "the system does not start it",
        };
        Self { program: program.to_owned(), advice, source }
    }

    /// The exit code that shells give for it.
    pub(crate) fn code(&self) -> u8 {
        match self.source.kind() {
            io::ErrorKind::NotFound => 127,
            io::ErrorKind::PermissionDenied => 126,
            _ => 1,
        }
    }
}

impl Child {
    /// Starts a program with its arguments.
    pub(crate) fn spawn(words: &[String]) -> Result<Self, SpawnError> {
        let [program, arguments @ ..] = words else {
            return Err(SpawnError::new("", io::Error::from(io::ErrorKind::NotFound)));
        };
        // First, so that it is told as soon as there is anything to tell.
        let undertaker = Undertaker::start_own();
        let undertaker = undertaker
            .inspect_err(|error| warn!(%error, "the server may outlive this process if it is killed"))
            .ok();
        let mut command = CommandWrap::with_new(program, |command| {
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        });
        command.wrap(ProcessSession).wrap(KillOnDrop);
        let failed = |error| SpawnError::new(program, error);
        // Of the library only the session is wanted; it would wait for the whole group.
        let process = command.spawn().map_err(failed)?.into_inner();
        let id = process.id().expect("it has not been waited for");
        let group = Group::of(id, undertaker.map(Arc::new));
        let ended = group.watch_leader().map_err(failed)?;
        Ok(Self { group, process, ended })
    }

    /// Its process id, which is its group's and session's too.
    pub(crate) const fn pid(&self) -> u32 {
        self.group.number()
    }

    /// Its pipes, once.
    pub(crate) fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        Some((self.process.stdin().take()?, self.process.stdout().take()?))
    }

    /// Waits for its end. It stays a zombie until [`Self::reap`]: so long its group's number is nobody else's.
    pub(crate) async fn ended(&self) {
        // What cannot be waited for any more has ended.
        let _ = self.ended.readable().await;
    }

    /// Ends what is left of its group, then says how it ended.
    pub(crate) async fn reap(mut self) -> io::Result<ExitStatus> {
        self.group.end();
        self.process.wait().await
    }

    /// Asks all of it to end.
    pub(crate) fn terminate(&self) {
        self.group.signal(Signal::TERM);
    }

    /// Ends all of it.
    pub(crate) fn kill(&self) {
        self.group.signal(Signal::KILL);
    }
}

/// The exit code to hand on: its own, or 128 and the signal's number, as shells have it.
pub(crate) fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// How it ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}{}", name_of(signal)),
        (None, None) => "ended".to_owned(),
    }
}

/// The same for `error_detail`.
pub(crate) fn context_of(status: ExitStatus) -> String {
    json!({ "process": { "exit_status": status.code(), "signal": status.signal() } }).to_string()
}

/// The signals that servers die of.
fn name_of(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}
