//! mcpmeter with recording on, into its embedded store. The program is the one beside the bench's own, so that both come
//! from the same build.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{
    ContenderError, Identity, ROUTE, ROUTED_PATH, Running, Runtime, Variant, ask_program,
    credentials::{self, Presented},
};
use crate::connection::Target;
use crate::process::{Process, answers_ok, find_free_port, tethered};

pub(super) fn read_version() -> Result<String, ContenderError> {
    find_program().map(|(_, version)| version)
}

pub(super) fn start(
    upstream: SocketAddr,
    directory: &Path,
    variant: Variant,
) -> Result<Running, ContenderError> {
    let (program, _) = find_program()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, find_free_port()?));
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, find_free_port()?));
    let books = directory.join("bench.db");
    let file = directory.join("mcpmeter.toml");
    let Presented { identity, lines } = credentials::present(variant.identity, directory)?;
    let config = render_config(address, admin, upstream, &books, variant.runtime) + &identity;
    fs::write(&file, config)?;
    let mut command = tethered(&program)?;
    command.arg("serve").arg("-c").arg(file).current_dir(directory);
    // What the caller's environment says must not win over the file.
    let overriding =
        |name: &OsStr| name == "DATABASE_URL" || name.as_encoded_bytes().starts_with(b"MCPMETER_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| overriding(name)) {
        command.env_remove(name);
    }
    let credentials = match variant.identity {
        Some(Identity::ApiKey) => credentials::make_key(&program, directory)?,
        _ => lines,
    };
    let mut process = Process::start("mcpmeter", command, &directory.join("output"))?;
    process.wait_until(|| answers_ok(admin, "/readyz"))?;
    let target = Target { address, path: ROUTED_PATH, credentials };
    Ok(Running { target, process: Some(process), books: Some(books) })
}

/// The rows of a store whose owner has ended.
pub(super) fn count_rows(books: &Path) -> rusqlite::Result<u64> {
    // Not read-only: whoever opens it after an unclean end must be able to replay its write-ahead log.
    let store = rusqlite::Connection::open_with_flags(books, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let rows: i64 = store.query_row("select count(*) from mcp_server_request_log", [], |row| row.get(0))?;
    Ok(u64::try_from(rows).expect("a count is not negative"))
}

fn find_program() -> Result<(PathBuf, String), ContenderError> {
    let beside = std::env::current_exe()?.with_file_name("mcpmeter");
    ask_program(std::slice::from_ref(&beside), "--version").ok_or_else(|| ContenderError::Missing {
        program: "mcpmeter",
        advice: format!("build it into {}, or leave it out with --contenders", beside.display()),
    })
}

fn render_config(
    address: SocketAddr,
    admin: SocketAddr,
    upstream: SocketAddr,
    books: &Path,
    runtime: Option<Runtime>,
) -> String {
    let runtime = runtime.map(|runtime| format!("runtime = \"{}\"\n", runtime.word())).unwrap_or_default();
    let books = books.display();
    format!(
        r#"[proxy]
listen = "{address}"
{runtime}
[admin]
listen = "{admin}"

[store]
url = "sqlite:{books}"

[log]
level = "warn"

[[route]]
name = "{ROUTE}"
upstream = "http://{upstream}"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_also_when_they_are_still_in_the_write_ahead_log() {
        let directory = tempfile::tempdir().unwrap();
        let books = directory.path().join("bench.db");
        let writer = rusqlite::Connection::open(&books).unwrap();
        writer.pragma_update(None, "journal_mode", "wal").unwrap();
        writer.execute_batch("create table mcp_server_request_log (id); insert into mcp_server_request_log values (1), (2)").unwrap();
        assert_eq!(count_rows(&books).unwrap(), 2);
    }

    #[test]
    fn a_store_that_is_missing_is_an_error_and_not_no_rows() {
        let directory = tempfile::tempdir().unwrap();
        assert!(count_rows(&directory.path().join("bench.db")).is_err());
    }
}
