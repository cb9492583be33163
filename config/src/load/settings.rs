//! Every value that is in force, in the words in which it was given, and who gave it: what `check --print` shows.
//!
//! Values of the file are cut out of its masked text, so that nothing is shown here that a problem would not show.

use std::sync::LazyLock;

use toml::de::{DeTable, DeValue};

use super::numbered::Numbered;
use super::reader::{Asked, Reader, is_listed};
use super::{Routes, Source, mask, read_config, syntax};
use crate::{Place, Problems, REFERENCE};

/// One key that has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The header of its table: `[proxy]`, `[[route]]`. Tables that may be repeated have one entry per key and table, in
    /// the order of the file, and begin where `is_first` is true.
    pub table: String,
    /// Whether it is the first of its table.
    pub is_first: bool,
    /// The key, without the table.
    pub key: &'static str,
    /// The value as TOML, secrets masked.
    pub value: String,
    /// Where it comes from; `Nowhere` for a default.
    pub place: Place,
}

/// The values that a source gives, section by section, or everything that is wrong with it. A key that has no value, and
/// what a route, a rule, a limit or a quota does not say, is left out.
pub fn settings(source: &Source<'_>) -> Result<Vec<Setting>, Problems> {
    let source = &Numbered::new(source);
    let (tree, errors) = DeTable::parse_recoverable(source.text);
    let tree = tree.get_ref();
    let mut reader = Reader::new(source);
    read_config(&mut reader, tree, Routes::Optional);
    let problems = syntax::merge(source, &errors, std::mem::take(&mut reader.problems));
    let text = mask::mask_secrets(source.text, tree);
    if !problems.is_empty() {
        return Err(Problems::new(source.path, text, problems));
    }
    Ok(reader.tables.iter().flat_map(|table| of_table(table, &text, &reader)).collect())
}

fn of_table(table: &Asked, text: &str, reader: &Reader<'_>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (key, place) in &table.keys {
        let full_key =
            if table.path.is_empty() { (*key).to_owned() } else { format!("{}.{key}", table.path) };
        let is_table = reader.tables.iter().any(|other| other.path == full_key);
        let value = match place {
            _ if is_table => None,
            Place::File(position) => Some(shorten(&text[position.span.clone()])),
            Place::Nowhere => default_of(&full_key),
            place => reader.overriding(&full_key, place).map(|given| of_override(&full_key, given)),
        };
        settings.extend(value.map(|value| Setting {
            table: table.header.clone(),
            is_first: false,
            key,
            value,
            place: place.clone(),
        }));
    }
    if let Some(first) = settings.first_mut() {
        first.is_first = true;
    }
    settings
}

/// What the reference says, which is the default. Its route is an example.
fn default_of(full_key: &str) -> Option<String> {
    static TREE: LazyLock<DeTable<'static>> =
        LazyLock::new(|| DeTable::parse_recoverable(REFERENCE).0.into_inner());
    if is_listed(full_key) {
        return None;
    }
    let (path, key) = full_key.rsplit_once('.')?;
    let mut table = &*TREE;
    for part in path.split('.') {
        let DeValue::Table(inner) = table.get(part)?.get_ref() else { return None };
        table = inner;
    }
    Some(REFERENCE[table.get(key)?.span()].to_owned())
}

/// The text of a variable or a flag as the TOML that says the same: it takes the type of its default.
fn of_override(full_key: &str, given: &str) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let default = default_of(full_key).unwrap_or_default();
    let value = match default.as_bytes().first() {
        Some(b'[') => {
            let elements = given.split(',').map(str::trim).filter(|element| !element.is_empty());
            format!("[{}]", elements.map(quoted).collect::<Vec<_>>().join(", "))
        }
        Some(b'0'..=b'9' | b't' | b'f') => given.to_owned(),
        _ => quoted(given),
    };
    let line = format!("{full_key} = {value}");
    let (tree, _) = DeTable::parse_recoverable(&line);
    shorten(&mask::mask_secrets(&line, tree.get_ref())[line.len() - value.len()..])
}

/// How long a secret is, is nobody's business.
fn shorten(masked: &str) -> String {
    let mut short = String::with_capacity(masked.len());
    for part in masked.split_inclusive('*') {
        if part != "*" || !short.ends_with('*') {
            short.push_str(part);
        } else if !short.ends_with("****") {
            short.push_str("***");
        }
    }
    short
}
