//! Child processes of the bench: started with their output in a file, stopped with SIGTERM, never left behind, not even
//! when the bench is killed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// A proxy that is not ready after this time will not be. With thousands of routes on a busy machine it may take a while.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A proxy may write what it still holds before it ends.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// Our subcommand that ties a program's life to ours.
pub(crate) const TETHER: &str = "tether";

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A child process did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// What was to be started.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("{program} ended ({status}) before it was ready: {output}")]
    Ended {
        /// What ended.
        program: &'static str,
        /// How.
        status: ExitStatus,
        /// Its last words.
        output: String,
    },
    /// It is there but never became ready.
    #[error("{program} was not ready after {} s: {output}", START_PATIENCE.as_secs())]
    NotReady {
        /// What was not ready.
        program: &'static str,
        /// Its last words.
        output: String,
    },
    /// It was told to stop and did not.
    #[error("{program} did not end within {} s of SIGTERM and was killed", STOP_PATIENCE.as_secs())]
    NotStopped {
        /// What did not stop.
        program: &'static str,
    },
    /// It ended by another way than success.
    #[error("{program} ended with {status} after SIGTERM: {output}")]
    Failed {
        /// What failed.
        program: &'static str,
        /// How.
        status: ExitStatus,
        /// Its last words.
        output: String,
    },
    /// The operating system refused something else.
    #[error("cannot manage {program}")]
    Io {
        /// What was concerned.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A running child. Dropping it tells it to stop; `stop` also waits.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    program: &'static str,
    output: PathBuf,
    stopped: bool,
    /// SIGTERM kills it, and that is its way to end.
    heeds_no_signal: bool,
}

impl Process {
    /// Starts `command` with its standard output and error in `output`; errors call it `program`.
    pub(crate) fn start(
        program: &'static str,
        mut command: Command,
        output: &Path,
    ) -> Result<Self, ProcessError> {
        let file = File::create(output).and_then(|file| Ok((file.try_clone()?, file)));
        let child =
            file.and_then(|(file, same)| command.stdin(Stdio::null()).stdout(file).stderr(same).spawn());
        match child {
            Ok(child) => {
                Ok(Self { child, program, output: output.into(), stopped: false, heeds_no_signal: false })
            }
            Err(source) => Err(ProcessError::Start { program, source }),
        }
    }

    /// It does not handle SIGTERM: being killed by it is how it ends.
    pub(crate) fn ends_by_signal(&mut self) {
        self.heeds_no_signal = true;
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `is_ready` says so.
    pub(crate) fn wait_until(&mut self, is_ready: impl Fn() -> bool) -> Result<(), ProcessError> {
        let start = Instant::now();
        while !is_ready() {
            if let Some(status) = self.try_wait()? {
                let program = self.program;
                return Err(ProcessError::Ended { program, status, output: self.last_words() });
            }
            if start.elapsed() > START_PATIENCE {
                return Err(ProcessError::NotReady { program: self.program, output: self.last_words() });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Sends SIGTERM and waits for a successful end.
    pub(crate) fn stop(mut self) -> Result<(), ProcessError> {
        self.signal(Signal::TERM);
        let start = Instant::now();
        let program = self.program;
        loop {
            match self.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) if self.heeds_no_signal && status.signal() == Some(Signal::TERM.as_raw()) => {
                    return Ok(());
                }
                Some(status) => {
                    return Err(ProcessError::Failed { program, status, output: self.last_words() });
                }
                None if start.elapsed() > STOP_PATIENCE => {
                    self.signal(Signal::KILL);
                    return Err(ProcessError::NotStopped { program });
                }
                None => std::thread::sleep(POLL_INTERVAL),
            }
        }
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        let ended = self.child.try_wait();
        let status = ended.map_err(|source| ProcessError::Io { program: self.program, source })?;
        self.stopped = status.is_some();
        Ok(status)
    }

    fn signal(&self, signal: Signal) {
        // Until it is waited for, its id belongs to nobody else; an error means that it has ended already.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    fn last_words(&self) -> String {
        let text = fs::read(&self.output).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.trim_end().lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.stopped {
            self.signal(Signal::TERM);
        }
    }
}

/// A command that starts `program` by way of our subcommand `tether`; arguments and environment are the program's.
pub(crate) fn tethered(program: &Path) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([TETHER, "--"]).arg(program);
    Ok(command)
}

/// Becomes `program`, which the kernel will send SIGTERM when our parent ends, however that happens.
/// Returns only if it cannot.
pub(crate) fn become_tethered(program: &[OsString]) -> io::Error {
    let Some((program, arguments)) = program.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program given");
    };
    match set_parent_process_death_signal(Some(Signal::TERM)) {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error.into(),
    }
}

/// A port of the loopback that was free a moment ago.
pub(crate) fn find_free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Whether something accepts connections there.
pub(crate) fn accepts_connections(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// Whether `GET path` is answered with 200.
pub(crate) fn answers_ok(address: SocketAddr, path: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        io::Result::Ok(&status == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> (tempfile::TempDir, Process) {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let process = Process::start("sh", command, &directory.path().join("output")).unwrap();
        (directory, process)
    }

    #[test]
    fn a_process_that_ends_early_is_reported_with_its_last_words() {
        let (_directory, mut process) = start("echo no such luck >&2; exit 3");
        let error = process.wait_until(|| false).unwrap_err();
        assert!(matches!(&error, ProcessError::Ended { output, .. } if output == "no such luck"), "{error}");
    }

    #[test]
    fn a_process_that_ends_badly_after_sigterm_is_reported() {
        let (directory, mut process) = start("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done");
        let output = directory.path().join("output");
        process.wait_until(|| fs::read_to_string(&output).is_ok_and(|text| text == "ready\n")).unwrap();
        let error = process.stop().unwrap_err();
        let failed = |error: &ProcessError| matches!(error, ProcessError::Failed { status, .. } if status.code() == Some(5));
        assert!(failed(&error), "{error}");
    }
}
