//! The rows that must tell of every call: where they are, whether all have arrived, and how many there are.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ContenderError, Store};
use crate::metrics::count_waiting;
use crate::postgres::{Cluster, Stop};

/// One store, not used before.
pub(super) enum Books {
    /// A file.
    Sqlite(PathBuf),
    /// A database of its own in the cluster of the run, which the proxy with this admin port ships its rows to.
    Postgres { cluster: Arc<Cluster>, url: String, admin: SocketAddr, server: PathBuf },
}

impl Books {
    /// An empty one, with its file in `directory`, for the proxy with this admin port.
    pub(super) fn open(store: Store, directory: &Path, admin: SocketAddr) -> Self {
        match store {
            Store::Sqlite => Self::Sqlite(directory.join("bench.db")),
            Store::Postgres => {
                let cluster = Cluster::shared();
                let url = cluster.database();
                let data = cluster.query(&url, "show data_directory");
                Self::Postgres { cluster, url, admin, server: Path::new(&data).join("postmaster.pid") }
            }
        }
    }

    /// As the configuration names it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Sqlite(file) => format!("sqlite:{}", file.display()),
            Self::Postgres { url, .. } => url.clone(),
        }
    }

    /// The server that has the rows, where that is a process of its own. Its first line is its process id.
    pub(super) fn server(&self) -> Option<u32> {
        let Self::Postgres { server, .. } = self else { return None };
        fs::read_to_string(server).ok()?.lines().next()?.trim().parse().ok()
    }

    /// The records that the running proxy has still to bring to another process.
    pub(super) fn waiting(&self) -> io::Result<u64> {
        match self {
            Self::Sqlite(_) => Ok(0),
            Self::Postgres { admin, .. } => count_waiting(*admin),
        }
    }

    /// Stops the server that has the rows.
    pub(super) fn halt(&self) {
        if let Self::Postgres { cluster, .. } = self {
            cluster.stop(Stop::Fast);
        }
    }

    /// Starts it again.
    pub(super) fn resume(&self) {
        if let Self::Postgres { cluster, .. } = self {
            cluster.start();
        }
    }

    /// The rows in it, once its owner has ended. Room is made for the next one: a run has many.
    pub(super) fn close(self) -> Result<u64, ContenderError> {
        match self {
            Self::Sqlite(file) => Ok(count_rows(&file)?),
            Self::Postgres { cluster, url, .. } => {
                // Tables are made for the first rows.
                let made =
                    cluster.query(&url, "select to_regclass('mcpmeter.mcp_server_request_log') is not null");
                let count = match made.as_str() {
                    "t" => cluster.query(&url, "select count(*) from mcpmeter.mcp_server_request_log"),
                    _ => "0".to_owned(),
                };
                let name = url.rsplit('/').next().expect("it ends with the database");
                cluster.query("postgres", &format!("drop database {name} with (force)"));
                Ok(count.parse().expect("a count is a number"))
            }
        }
    }
}

fn count_rows(file: &Path) -> rusqlite::Result<u64> {
    // Not read-only: whoever opens it after an unclean end must be able to replay its write-ahead log.
    let store = rusqlite::Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let rows: i64 = store.query_row("select count(*) from mcp_server_request_log", [], |row| row.get(0))?;
    Ok(u64::try_from(rows).expect("a count is not negative"))
}

impl std::fmt::Debug for Books {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Books({})", self.url())
    }
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
