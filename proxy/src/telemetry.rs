//! What the program says about itself, on stderr: text on a terminal, JSON otherwise. Never a body, a header's
//! value or a token.

use crate::{
    cli::Bar,
    redaction::{self, RedactedLines},
};
use mcpmeter_config::{Config, LogFormat};
use std::{
    io::{IsTerminal, stderr},
    sync::Arc,
};
use tracing_subscriber::EnvFilter;

/// Starts logging, beside a line that stays at the bottom of the terminal. `RUST_LOG` wins over `log.level`. What
/// `privacy` says now is not in any line.
pub(crate) fn start(config: &Config, bar: &Bar) {
    let (log, bar, redactor) = (&config.log, bar.clone(), redaction::redactor(&config.privacy));
    let filter =
        EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(&log.level)).unwrap_or_default();
    let terminal = stderr().is_terminal();
    let text = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let writer = move || RedactedLines { to: bar.clone(), redactor: Arc::clone(&redactor), is_json: !text };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colour);
    if text {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
