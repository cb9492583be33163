//! How `check --print` shows the values that are in force.

use mcpmeter_config::{Place, Setting};
use mcpmeter_observer::{Personal, Redactor};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Where the remarks begin, as far as a line leaves room.
const COLUMN: usize = 48;

/// As TOML that says the same, but for masked secrets; behind each value, where it comes from.
pub(super) fn to_toml(settings: &[Setting], file: &str) -> String {
    let redactor = credentials();
    let mut text = String::new();
    for setting in settings {
        if setting.is_first && !setting.table.is_empty() {
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}{}", setting.table);
        }
        let line = format!("{} = {}", setting.key, redactor.redact(&setting.value));
        let _ = writeln!(text, "{line:COLUMN$} # {}", origin(&setting.place, file));
    }
    text
}

/// As one object per value.
pub(super) fn to_json(settings: &[Setting], file: &str) -> Value {
    let redactor = credentials();
    let told = settings.iter().map(|setting| {
        json!({
            "table": setting.table,
            "begins_table": setting.is_first,
            "key": setting.key,
            "value": redactor.redact(&setting.value),
            "origin": origin(&setting.place, file),
        })
    });
    told.collect()
}

fn origin(place: &Place, file: &str) -> String {
    match place {
        Place::File(position) => format!("{file}:{}", position.line),
        Place::Variable(name) | Place::Flag(name) => name.clone(),
        Place::Nowhere => "default".to_owned(),
    }
}

/// Takes out what was written where no secret belongs, such as a key among the words of a command. Names of users and the
/// like are what somebody wants to see here.
fn credentials() -> std::sync::Arc<Redactor> {
    let personal = [Personal::Email, Personal::Phone, Personal::Card, Personal::MyNumber, Personal::Iban];
    Redactor::new(&personal, Vec::new())
}
