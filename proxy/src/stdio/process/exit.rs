//! How a program has ended, and what it said last.

use serde_json::{Value, json};
use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus};

/// The end of a program. `Display` tells how, as in "exited with status 3".
#[derive(Debug, Clone)]
pub(crate) struct Exit {
    /// Unknown if it could not be waited for.
    pub(crate) status: Option<ExitStatus>,
    /// Its last lines on stderr.
    pub(crate) stderr: Vec<String>,
}

impl Exit {
    /// The same for `error_detail`.
    pub(crate) fn to_json(&self) -> Value {
        let code = self.status.and_then(|status| status.code());
        let signal = self.status.and_then(|status| status.signal());
        json!({ "process": { "exit_status": code, "signal": signal, "stderr": self.stderr } })
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(status) = self.status else { return f.write_str("ended") };
        match (status.code(), status.signal()) {
            (Some(code), _) => write!(f, "exited with status {code}"),
            (None, Some(signal)) => write!(f, "was killed by signal {signal}{}", name_of(signal)),
            (None, None) => f.write_str("ended"),
        }
    }
}

/// The signals that programs die of.
const fn name_of(signal: i32) -> &'static str {
    match signal {
        2 => " (SIGINT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}
