//! How a program is started, and why it is not.

use mcpmeter_config::{Command as Configured, Secret};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

/// What of our own environment every server gets (WIRE.md 6: what the clients of the SDKs pass).
pub(super) const PASSED_ON: [&str; 6] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"];

/// How to start a program.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The program and its arguments.
    pub(crate) words: Vec<String>,
    /// Its environment, beside what every server gets.
    pub(crate) env: BTreeMap<String, Secret>,
    /// Its working directory, if it is not ours.
    pub(crate) cwd: Option<PathBuf>,
    /// The longest line it may say, in bytes.
    pub(crate) max_line: usize,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// There is no such file.
    #[error("there is no program `{0}`: give its path, or put its folder into PATH")]
    NotFound(String),
    /// It is there, but not what is to read it.
    #[error("`{0}` is there, but not the program that its first line names, or a library that it needs")]
    NoInterpreter(String),
    /// It may not be executed.
    #[error("`{0}` is not executable: is it a program, and do its permissions allow it?")]
    NotExecutable(String),
    /// Its working directory is not there.
    #[error("its working directory {} does not exist", .0.display())]
    NoFolder(PathBuf),
    /// Anything else.
    #[error("cannot start `{0}`")]
    Failed(String, #[source] io::Error),
}

impl Launch {
    /// As it is configured.
    pub(crate) fn of(command: &Configured) -> Self {
        Self {
            words: command.words.clone(),
            env: command.env.clone(),
            cwd: command.cwd.clone(),
            max_line: usize::try_from(command.max_message_mib << 20).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).env_clear();
        command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(self.env.iter().map(|(name, value)| (name, value.expose())));
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub(super) fn explain(&self, error: io::Error) -> SpawnError {
        let program = self.words[0].clone();
        match (error.kind(), &self.cwd) {
            (_, Some(cwd)) if !cwd.is_dir() => SpawnError::NoFolder(cwd.clone()),
            (io::ErrorKind::NotFound, cwd) if is_there(&program, cwd.as_deref()) => {
                SpawnError::NoInterpreter(program)
            }
            (io::ErrorKind::NotFound, _) => SpawnError::NotFound(program),
            (io::ErrorKind::PermissionDenied, _) => SpawnError::NotExecutable(program),
            _ => SpawnError::Failed(program, error),
        }
    }
}

/// Whether a program that is given by its path is there.
fn is_there(program: &str, cwd: Option<&Path>) -> bool {
    program.contains('/') && cwd.unwrap_or(Path::new("")).join(program).exists()
}
