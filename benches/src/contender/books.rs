//! The rows that must tell of every call: where they are, and how many there are when their owner has ended.

use std::path::{Path, PathBuf};

use super::Store;
use crate::postgres::Cluster;

/// One store, not used before.
pub(super) enum Books {
    /// A file.
    Sqlite(PathBuf),
    /// A database in a cluster that ends with it.
    Postgres { cluster: Cluster, url: String },
}

impl Books {
    /// An empty one, with its file in `directory`.
    pub(super) fn open(store: Store, directory: &Path) -> Self {
        match store {
            Store::Sqlite => Self::Sqlite(directory.join("bench.db")),
            Store::Postgres => {
                let cluster = Cluster::new();
                let url = cluster.database();
                Self::Postgres { cluster, url }
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

    /// The rows in it.
    pub(super) fn count(&self) -> rusqlite::Result<u64> {
        match self {
            Self::Sqlite(file) => count_rows(file),
            Self::Postgres { cluster, url } => {
                let count = cluster.query(url, "select count(*) from mcpmeter.mcp_server_request_log");
                Ok(count.trim().parse().expect("a count is a number"))
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
