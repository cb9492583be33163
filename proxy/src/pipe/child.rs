//! The server as a process of ours: started without a shell and in a session of its own, so that all it ever starts can be
//! ended together; with our environment and our stderr, because the client meant both for it.
//!
//! Only for raw pass-through, where nobody reads lines: whoever bridges to HTTP has its own.

use crate::stdio::process::Undertaker;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessSession};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
};
use tokio::process::{ChildStdin, ChildStdout};
use tracing::warn;

/// A running server.
pub(crate) struct Child {
    process: Box<dyn ChildWrapper>,
    group: Option<Pid>,
    /// Ends the group if we cannot.
    undertaker: Option<Undertaker>,
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
        let process = command.spawn().map_err(|error| SpawnError::new(program, error))?;
        let group = process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let child = Self { process, group, undertaker };
        if let Some((undertaker, pid)) = child.undertaker.as_ref().zip(child.pid()) {
            undertaker.begin(pid);
        }
        Ok(child)
    }

    /// Its process id, which is its group's and session's too.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.group.map(|group| group.as_raw_nonzero().get().cast_unsigned())
    }

    /// Its pipes, once.
    pub(crate) fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        Some((self.process.stdin().take()?, self.process.stdout().take()?))
    }

    /// Waits for its end. Can be called again if it was dropped before.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Asks all of it to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends all of it.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have ended by itself meanwhile.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        if let Some((undertaker, pid)) = self.undertaker.as_ref().zip(self.pid()) {
            undertaker.end(pid);
        }
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
