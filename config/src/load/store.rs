//! `[store]`.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::found::{Found, Raw};
use super::secret::read_secret;
use super::section::Section;
use crate::{Problem, Secret, Store, StoreUrl};

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// Ten minutes: supervisors give up sooner, and the outbox keeps the rest in any case.
const MAX_FLUSH_TIMEOUT_MS: u64 = 600_000;
/// A century.
const MAX_DAYS: u64 = 36_500;
/// A petabyte.
const MAX_MIB: u64 = 1 << 30;

pub(super) fn read_store(root: &mut Section<'_, '_>) -> Store {
    let default = Store::default();
    // Defaults are paths too, and start where those in the file do.
    let folder = root.folder();
    let mut section = root.section("store");
    let store = Store {
        url: section.read("url", decode_url).valid().unwrap_or_else(|| in_folder(default.url, folder)),
        outbox: section.path("outbox").unwrap_or_else(|| folder.join(default.outbox)),
        migrate: section.boolean("migrate", default.migrate),
        queue_mib: section.integer("queue_mib", default.queue_mib, 1..=4_096),
        queue_directory: section.path("queue_directory").unwrap_or(default.queue_directory),
        outbox_max_mib: section.read("outbox_max_mib", decode_size).valid(),
        retention_days: section.integer("retention_days", default.retention_days, 0..=MAX_DAYS),
        compress_after_days: section.integer(
            "compress_after_days",
            default.compress_after_days,
            0..=MAX_DAYS,
        ),
        sqlite_max_mib: section.integer("sqlite_max_mib", default.sqlite_max_mib, 0..=MAX_MIB),
        flush_timeout_ms: section.integer(
            "flush_timeout_ms",
            default.flush_timeout_ms,
            0..=MAX_FLUSH_TIMEOUT_MS,
        ),
    };
    section.finish();
    store
}

/// Whether this is meant as a PostgreSQL URL.
pub(super) fn is_postgres(url: &str) -> bool {
    SCHEMES.iter().any(|scheme| url.starts_with(scheme))
}

fn in_folder(url: StoreUrl, folder: &Path) -> StoreUrl {
    match url {
        StoreUrl::Sqlite(file) => StoreUrl::Sqlite(folder.join(file)),
        postgres @ StoreUrl::Postgres(_) => postgres,
    }
}

fn decode_size(found: &Found<'_>) -> Result<u32, Problem> {
    Ok(u32::try_from(found.as_integer(&(16..=MAX_MIB))?).unwrap_or(u32::MAX))
}

/// No message here repeats the URL, which may hold a password.
fn decode_url(found: &Found<'_>) -> Result<StoreUrl, Problem> {
    let url = match &found.raw {
        Raw::Toml(DeValue::Table(table)) => read_secret(found, table)?,
        Raw::Toml(DeValue::String(_)) | Raw::Text(_) => found.as_text()?.to_owned(),
        Raw::Toml(_) => return Err(found.expected("a string, { env = \"NAME\" } or { file = \"path\" }")),
    };
    if let Some(scheme) = SCHEMES.iter().find(|scheme| url.starts_with(**scheme)) {
        return parse_postgres(&url, scheme);
    }
    let Some(file) = url.strip_prefix("sqlite:") else {
        return Err(invalid("it is neither a sqlite nor a postgres URL")
            .label("unknown kind of database")
            .help("write \"sqlite:mcpmeter.db\" or \"postgres://user@host/database\""));
    };
    Ok(StoreUrl::Sqlite(found.base().join(parse_sqlite(file)?)))
}

fn parse_postgres(url: &str, scheme: &str) -> Result<StoreUrl, Problem> {
    let rest = &url[scheme.len()..];
    if rest.is_empty() || rest.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return Err(invalid("it is not a URL").label(if rest.is_empty() {
            "no host"
        } else {
            "white space"
        }));
    }
    Ok(StoreUrl::Postgres(Secret::new(url)))
}

/// What other programs write after `sqlite:` and we would take for the name of a file is refused.
fn parse_sqlite(file: &str) -> Result<PathBuf, Problem> {
    let file = file.strip_prefix("//").unwrap_or(file);
    let problem = match file {
        "" => invalid("it names no file").label("no file"),
        ":memory:" => invalid("records must outlive the process").label("not a file"),
        _ if file.contains('?') => invalid("it has options, and there are none").label("has a `?`"),
        _ => return Ok(PathBuf::from(file)),
    };
    Err(problem.help("write \"sqlite:mcpmeter.db\""))
}

/// `{ env = "NAME" }` or `{ file = "path" }`, where a file may end with one line break.
fn invalid(message: &str) -> Problem {
    Problem::new("value-invalid", message)
}
