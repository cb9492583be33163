//! How a command fails: what is said on stderr, and with which exit code.

use mcpmeter_config::Problems;
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
        Self { code: 1, text: format!("error: {}", chain(what, error)) }
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

    /// Something else is not there: exit code 3.
    pub(crate) fn unreachable(what: &str, error: &dyn Error) -> Self {
        Self { code: 3, text: format!("error: {}", chain(what, error)) }
    }

    /// Says it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("{text}", text = self.text);
        ExitCode::from(self.code)
    }
}

/// An error with everything behind it, on one line.
fn chain(what: &str, error: &dyn Error) -> String {
    let mut text = if what.is_empty() { error.to_string() } else { format!("{what}: {error}") };
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
