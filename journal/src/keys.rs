//! The keys by which callers are known, in the store, so that all proxies of one store know the same ones: made, listed,
//! revoked, given another secret, and what has changed since somebody last looked.
//!
//! ```text
//! mcpmeter keys ──▶ api_key ──▶ changes_since, every second, in every proxy
//!                      ▲                          │
//!                      └─────── touch, now and then
//! ```
//!
//! Nobody here has ever seen a secret: of one there is its SHA-256 ([`SecretHash`]). Changes are numbered; the number is
//! raised in a row that stays locked until the change is committed, so that no reader sees one without those before it.
//! No retention deletes keys, and nothing here waits for the journal's writer, nor keeps it waiting for more than a few
//! milliseconds.

mod error;
mod hash;
mod postgres;
mod sqlite;
mod statement;

pub use error::KeyError;
pub use hash::SecretHash;
pub(crate) use statement::{REVISION, SAVED, TABLE, sqlite_tables};

use crate::{columns::Kind, postgres_url::PostgresUrl, tls::TlsError, value::Value};
use mcpmeter_observer::{Text, Timestamp};
use std::{path::Path, sync::Arc, time::Duration};

/// Keys in one answer of [`KeyStore::changes_since`].
const PAGE: usize = 5_000;
/// Uses noted in one transaction: a few milliseconds.
const USES: usize = 500;
/// Characters that the beginning of an id must have to stand for it: `key_` and four more. With fewer, a slip of the
/// finger could mean somebody's key.
const LEAST_OF_ID: usize = 8;

/// Stands in the place of the user of a key that was [forgotten](KeyStore::forget).
pub const FORGOTTEN: &str = "forgotten";

/// A key as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The public id, which rows of calls have in `api_key_id`. It stays the same when the secret is exchanged.
    pub id: Text,
    /// What its secret must have as SHA-256.
    pub hash: SecretHash,
    /// The secret before, while it is still accepted.
    pub previous: Option<PreviousSecret>,
    /// What its owner calls it.
    pub name: Option<Text>,
    /// Whose calls are made with it.
    pub user_id: Text,
    /// The organisation of that user.
    pub organization_id: Option<Text>,
    /// The routes it is good for: names, in which `*` stands for any characters; empty for all of them.
    pub routes: Vec<Text>,
    /// The tools it may call, in the same way.
    pub tools: Vec<Text>,
    /// How many calls a minute it may make; `None` for any number.
    pub rate_per_minute: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// When a proxy has last accepted it, to the minute or so.
    pub last_used_at: Option<Timestamp>,
}

/// The secret that a key had before its present one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousSecret {
    /// Its SHA-256.
    pub hash: SecretHash,
    /// Until when it is accepted.
    pub valid_until: Timestamp,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// What to ask for next time.
    pub revision: i64,
    /// The keys that are new or have changed, as they are now.
    pub keys: Vec<ApiKey>,
    /// The store has fewer changes than were asked for: it was restored from a backup, or begun anew. These keys are the
    /// first of all that there are; those known before count no more.
    pub starts_over: bool,
    /// There is more of it: ask again at once.
    pub has_more: bool,
}

/// The keys in a store; cheap to clone. Nothing is opened before it is asked for something.
#[derive(Clone)]
pub struct KeyStore {
    store: Store,
}

#[derive(Clone)]
enum Store {
    Sqlite(Arc<sqlite::KeyFile>),
    Postgres(Arc<postgres::KeyDatabase>),
}

/// What a statement is given, in the order of its places.
type Parameters = Vec<(Value<'static>, Kind)>;

/// Changes a key, or refuses to; says whether anything is to be written.
type Change = Box<dyn FnOnce(&mut ApiKey) -> Result<bool, KeyError> + Send>;

impl KeyStore {
    /// The keys in this SQLite file, whether or not a proxy has it open.
    pub fn sqlite(file: &Path) -> Self {
        Self { store: Store::Sqlite(Arc::new(sqlite::KeyFile::new(file))) }
    }

    /// The keys in a PostgreSQL database.
    pub fn postgres(url: &PostgresUrl) -> Result<Self, TlsError> {
        Ok(Self { store: Store::Postgres(Arc::new(postgres::KeyDatabase::new(url)?)) })
    }

    /// Stores a new key, durably. A SQLite file is made if it is not there.
    pub async fn create(&self, key: ApiKey) -> Result<(), KeyError> {
        match &self.store {
            Store::Sqlite(file) => file.insert(key).await,
            Store::Postgres(database) => database.insert(&key).await,
        }
    }

    /// All keys, the newest first, also those that are refused.
    pub async fn list(&self) -> Result<Vec<ApiKey>, KeyError> {
        let keys = statement::read_keys(self.read(statement::list(self.schema()), Vec::new()).await?)?;
        Ok(keys.into_iter().map(|(key, _)| key).collect())
    }

    /// The key with this id, or the only one whose id begins so.
    pub async fn find(&self, id: &str) -> Result<ApiKey, KeyError> {
        check_length(id)?;
        let given = vec![statement::text(id.to_owned())];
        let keys = statement::read_keys(self.read(statement::matching(self.schema()), given).await?)?;
        only(id, keys.into_iter().map(|(key, _)| key).collect())
    }

    /// Revokes the key with this id, or the only one whose id begins so, and gives it as it is now. One that is revoked
    /// already stays so, since then.
    pub async fn revoke(&self, id: &str, now: Timestamp) -> Result<ApiKey, KeyError> {
        let revoke = move |key: &mut ApiKey| {
            let is_new = key.revoked_at.is_none();
            key.revoked_at = key.revoked_at.or(Some(now));
            Ok(is_new)
        };
        self.change(id, Box::new(revoke)).await
    }

    /// Revokes the key with this id and forgets whose it was, for whoever is erased.
    pub async fn forget(&self, id: &str, now: Timestamp) -> Result<ApiKey, KeyError> {
        let forget = move |key: &mut ApiKey| {
            key.revoked_at = key.revoked_at.or(Some(now));
            (key.name, key.user_id, key.organization_id) = (None, FORGOTTEN.into(), None);
            Ok(true)
        };
        self.change(id, Box::new(forget)).await
    }

    /// Gives the key another secret, and gives it as it is now. The id stays: rows of calls, limits and reports of before
    /// and after the exchange belong together, and the new secret has to be made for that id. The present secret is
    /// accepted for the time of grace, none for zero; one from an exchange before this one no more.
    pub async fn rotate(
        &self,
        id: &str,
        hash: SecretHash,
        grace: Duration,
        now: Timestamp,
    ) -> Result<ApiKey, KeyError> {
        let rotate = move |key: &mut ApiKey| {
            check_usable(key, now)?;
            let valid_until = now.plus_nanos(u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX));
            let former = std::mem::replace(&mut key.hash, hash);
            key.previous = (!grace.is_zero()).then_some(PreviousSecret { hash: former, valid_until });
            Ok(true)
        };
        self.change(id, Box::new(rotate)).await
    }

    /// What has changed since a revision that was read before; since 0 for everything.
    pub async fn changes_since(&self, revision: i64) -> Result<Changes, KeyError> {
        let there =
            match self.read(statement::revision(self.schema()), vec![]).await?.first().map(Vec::as_slice) {
                Some([Value::Int(there)]) => *there,
                _ => return Err(KeyError::Unreadable),
            };
        if there == revision {
            return Ok(Changes { revision, ..Changes::default() });
        }
        let starts_over = there < revision;
        let from = if starts_over { 0 } else { revision };
        let given = vec![(Value::Int(from), Kind::BigInt)];
        let keys = statement::read_keys(self.read(statement::changes(self.schema(), PAGE), given).await?)?;
        let has_more = keys.len() == PAGE;
        // The last number may have no key any more; and between the two questions more keys may have come, which are here
        // already. What lies behind a full page is still to be read.
        let last = keys.last().map_or(from, |(_, number)| *number);
        let revision = if has_more { last } else { last.max(there) };
        Ok(Changes { revision, keys: keys.into_iter().map(|(key, _)| key).collect(), starts_over, has_more })
    }

    /// Notes when keys were last used, unless a later use is known. In small transactions; no change in the sense of
    /// [`Self::changes_since`].
    pub async fn touch(&self, uses: &[(Text, Timestamp)]) -> Result<(), KeyError> {
        for some in uses.chunks(USES) {
            match &self.store {
                Store::Sqlite(file) => file.touch(some.to_vec()).await,
                Store::Postgres(database) => database.touch(some).await,
            }?;
        }
        Ok(())
    }

    async fn change(&self, id: &str, change: Change) -> Result<ApiKey, KeyError> {
        check_length(id)?;
        match &self.store {
            Store::Sqlite(file) => file.change(id.to_owned(), change).await,
            Store::Postgres(database) => database.change(id, change).await,
        }
    }

    async fn read(&self, sql: String, given: Parameters) -> Result<Vec<Vec<Value<'static>>>, KeyError> {
        match &self.store {
            Store::Sqlite(file) => file.read(sql, given).await,
            Store::Postgres(database) => database.read(&sql, &given).await,
        }
    }

    /// What stands before the names of tables.
    const fn schema(&self) -> &'static str {
        match &self.store {
            Store::Sqlite(_) => "",
            Store::Postgres(_) => "mcpmeter.",
        }
    }
}

fn check_length(id: &str) -> Result<(), KeyError> {
    if id.chars().count() < LEAST_OF_ID { Err(KeyError::TooShort { id: id.to_owned() }) } else { Ok(()) }
}

/// The key that is meant, of those whose ids begin so.
fn only(id: &str, mut keys: Vec<ApiKey>) -> Result<ApiKey, KeyError> {
    match keys.len() {
        0 => Err(KeyError::Unknown { id: id.to_owned() }),
        1 => Ok(keys.remove(0)),
        count => {
            let exact = keys.into_iter().find(|key| &*key.id == id);
            exact.ok_or_else(|| KeyError::Ambiguous { id: id.to_owned(), count })
        }
    }
}

/// A key that is refused gets no other secret: whoever wants to get in again asks for another key.
fn check_usable(key: &ApiKey, now: Timestamp) -> Result<(), KeyError> {
    match key {
        ApiKey { revoked_at: Some(at), .. } => Err(KeyError::Revoked { id: key.id.to_string(), at: *at }),
        ApiKey { expires_at: Some(at), .. } if *at <= now => {
            Err(KeyError::Expired { id: key.id.to_string(), at: *at })
        }
        _ => Ok(()),
    }
}
