//! Files with issuers' keys, as far as they have to be there before anything starts: later on, one that cannot be read is
//! waited for.

use super::key_set;
use mcpmeter_config::{Config, Jwks};
use std::{collections::BTreeMap, io, path::Path};

/// A file without keys.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the issuer's keys of route `{route}` from {file}")]
pub(crate) struct BadKeyFile {
    route: String,
    file: String,
    source: io::Error,
}

/// Reads every file of keys that a configuration names, and says which cannot be used; keeps nothing.
pub(crate) fn examine(config: &Config) -> Vec<BadKeyFile> {
    let mut files: BTreeMap<&Path, &str> = BTreeMap::new();
    for route in &config.routes {
        if let Some(Jwks::File(file)) = route.identity.tokens().map(|tokens| &tokens.jwks) {
            files.entry(file).or_insert(&route.name);
        }
    }
    let bad = |(file, route): (&Path, &str)| {
        let source = key_set::examine(file).err()?;
        Some(BadKeyFile { route: route.to_owned(), file: file.display().to_string(), source })
    };
    files.into_iter().filter_map(bad).collect()
}
