//! A server that is a program: how it is started, for whom, and within which limits.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::Secret;

/// `command = […]` with what belongs to it. `Display` gives the command line as a shell would take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments; never empty, and no shell reads them. A program without a slash is looked for
    /// in `PATH`.
    pub words: Vec<String>,
    /// Variables of its environment beside the few that every server gets (WIRE.md 6).
    pub env: BTreeMap<String, Secret>,
    /// Its working directory; the proxy's own unless told otherwise.
    pub cwd: Option<PathBuf>,
    /// Which clients share a process.
    pub isolation: Isolation,
    /// The most processes at a time. Who needs one more is answered with 503 and `Retry-After`.
    pub max_processes: usize,
    /// How long a process without a request or a stream lives; 0 for ever.
    pub idle_timeout_ms: u64,
    /// How long a new process may take to answer its first request.
    pub start_timeout_ms: u64,
    /// The resident memory of the process with all its children above which it is stopped; `None` for any.
    pub max_memory_mib: Option<u64>,
    /// The longest message in either direction.
    pub max_message_mib: u64,
}

/// Which clients share a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A process for each session, and one for all requests of the revision without sessions.
    Auto,
    /// A process for each session; clients of the revision without sessions are told to open one.
    PerSession,
    /// One process for everybody.
    Shared,
}

impl Command {
    /// A command with all defaults.
    pub fn new(words: Vec<String>) -> Self {
        Self {
            words,
            env: BTreeMap::new(),
            cwd: None,
            isolation: Isolation::Auto,
            max_processes: 64,
            idle_timeout_ms: 1_800_000,
            start_timeout_ms: 60_000,
            max_memory_mib: None,
            max_message_mib: 64,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, word) in self.words.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(&byte);
            if !word.is_empty() && word.bytes().all(is_plain) {
                write!(f, "{space}{word}")?;
            } else {
                write!(f, "{space}'{}'", word.replace('\'', "'\\''"))?;
            }
        }
        Ok(())
    }
}
