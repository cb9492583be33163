//! Connections to PostgreSQL.
//!
//! Everything here and in the files that use it works through PgBouncer in transaction mode: no session
//! settings (only `set local`), no session locks, every name with its schema, and no prepared statement that
//! outlives its transaction (`query_typed` uses the unnamed one, `copy_in` closes its own).

use crate::{
    postgres_url::PostgresUrl,
    tls::{self, TlsError},
};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use std::time::Duration;

/// How long to wait for a free connection, or for a new one to be made.
const PATIENCE: Duration = Duration::from_secs(15);

/// A pool of at most `size` connections. Makes none yet, hence cannot fail for want of a server.
pub(crate) fn pool(url: &PostgresUrl, size: usize) -> Result<Pool, TlsError> {
    let connector = tls::connector(&url.encryption)?;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(url.config.clone(), connector, recycling);
    let pool = Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(PATIENCE))
        .create_timeout(Some(PATIENCE))
        .runtime(Runtime::Tokio1)
        .build()
        .expect("a pool with a runtime can be built");
    Ok(pool)
}

/// Takes the connection out of its pool and closes it: after an error nobody knows what state it is in.
pub(crate) fn discard(connection: Object) {
    drop(Object::take(connection));
}
