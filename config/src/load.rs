//! TOML, environment and flags → [`Config`], or all problems.
//!
//! Precedence: flag, environment (`MCPMETER_SECTION__KEY`), `DATABASE_URL` (for `store.url` only, and only if
//! it is a PostgreSQL URL), file, default. A value that is overridden is not looked at. Routes come from the
//! file alone. A relative path starts at the folder of the configuration file, unless a variable or a flag
//! gave it: then at the current directory.

#![expect(
    clippy::result_large_err,
    reason = "a configuration is read once; boxing its problems would gain nothing"
)]

use std::io::ErrorKind;
use std::path::Path;

use toml::de::DeTable;

use crate::{Config, MINIMAL, Problem, Problems};
use numbered::Numbered;
use reader::Reader;
use section::Section;
pub use settings::{Setting, settings};

mod admin;
mod command;
mod found;
mod host;
mod identity;
mod limit;
mod listen;
mod log;
mod mask;
mod network;
mod numbered;
mod privacy;
mod process;
mod proxy;
mod reader;
mod record;
mod route;
mod rule;
mod secret;
mod section;
mod selector;
mod settings;
mod store;
mod suggestion;
mod syntax;
mod tls;

/// What a configuration is made from.
#[derive(Clone, Copy, Default)]
pub struct Source<'a> {
    /// The file's path, for problems and as the start of relative paths; `None` if there is no file.
    pub path: Option<&'a Path>,
    /// The file's text.
    pub text: &'a str,
    /// Names and values of environment variables; those that are not ours are ignored.
    pub environment: &'a [(String, String)],
    /// What the command line sets.
    pub flags: &'a [Flag<'a>],
}

/// A command-line flag that sets one key.
#[derive(Clone, Copy)]
pub struct Flag<'a> {
    /// As the person typed it, for problems: `--listen`.
    pub name: &'a str,
    /// The key it sets: `proxy.listen`.
    pub key: &'a str,
    /// The value, in the form an environment variable would have.
    pub value: &'a str,
}

/// Turns a source into a configuration, or into everything that is wrong with it.
///
/// Reads no file but those that the text names as secrets.
pub fn load(source: &Source<'_>) -> Result<Config, Problems> {
    load_as(source, Routes::Required)
}

/// As [`load`], for programs that need no route: where there is none, that is no problem.
pub fn load_without_routes(source: &Source<'_>) -> Result<Config, Problems> {
    load_as(source, Routes::Optional)
}

/// Whether a configuration without a route is one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Routes {
    Required,
    Optional,
}

fn load_as(source: &Source<'_>, routes: Routes) -> Result<Config, Problems> {
    let source = &Numbered::new(source);
    let (tree, errors) = DeTable::parse_recoverable(source.text);
    let tree = tree.get_ref();
    let mut reader = Reader::new(source);
    let config = read_config(&mut reader, tree, routes);
    let problems = syntax::merge(source, &errors, reader.problems);
    if problems.is_empty() {
        return Ok(config);
    }
    Err(Problems::new(source.path, mask::mask_secrets(source.text, tree), problems))
}

/// As [`load`], with the text of the file at `path`. A missing file is a problem like any other.
pub fn load_file(
    path: &Path,
    environment: &[(String, String)],
    flags: &[Flag<'_>],
) -> Result<Config, Problems> {
    load(&Source { path: Some(path), text: &read_text(path)?, environment, flags })
}

/// The text of a configuration file, or why there is none.
pub fn read_text(path: &Path) -> Result<String, Problems> {
    std::fs::read_to_string(path).map_err(|error| {
        let problem = if error.kind() == ErrorKind::NotFound {
            Problem::new("file-missing", format!("there is no configuration file {}", path.display()))
                .help(format!("write one; this is enough:\n{}", MINIMAL.trim_end()))
        } else {
            Problem::new("file-unreadable", format!("cannot read the configuration file: {error}"))
        };
        Problems::new(Some(path), String::new(), vec![problem])
    })
}

/// The environment of this process. A variable that is not UTF-8 is left out, as if it were not set.
pub fn process_environment() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

fn read_config<'a>(reader: &mut Reader<'a>, tree: &'a DeTable<'a>, routes: Routes) -> Config {
    let mut root = Section::root(reader, tree);
    let proxy = proxy::read_proxy(&mut root);
    let admin = admin::read_admin(&mut root, proxy.listen);
    let store = store::read_store(&mut root);
    let privacy = privacy::read_privacy(&mut root);
    let record = record::read_record(&mut root, &store);
    let identity = identity::read_identity(&mut root);
    let log = log::read_log(&mut root);
    let connect_timeout_ms = proxy.connect_timeout_ms;
    let defaults = route::Defaults { connect_timeout_ms, identity: &identity, record: &record };
    let routes = route::read_routes(&mut root, &defaults, routes == Routes::Required);
    let number_in_file =
        tree.get("route").and_then(|value| value.get_ref().as_array()).map_or(0, |array| array.len());
    let names = selector::names_of(&routes, number_in_file);
    let policy = rule::read_policy(&mut root, &names);
    let (limits, quotas) = limit::read_limits(&mut root, &names);
    root.finish();
    reader.report_unused_overrides();
    Config { proxy, admin, store, privacy, record, identity, log, policy, limits, quotas, routes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_in_the_reference_file() {
        let text = format!("{MINIMAL}\n[[rule]]\n[[limit]]\n[[quota]]\n");
        let source = Source { text: &text, ..Source::default() };
        let (tree, _) = DeTable::parse_recoverable(source.text);
        let numbered = Numbered::new(&source);
        let mut reader = Reader::new(&numbered);
        read_config(&mut reader, tree.get_ref(), Routes::Required);
        let stands = |key: &str| {
            let name = key.rsplit('.').next().unwrap_or(key);
            let names = |line: &str| {
                line.trim_start_matches('#').split('=').next().is_some_and(|word| word.trim() == name)
            };
            let header = [format!("[{key}]"), format!("[[{key}]]")];
            crate::REFERENCE
                .lines()
                .any(|line| names(line) || header.iter().any(|header| line.trim_start_matches('#') == header))
        };
        let missing: Vec<_> = reader.keys.iter().filter(|key| !stands(key)).collect();
        assert!(reader.keys.len() > 30 && missing.is_empty(), "{missing:?}");
    }
}
