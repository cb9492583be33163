//! `{ env = "NAME" }` and `{ file = "path" }`: a secret that stands elsewhere.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::found::Found;
use crate::Problem;

/// What the reference refers to. No message repeats the secret, nor what might be one.
pub(super) fn read_secret(found: &Found<'_>, table: &DeTable<'_>) -> Result<String, Problem> {
    let mut entries = table.iter().map(|(key, value)| (key.get_ref().as_ref(), value.get_ref()));
    match (entries.next(), entries.next()) {
        // A URL in the place of the name is the secret itself, and must not get into a message.
        (Some((_, DeValue::String(name))), _) if name.contains("://") => {}
        (Some(("env", DeValue::String(name))), None) => return read_variable(found, name),
        (Some(("file", DeValue::String(path))), None) => return read_file(&found.base().join(path.as_ref())),
        _ => {}
    }
    Err(Problem::new("secret-reference", "it is no reference to a secret")
        .label("not a reference")
        .help("write { env = \"NAME\" } or { file = \"path\" }"))
}

fn read_variable(found: &Found<'_>, name: &str) -> Result<String, Problem> {
    let value = found.source.environment.iter().find(|(candidate, _)| candidate == name);
    match value.map(|(_, value)| value.as_str()) {
        None if !is_name(name) => Err(unreadable("no environment variable has this name".to_owned())
            .label("not a name")
            .help("write the name of the variable, not the secret itself")),
        None => Err(unreadable(format!("the environment variable `{name}` is not set")).label("not set")),
        Some("") => Err(unreadable(format!("the environment variable `{name}` is empty")).label("empty")),
        Some(value) => Ok(value.to_owned()),
    }
}

/// Whether this looks like the name of a variable (POSIX, 8.1). What does not may be the secret itself.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn read_file(path: &Path) -> Result<String, Problem> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| unreadable(format!("cannot read {shown}: {error}")).label("cannot be read"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    match text.strip_suffix('\r').unwrap_or(text) {
        "" => Err(unreadable(format!("{shown} is empty")).label("empty")),
        secret => Ok(secret.to_owned()),
    }
}

fn unreadable(message: String) -> Problem {
    Problem::new("secret-unreadable", message)
}
