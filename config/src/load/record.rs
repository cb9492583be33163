//! `[record]`, and `[route.record]`, which says otherwise for one route.

use base64::{Engine, prelude::BASE64_STANDARD};
use toml::de::DeValue;

use super::found::{Found, Raw};
use super::secret::read_secret;
use super::section::Section;
use crate::{Bodies, BodyKey, Problem, Record, Store};

const CHOICES: [(&str, Bodies); 3] = [("off", Bodies::Off), ("errors", Bodies::Errors), ("all", Bodies::All)];
/// With what has to be seen behind it, that is the longest text that redaction looks through.
const MAX_BYTES: u64 = 60 << 10;
/// A century.
const MAX_DAYS: u64 = 36_500;
/// Keys that were exchanged, until what they have sealed is gone.
const MAX_KEYS: usize = 16;
/// How a key is made.
const MAKE_ONE: &str =
    "make one with `openssl rand -base64 32 > bodies.key` and write bodies_key = { file = \"bodies.key\" }";

pub(super) fn read_record(root: &mut Section<'_, '_>, store: &Store) -> Record {
    let default = Record::default();
    let mut section = root.section("record");
    let keys = section.read("bodies_key", decode_keys);
    let is_keyless = keys.is_absent();
    let record = Record {
        bodies: section.choice("bodies", default.bodies, &CHOICES),
        bodies_max_bytes: section.integer("bodies_max_bytes", default.bodies_max_bytes, 1_024..=MAX_BYTES),
        bodies_retention_days: read_days(&mut section, store, default.bodies_retention_days),
        bodies_key: keys.valid().unwrap_or_default(),
    };
    if record.bodies != Bodies::Off && is_keyless {
        report_keyless(&mut section, "record.bodies");
    }
    section.finish();
    record
}

/// Of which calls a route keeps bodies.
pub(super) fn read_route_bodies(route: &mut Section<'_, '_>, general: &Record) -> Bodies {
    let mut section = route.section("record");
    let bodies = section.choice("bodies", general.bodies, &CHOICES);
    // That all routes lack it has been said.
    if bodies != Bodies::Off && general.bodies == Bodies::Off && general.bodies_key.is_empty() {
        report_keyless(&mut section, "route.record.bodies");
    }
    section.finish();
    bodies
}

/// A body is never kept for longer than its call.
fn read_days(section: &mut Section<'_, '_>, store: &Store, default: u32) -> u32 {
    let days = section.optional_integer("bodies_retention_days", 1..=MAX_DAYS);
    let of_rows = if store.retention_days == 0 { u32::MAX } else { store.retention_days };
    let Some(days) = days.and_then(|days| u32::try_from(days).ok()) else { return default.min(of_rows) };
    if days > of_rows {
        let problem = Problem::new(
            "value-range",
            format!("bodies would be kept for {days} days, and their calls for {of_rows}"),
        );
        let (place, rows) =
            (section.place_of("record.bodies_retention_days"), section.place_of("store.retention_days"));
        let problem = problem.at(place).label("longer than the calls").related(&rows, "the calls");
        section.report(problem.help(format!("write at most {of_rows}, or leave it out")));
    }
    days
}

fn report_keyless(section: &mut Section<'_, '_>, key: &str) {
    let message = format!("`{key}` keeps bodies, and there is no key to encrypt them with");
    let problem = Problem::new("key-missing", message).at(section.place_of(key));
    section.report(
        problem.label("needs `record.bodies_key`").help(format!(
            "{MAKE_ONE}; all proxies of one database, and whoever reads bodies, need the same"
        )),
    );
}

/// One reference or a list of them. No message here repeats a key.
fn decode_keys(found: &Found<'_>) -> Result<Vec<BodyKey>, Problem> {
    let secrets = match &found.raw {
        Raw::Text(text) => vec![(*text).to_owned()],
        Raw::Toml(DeValue::Table(table)) => vec![read_secret(found, table)?],
        Raw::Toml(DeValue::Array(elements)) if (1..=MAX_KEYS).contains(&elements.len()) => {
            let read = |element: &toml::Spanned<DeValue<'_>>| match element.get_ref() {
                DeValue::Table(table) => read_secret(found, table),
                _ => Err(no_reference(found)),
            };
            elements.iter().map(read).collect::<Result<_, _>>()?
        }
        Raw::Toml(_) => return Err(no_reference(found)),
    };
    secrets.iter().map(|secret| decode_key(secret)).collect()
}

fn no_reference(found: &Found<'_>) -> Problem {
    found.expected("{ env = \"NAME\" }, { file = \"path\" }, or a list of them").help(format!(
        "the key itself does not belong into this file; {MAKE_ONE}. The first of a list seals, all open"
    ))
}

fn decode_key(text: &str) -> Result<BodyKey, Problem> {
    let bits = BASE64_STANDARD.decode(text.trim()).ok().and_then(|bits| bits.try_into().ok());
    bits.map(BodyKey::new).ok_or_else(|| {
        Problem::new("value-invalid", "the key is not 32 bytes in base64").label("not a key").help(MAKE_ONE)
    })
}
