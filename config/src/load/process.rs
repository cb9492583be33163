//! `process` of a route: which process of this machine its server is.

use toml::de::DeValue;

use super::found::{Found, Raw};
use super::section::Section;
use crate::{Problem, ProcessHint};

pub(super) fn read_process(section: &mut Section<'_, '_>) -> Option<ProcessHint> {
    section.read("process", decode_process).valid()
}

fn decode_process(found: &Found<'_>) -> Result<ProcessHint, Problem> {
    let Raw::Toml(DeValue::Table(table)) = found.raw else {
        return Err(found.expected("a table").help(HELP));
    };
    let mut entries = table.iter();
    match (entries.next(), entries.next()) {
        (Some((key, value)), None) => {
            let value = Found::in_file(value, found.source);
            match key.get_ref().as_ref() {
                "pid_file" => value.as_path().map(ProcessHint::PidFile),
                "name" => value.as_full_text().map(|name| ProcessHint::Name(name.to_owned())),
                "port" => {
                    let port = value.as_integer(&(1..=u64::from(u16::MAX)))?;
                    Ok(ProcessHint::Port(u16::try_from(port).expect("it is in the range of ports")))
                }
                _ => Err(no_hint()),
            }
        }
        _ => Err(no_hint()),
    }
}

const HELP: &str = "write { pid_file = \"path\" }, { name = \"program\" } or { port = 3001 }";

fn no_hint() -> Problem {
    Problem::new("value-invalid", "it names no process").label("exactly one of three").help(HELP)
}
