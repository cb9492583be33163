//! `[log]`.
//!
//! `tracing` takes a misspelled level for the name of a module and then logs nothing, so levels are checked
//! here. Filters on spans and fields are left to it.

use super::found::Found;
use super::section::Section;
use super::suggestion;
use crate::{Log, LogFormat, Problem};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn read_log(root: &mut Section<'_, '_>) -> Log {
    let default = Log::default();
    let mut section = root.section("log");
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let log = Log {
        level: section.read("level", decode_filter).valid().unwrap_or(default.level),
        format: section.choice("format", default.format, &formats),
    };
    section.finish();
    log
}

fn decode_filter(found: &Found<'_>) -> Result<String, Problem> {
    let filter = found.as_full_text()?;
    let has_fields = filter.contains(['[', '{']);
    match filter.split(',').map(str::trim).find(|directive| !has_fields && !is_directive(directive)) {
        None => Ok(filter.to_owned()),
        Some(directive) => Err(describe_wrong_level(directive)),
    }
}

/// `level`, `module=level`, or the name of a module that is no misspelled level.
fn is_directive(directive: &str) -> bool {
    match directive.split_once('=') {
        Some((_, level)) => is_level(level),
        None if directive.is_empty() => false,
        None => is_level(directive) || suggest_level(directive).is_none(),
    }
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

fn suggest_level(word: &str) -> Option<&'static str> {
    suggestion::find_nearest(&word.to_ascii_lowercase(), LEVELS.into_iter())
}

fn describe_wrong_level(directive: &str) -> Problem {
    let word = directive.split_once('=').map_or(directive, |(_, level)| level);
    let problem = Problem::new("value-invalid", format!("`{word}` is not a level")).label("not a filter");
    problem.help(match suggest_level(word) {
        Some(level) => format!("did you mean `{level}`?"),
        None => format!("levels: {}", LEVELS.join(", ")),
    })
}
