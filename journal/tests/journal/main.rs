//! The journal as its users see it, with a real SQLite file and a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]
#![expect(clippy::vec_box, reason = "records are handed over in boxes")]

#[path = "../support/postgres.rs"]
mod postgres;

mod accounts;
mod bodies;
mod columns;
mod erase;
mod full_disk;
mod gaps;
mod harness;
mod keys;
mod killed;
mod left_queue;
mod links;
mod reader;
mod records;
mod refusals;
mod retention;
mod rollups;
mod samples;
mod scale_out;
mod schema;
mod shipping;
mod trouble;
mod upgrade;
mod usage;
mod writer;
