//! `command` of a route, and the keys that belong to it.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::found::{Found, Raw};
use super::secret::read_secret;
use super::section::{Reading, Section};
use crate::{Command, Isolation, Problem, Secret};

/// What only a server that is a program has.
pub(super) const KEYS: [&str; 8] = [
    "env",
    "cwd",
    "isolation",
    "max_processes",
    "idle_timeout_ms",
    "start_timeout_ms",
    "max_memory_mib",
    "max_message_mib",
];

/// More processes than one machine can run.
const MAX_PROCESSES: u64 = 100_000;
/// A year.
const MAX_IDLE_MS: u64 = 366 * 86_400_000;
/// An hour: a program that has to be downloaded first is slow, one that takes longer does not start.
const MAX_START_MS: u64 = 3_600_000;
/// A petabyte.
const MAX_MIB: u64 = 1 << 30;
/// Messages are held whole.
const MAX_MESSAGE_MIB: u64 = 4_096;

pub(super) fn read_command(section: &mut Section<'_, '_>) -> Reading<Command> {
    let words = section.read("command", decode_words);
    let default = Command::new(Vec::new());
    let choices =
        [("auto", Isolation::Auto), ("per_session", Isolation::PerSession), ("shared", Isolation::Shared)];
    let command = Command {
        words: Vec::new(),
        env: section.read("env", decode_env).valid().unwrap_or_default(),
        cwd: section.path("cwd"),
        isolation: section.choice("isolation", default.isolation, &choices),
        max_processes: section.integer("max_processes", default.max_processes, 1..=MAX_PROCESSES),
        idle_timeout_ms: section.integer("idle_timeout_ms", default.idle_timeout_ms, 0..=MAX_IDLE_MS),
        start_timeout_ms: section.integer("start_timeout_ms", default.start_timeout_ms, 1..=MAX_START_MS),
        max_memory_mib: section.optional_integer("max_memory_mib", 1..=MAX_MIB),
        max_message_mib: section.integer("max_message_mib", default.max_message_mib, 1..=MAX_MESSAGE_MIB),
    };
    match words {
        Reading::Valid(words) => Reading::Valid(Command { words, ..command }),
        Reading::Absent => Reading::Absent,
        Reading::Invalid => Reading::Invalid,
    }
}

fn decode_words(found: &Found<'_>) -> Result<Vec<String>, Problem> {
    if let Raw::Toml(DeValue::String(_)) = found.raw {
        return Err(found
            .expected("an array of words")
            .help("no shell reads it; write command = [\"npx\", \"-y\", \"@scope/server\"]"));
    }
    let words = found.elements()?;
    let words: Vec<String> =
        words.iter().map(|word| decode_word(word).map(str::to_owned)).collect::<Result<_, _>>()?;
    match words.first() {
        None => Err(Problem::new("value-invalid", "it is empty").label("no program")),
        Some(program) if program.is_empty() => {
            Err(Problem::new("value-invalid", "its first word is empty").label("no program"))
        }
        Some(_) => Ok(words),
    }
}

/// A text that an operating system can hand over.
fn decode_word<'a>(found: &Found<'a>) -> Result<&'a str, Problem> {
    let word = found.as_text()?;
    if word.contains('\0') {
        return Err(Problem::new("value-invalid", "it has a NUL byte").label("not possible"));
    }
    Ok(word)
}

/// Values are texts, or references to secrets.
fn decode_env(found: &Found<'_>) -> Result<BTreeMap<String, Secret>, Problem> {
    let mut env = BTreeMap::new();
    for (name, value) in found.as_table()? {
        let name = name.get_ref().as_ref();
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Problem::new("value-invalid", "a variable has a name without `=` in it"));
        }
        let value = Found::in_file(value, found.source);
        let text = match value.raw {
            Raw::Toml(DeValue::Table(table)) => read_secret(&value, table),
            _ => decode_word(&value).map(str::to_owned),
        };
        let text = text.map_err(|problem| Problem {
            message: format!("`{name}`: {message}", message = problem.message),
            ..problem
        })?;
        env.insert(name.to_owned(), Secret::new(text));
    }
    Ok(env)
}
