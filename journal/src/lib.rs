//! What mcpmeter remembers: from the finished call to the committed row.
//!
//! ```text
//! request path ──▶ queue ──▶ writer ──▶ outbox ──▶ shipper ──▶ PostgreSQL
//!              (shared mem.) (a thread) (SQLite)   (a task)
//!                              └─────▶ store (SQLite), where no PostgreSQL is configured
//! ```
//!
//! * `ring` is the queue: it takes a finished record without ever making the request wait, and outlives the
//!   process.
//! * `writer` makes records durable, a transaction every 100 ms; `recover` those that a killed process left.
//! * `corrupt` sets a damaged file aside; `quota` and `gap` bound and note what is lost.
//! * `outbox` keeps them until PostgreSQL certainly has them; `store` keeps them for good without one.
//! * `shipper` carries batches over; `shipment` is one batch and the reason why none is stored twice.
//! * `columns` is the one mapping from record to row; `reader` finds rows again.
//! * `keys` is by what callers are known: made by hand, read by every proxy.
//! * `usage` counts calls for quotas.
//! * `erase` removes or anonymises the calls of a person, everywhere.
//! * `body` keeps what was asked and answered, encrypted, where that is wanted; beside the calls and dropped before any
//!   of them.
//! * `sample` is what processes used, which travels beside the calls and is dropped before any of them.
//! * `accounts` knows at any moment where every record is.
//!
//! A call whose record was accepted is not lost by the death of the process. Once in the outbox it reaches
//! PostgreSQL exactly once: across outages of any length, the death of either process, and power cuts on disks
//! that tell the truth. A call that is not stored is
//! counted as lost, with the reason. Nothing in here alters a record, and nothing in here may slow a request.

mod accounts;
mod backlog;
mod backoff;
mod body;
mod chain;
mod columns;
mod corrupt;
mod erase;
mod file;
mod filter;
mod gap;
mod ground;
mod health;
mod inscribe;
mod journal;
mod keeper;
mod keys;
mod lock;
mod migrate;
mod open;
mod orders;
mod outbox;
mod outbox_reader;
mod partitions;
mod postgres;
mod postgres_url;
mod quarantine;
mod quota;
mod reader;
mod recover;
mod rest;
mod retention;
mod ring;
mod rollup;
mod row;
mod sample;
mod shipment;
mod shipper;
mod sqlite;
mod store;
mod survey;
mod tls;
mod trouble;
mod usage;
mod value;
mod writer;
mod writer_handle;

pub use accounts::{Accounts, LossReason};
pub use backlog::{Backlog, Gap, QueueFile};
pub use body::{BodyAccounts, BodyKey, BodyKeys, BodyLoss, OpenBodyError, SealedBody};
pub use chain::chain;
pub use columns::{COLUMNS, Column, Kind, TABLE};
pub use erase::{EraseError, EraseReport, Erasure, Leftover, Manner, Places, Whose, erase};
pub use filter::CallFilter;
pub use health::{Condition, Health};
pub use journal::Journal;
pub use keeper::Keeper;
pub use keys::{ApiKey, Changes, FORGOTTEN, KeyError, KeyStore, PreviousSecret, SecretHash};
pub use migrate::{MigrateError, Migration, SCHEMA_VERSION, migrate};
pub use open::{OpenError, Opened, Options, Retention, open};
pub use postgres_url::{BadPostgresUrl, PostgresUrl};
pub use reader::{ReadError, Reader};
pub use rollup::{Cell, Dimension, Histogram, Rollup, RollupQuery, Span, Subject, Sums};
pub use row::{BadCursor, Cursor, Row};
pub use sample::{ProcessSample, StoredSample};
pub use shipper::Shipper;
pub use survey::{Database, SurveyError};
pub use tls::TlsError;
pub use value::{Value, rfc3339};
pub use writer::OnTaken;
pub use writer_handle::{Unwritten, WriterHandle};
