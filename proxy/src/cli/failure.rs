//! How a command fails: what is said on stderr, and with which exit code.

use crate::files::BadFiles;
use mcpmeter_config::Problems;
use mcpmeter_journal::chain;
use std::{error::Error, io::stderr, process::ExitCode};

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// It did not work: exit code 1.
    pub(crate) fn failed(what: &str, error: &dyn Error) -> Self {
        Self { code: 1, text: format!("error: {}", explain(what, error)) }
    }

    /// The caller has to change something: exit code 2.
    pub(crate) fn usage(text: &str) -> Self {
        Self { code: 2, text: format!("error: {text}") }
    }

    /// Everything that is wrong with the configuration: exit code 2.
    pub(crate) fn config(problems: &Problems, json: bool) -> Self {
        let colour = super::wants_colour(&stderr());
        let text = if json { problems.to_json().to_string() } else { problems.render(colour) };
        Self { code: 2, text: text.trim_end().to_owned() }
    }

    /// What is wrong with the files that the configuration names: exit code 2.
    pub(crate) fn files(bad: &BadFiles, json: bool) -> Self {
        if !json {
            return Self::usage(&bad.to_string());
        }
        let details: Vec<_> =
            bad.iter().map(|bad| serde_json::json!({ "code": bad.code, "message": bad.message })).collect();
        let message = "files cannot be used";
        let error = serde_json::json!({ "code": "config_invalid", "message": message, "details": details });
        Self { code: 2, text: serde_json::json!({ "error": error }).to_string() }
    }

    /// Something else is not there: exit code 3.
    pub(crate) fn unreachable(what: &str, error: &dyn Error) -> Self {
        Self { code: 3, text: format!("error: {}", explain(what, error)) }
    }

    /// Another program's exit code, handed on; there is nothing to say about it.
    pub(crate) const fn exit(code: u8) -> Self {
        Self { code, text: String::new() }
    }

    /// It could not be started, for a reason that has an exit code of its own.
    pub(crate) fn with_code(code: u8, what: &str, error: &dyn Error) -> Self {
        Self { code, text: format!("error: {}", explain(what, error)) }
    }

    /// The command worked, and what it has printed is bad news.
    pub(crate) fn found(code: u8, text: &str) -> Self {
        Self { code, text: text.to_owned() }
    }

    /// Says it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.text.is_empty() {
            eprintln!("{text}", text = self.text);
        }
        ExitCode::from(self.code)
    }
}

/// What was tried, and why it failed.
fn explain(what: &str, error: &dyn Error) -> String {
    if what.is_empty() { chain(error) } else { format!("{what}: {}", chain(error)) }
}
