//! Retention in the SQLite store, of calls and bodies by age and by size, of samples of processes by age. Where the file is
//! too large, all bodies go before the first call does.
//!
//! The writer deletes between two batches, a few milliseconds' worth at a time, oldest rows first; then it gives
//! the pages back to the disk, also in small pieces. Rows of a 5-minute bucket go only when its rollup is done, and
//! then all of them go: what remains between two pieces is known to have been counted (`rollup::leaving`).
//!
//! The size is that of the whole file without the pages that lie free in it: rollups, which stay, are part of it.

use crate::{
    body::{OUTBOX as WAITING_BODIES, TABLE as BODIES},
    chain::chain,
    columns::TABLE,
    open::Retention,
    orders::{OrderError, Orders},
    rollup::{self, Span},
    sample::TABLE as SAMPLES,
};
use mcpmeter_observer::Timestamp;
use rusqlite::{OptionalExtension, Transaction};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::sleep;
use tracing::warn;

/// Rows in one piece of work: about 5 ms, with two indexes.
const PIECE: u32 = 250;
/// Pages given back in one piece of work: 1 MiB.
const PAGES: u32 = 128;
/// The writer's share between two pieces.
const PAUSE: Duration = Duration::from_millis(10);
const DAY_US: i64 = 86_400_000_000;

/// The store's file, through its writer.
pub(crate) struct File {
    orders: Orders,
    retention: Retention,
    /// That it does not work has been said.
    complained: bool,
}

impl File {
    pub(super) const fn new(orders: Orders, retention: Retention) -> Self {
        Self { orders, retention, complained: false }
    }

    /// Deletes what is too old or too much, until nothing is.
    pub(super) async fn round(&mut self) {
        let result = self.delete().await;
        self.tell(&result);
    }

    /// The same of an outbox, in which nothing but bodies has an age: a PostgreSQL that is away keeps none of them longer.
    pub(super) async fn round_of_waiting_bodies(&mut self) {
        let result = self.delete_waiting_bodies().await;
        self.tell(&result);
    }

    fn tell(&mut self, result: &Result<(), OrderError>) {
        if let Err(error) = result
            && !self.complained
        {
            warn!(error = chain(error), "cannot delete old calls or bodies of calls");
        }
        self.complained = result.is_err();
    }

    async fn delete_waiting_bodies(&self) -> Result<(), OrderError> {
        let oldest_body = before(self.retention.days_of_bodies());
        while self.orders.transact(move |work| delete_some_waiting(work, oldest_body)).await? {
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn delete(&self) -> Result<(), OrderError> {
        let oldest_sample = before(self.retention.sample_days());
        while self.orders.transact(move |work| delete_samples(work, oldest_sample)).await? {
            sleep(PAUSE).await;
        }
        let oldest_body = before(self.retention.days_of_bodies());
        let max_bytes = self.retention.sqlite_max_bytes;
        while self.orders.transact(move |work| delete_bodies(work, oldest_body, max_bytes)).await? {
            sleep(PAUSE).await;
        }
        let Retention { days, sqlite_max_bytes: max_bytes, .. } = self.retention;
        if days == 0 && max_bytes == 0 {
            return Ok(());
        }
        let oldest_kept = (days > 0).then(|| before(days));
        while self.orders.transact(move |work| delete_some(work, oldest_kept, max_bytes)).await? {
            sleep(PAUSE).await;
        }
        while self.orders.transact(give_back_some).await? {
            sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// Deletes some samples of processes that are too old; false if there are no more.
fn delete_samples(work: &Transaction<'_>, oldest_kept: Timestamp) -> rusqlite::Result<bool> {
    let delete = format!(
        "delete from {SAMPLES} where (instance_id, at, spool_id) in (
           select instance_id, at, spool_id from {SAMPLES} where at < ?1 order by at limit {PIECE})"
    );
    Ok(work.prepare_cached(&delete)?.execute([oldest_kept.0])? == PIECE as usize)
}

fn before(days: u32) -> Timestamp {
    Timestamp(now().0 - i64::from(days) * DAY_US)
}

/// Deletes bodies that are too old among those that have waited longest; false if not all of these are.
fn delete_some_waiting(work: &Transaction<'_>, oldest_kept: Timestamp) -> rusqlite::Result<bool> {
    let delete = format!(
        "delete from {WAITING_BODIES} where seq in (
           select seq from (select seq, created_at from {WAITING_BODIES} order by seq limit {PIECE})
           where created_at < ?1)"
    );
    Ok(work.prepare_cached(&delete)?.execute([oldest_kept.0])? == PIECE as usize)
}

/// Deletes some bodies that are too old or too much, the oldest first; false if there are no more.
fn delete_bodies(work: &Transaction<'_>, oldest_kept: Timestamp, max_bytes: u64) -> rusqlite::Result<bool> {
    let is_too_much = max_bytes > 0 && used_bytes(work)? > max_bytes;
    let before = if is_too_much { i64::MAX } else { oldest_kept.0 };
    let delete = format!(
        "delete from {BODIES} where rowid in (
           select rowid from {BODIES} where created_at < ?1 order by created_at limit {PIECE})"
    );
    Ok(work.prepare_cached(&delete)?.execute([before])? == PIECE as usize)
}

/// Deletes some rows of the oldest bucket if that is due; false if nothing is.
fn delete_some(
    work: &Transaction<'_>,
    oldest_kept: Option<Timestamp>,
    max_bytes: u64,
) -> rusqlite::Result<bool> {
    // What was begun is finished, whatever is due by now.
    let leaving = match rollup::leaving_sqlite(work)? {
        Some(start) => Some(start),
        None => let_oldest_go(work, oldest_kept, max_bytes)?,
    };
    let Some(start) = leaving else { return Ok(false) };
    rollup::delete_leaving_sqlite(work, start, PIECE)?;
    Ok(true)
}

/// The oldest bucket, if it is due and its cells could be kept.
fn let_oldest_go(
    work: &Transaction<'_>,
    oldest_kept: Option<Timestamp>,
    max_bytes: u64,
) -> rusqlite::Result<Option<Timestamp>> {
    let select = format!("select min(created_at) from {TABLE}");
    let oldest: Option<Option<i64>> = work.query_row(&select, [], |row| row.get(0)).optional()?;
    let Some(oldest) = oldest.flatten().map(Timestamp) else { return Ok(None) };
    let bucket = Span::FiveMinutes.start_of(oldest)..Span::FiveMinutes.end_of(oldest);
    let too_old = oldest_kept.is_some_and(|kept| bucket.end <= kept);
    let too_much = max_bytes > 0 && used_bytes(work)? > max_bytes;
    let goes = (too_old || too_much) && rollup::keep_sqlite(work, bucket.clone())?;
    Ok(goes.then_some(bucket.start))
}

/// Gives some free pages back, down to a twentieth of the file, which the next rows will want; false if there
/// is nothing to give.
fn give_back_some(work: &Transaction<'_>) -> rusqlite::Result<bool> {
    let (pages, free) = (pragma(work, "page_count")?, pragma(work, "freelist_count")?);
    if free <= (pages / 20).max(PAGES.into()) {
        return Ok(false);
    }
    // Every row of the answer is a page given back.
    let mut vacuum = work.prepare(&format!("pragma incremental_vacuum({PAGES})"))?;
    let mut steps = vacuum.query([])?;
    while steps.next()?.is_some() {}
    drop(steps);
    // A file that was made without the setting gives nothing back.
    Ok(pragma(work, "freelist_count")? < free)
}

fn used_bytes(work: &Transaction<'_>) -> rusqlite::Result<u64> {
    let used = pragma(work, "page_count")?.saturating_sub(pragma(work, "freelist_count")?);
    Ok(used * pragma(work, "page_size")?)
}

fn pragma(work: &Transaction<'_>, name: &str) -> rusqlite::Result<u64> {
    work.query_row(&format!("pragma {name}"), [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    Timestamp(i64::try_from(since).unwrap_or(i64::MAX))
}
