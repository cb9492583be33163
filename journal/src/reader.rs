//! Past calls, and what processes used, from whichever store there is, while the proxy runs or when it does not.
//!
//! Reads only: a SQLite file is opened read-only, PostgreSQL is read in read-only transactions with a limit of
//! time, over connections of its own, so that no page can hold the shipper up.

use crate::{
    body::{self, SealedBody},
    columns::{COLUMNS, Kind, TABLE},
    filter::{CallFilter, Query},
    postgres,
    postgres_url::PostgresUrl,
    rollup::{self, Rollup, RollupQuery},
    row::{Cursor, Row},
    sample::{self, StoredSample},
    sqlite::{self, OpenedReader},
    tls::TlsError,
    value::Value,
};
use deadpool_postgres::Pool;
use mcpmeter_observer::{CallId, Timestamp};
use rusqlite::{Connection, params_from_iter};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::task::spawn_blocking;
use tokio_postgres::{
    IsolationLevel,
    types::{ToSql, Type},
};

/// Connections to PostgreSQL for all readers that share one [`Reader`].
const POOL: usize = 4;
/// Open connections to the SQLite file that are kept for the next question.
const IDLE: usize = 4;
/// Samples in one answer.
const MOST_SAMPLES: u32 = 100_000;
/// A question that takes longer is given up by PostgreSQL.
const LIMIT: &str = "set local statement_timeout = '10s'";

/// Reads past calls; cheap to clone.
#[derive(Clone)]
pub struct Reader {
    store: Store,
}

#[derive(Clone)]
enum Store {
    Sqlite { file: PathBuf, idle: Arc<Mutex<Vec<OpenedReader>>> },
    Postgres { pool: Pool },
}

/// Why past calls could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The SQLite file is not there, or not readable, or not ours.
    #[error("cannot read {}", .file.display())]
    Sqlite {
        /// The file.
        file: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The SQLite file is of another version of this program.
    #[error(
        "{} is of {} version of mcpmeter: {}",
        .file.display(),
        if sqlite::is_earlier(*.format) { "an earlier" } else { "a newer" },
        if sqlite::is_earlier(*.format) { "start `mcpmeter serve` on it once" } else { "update this one" }
    )]
    OtherVersion {
        /// The file.
        file: PathBuf,
        /// The format of its tables.
        format: i64,
    },
    /// No connection to PostgreSQL.
    #[error("cannot connect to PostgreSQL")]
    Connect(#[from] deadpool_postgres::PoolError),
    /// PostgreSQL refused the question.
    #[error("cannot read from PostgreSQL")]
    Postgres(#[from] tokio_postgres::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The thread that read the file panicked.
    #[error("the reading thread panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Reader {
    /// Reads the embedded store in this file, which has to exist.
    pub fn sqlite(file: &Path) -> Result<Self, ReadError> {
        let file = file.to_owned();
        match OpenedReader::open(&file) {
            Ok(open) => {
                if let Some(format) = sqlite::foreign_format(&open.connection) {
                    return Err(ReadError::OtherVersion { file, format });
                }
                let idle = Arc::new(Mutex::new(vec![open]));
                Ok(Self { store: Store::Sqlite { file, idle } })
            }
            Err(source) => Err(ReadError::Sqlite { file, source }),
        }
    }

    /// Reads a PostgreSQL database; connects when it is first asked.
    pub fn postgres(url: &PostgresUrl) -> Result<Self, ReadError> {
        Ok(Self { store: Store::Postgres { pool: postgres::pool(url, POOL)? } })
    }

    /// The newest calls that the filter wants, newest first, at most `limit`. The next page is what lies before
    /// the [`Row::cursor`] of the last row; calls that come in between neither repeat nor hide a row.
    pub async fn calls(
        &self,
        filter: &CallFilter,
        before: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<Row>, ReadError> {
        let query = filter.query(&self.table(TABLE), before, limit);
        let kinds = COLUMNS.iter().map(|column| column.kind).collect();
        let rows = self.ask(query, kinds).await?;
        Ok(rows.into_iter().map(Row::from_values).collect())
    }

    /// What the processes of the instance used (of every instance without one), from `from` to before `to`, oldest
    /// first, at most 100,000 samples: the rest lies after the last of them.
    pub async fn process_samples(
        &self,
        instance: Option<&str>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<StoredSample>, ReadError> {
        let mut parameters = vec![(Value::Time(from), Kind::Timestamp), (Value::Time(to), Kind::Timestamp)];
        parameters.extend(instance.map(|instance| (Value::Text(instance.to_owned().into()), Kind::Text)));
        let sql = sample_query(&self.table(sample::TABLE), instance.is_some());
        let kinds = sample::COLUMNS.map(|(_, kind)| kind);
        let rows = self.ask(Query { sql, parameters }, kinds.to_vec()).await?;
        Ok(rows.iter().filter_map(|values| StoredSample::from_values(values)).collect())
    }

    /// What is kept of the messages of a call, the request first; nothing for a call whose bodies are not kept.
    pub async fn bodies(&self, call: CallId) -> Result<Vec<SealedBody>, ReadError> {
        match &self.store {
            Store::Sqlite { file, idle } => {
                let (file, idle) = (file.clone(), Arc::clone(idle));
                spawn_blocking(move || {
                    ask_sqlite(&file, &idle, |connection| body::ask_sqlite(connection, call.0))
                        .map_err(|source| ReadError::Sqlite { file, source })
                })
                .await?
            }
            Store::Postgres { pool } => {
                let mut connection = pool.get().await?;
                let transaction = connection.build_transaction().read_only(true).start().await?;
                transaction.batch_execute(LIMIT).await?;
                let found = body::ask_postgres(&transaction, call.0).await?;
                transaction.commit().await?;
                Ok(found)
            }
        }
    }

    /// What the rollups say, see [`RollupQuery`].
    pub async fn rollup(&self, query: &RollupQuery) -> Result<Rollup, ReadError> {
        match &self.store {
            Store::Sqlite { file, idle } => {
                let (file, idle, query) = (file.clone(), Arc::clone(idle), query.clone());
                spawn_blocking(move || {
                    ask_sqlite(&file, &idle, |connection| rollup::ask_sqlite(connection, &query))
                        .map_err(|source| ReadError::Sqlite { file, source })
                })
                .await?
            }
            Store::Postgres { pool } => {
                let mut connection = pool.get().await?;
                // One snapshot for all statements: between two of them a row may be rolled up.
                let snapshot = connection.build_transaction().read_only(true);
                let snapshot = snapshot.isolation_level(IsolationLevel::RepeatableRead).start().await?;
                snapshot.batch_execute(LIMIT).await?;
                let answer = rollup::ask_postgres(&snapshot, query).await?;
                snapshot.commit().await?;
                Ok(answer)
            }
        }
    }

    /// A table's name in this store.
    fn table(&self, table: &str) -> String {
        match &self.store {
            Store::Sqlite { .. } => table.to_owned(),
            Store::Postgres { .. } => format!("mcpmeter.{table}"),
        }
    }

    /// The rows that answer the query, whose columns are of these kinds.
    async fn ask(&self, query: Query, kinds: Vec<Kind>) -> Result<Vec<Vec<Value<'static>>>, ReadError> {
        match &self.store {
            Store::Sqlite { file, idle } => {
                let (file, idle) = (file.clone(), Arc::clone(idle));
                spawn_blocking(move || {
                    ask_sqlite(&file, &idle, |connection| read_rows(connection, &query, &kinds))
                        .map_err(|source| ReadError::Sqlite { file, source })
                })
                .await?
            }
            Store::Postgres { pool } => ask_postgres(pool, &query).await,
        }
    }
}

/// The question for samples, of a table in either store: `$1` is the first instant, `$2` the one after the last, `$3` the
/// instance.
fn sample_query(table: &str, of_one: bool) -> String {
    let (names, instance) = (&*sample::NAMES, if of_one { " and instance_id = $3" } else { "" });
    format!(
        "select {names} from {table} where at >= $1 and at < $2{instance}
         order by at, instance_id, spool_id limit {MOST_SAMPLES}"
    )
}

fn ask_sqlite<T>(
    file: &Path,
    idle: &Mutex<Vec<OpenedReader>>,
    question: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let current = kept.filter(|open| open.is_current(file));
    let mut open = current.map_or_else(|| OpenedReader::open(file), Ok)?;
    let answer = question(&mut open.connection)?;
    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
    if idle.len() < IDLE {
        idle.push(open);
    }
    Ok(answer)
}

fn read_rows(
    connection: &Connection,
    query: &Query,
    kinds: &[Kind],
) -> rusqlite::Result<Vec<Vec<Value<'static>>>> {
    let mut statement = connection.prepare_cached(&query.sql)?;
    let parameters = params_from_iter(query.parameters.iter().map(|(value, _)| value));
    let rows = statement.query_map(parameters, |row| {
        kinds.iter().enumerate().map(|(place, kind)| Value::of_row(*kind, row, place)).collect()
    })?;
    rows.collect()
}

async fn ask_postgres(pool: &Pool, query: &Query) -> Result<Vec<Vec<Value<'static>>>, ReadError> {
    let mut connection = pool.get().await?;
    let transaction = connection.build_transaction().read_only(true).start().await?;
    transaction.batch_execute(LIMIT).await?;
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> = query
        .parameters
        .iter()
        .map(|(value, kind)| (value as &(dyn ToSql + Sync), kind.postgres_type()))
        .collect();
    let rows = transaction.query_typed(&query.sql, &parameters).await?;
    transaction.commit().await?;
    let read = |row: &tokio_postgres::Row| (0..row.len()).map(|place| row.try_get(place)).collect();
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}
