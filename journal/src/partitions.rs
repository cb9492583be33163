//! Day partitions, made before the rows that need them: from each batch's own days, and a week ahead.
//!
//! A row without a partition would land in the default partition, which must stay empty: one row of a day in
//! there and that day's partition can no longer be made.

use crate::{
    columns::Kind,
    outbox::Entry,
    value::{self, Value},
};
use mcpmeter_observer::Timestamp;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio_postgres::{Client, error::SqlState};
use tracing::error;

const DAY_US: i64 = 86_400_000_000;
/// The last day that has a name of eight digits: 9999-12-31.
const LAST_DAY: i64 = 2_932_896;
/// How far ahead partitions are made: so long may the maker be away.
pub(crate) const AHEAD_DAYS: i64 = 7;
/// How long what is known about partitions is believed; somebody may drop one.
const BELIEF: Duration = Duration::from_secs(60);

/// The days that have a partition, as far as is known. Days are counted from 1970-01-01, UTC.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    known: BTreeSet<i64>,
    learnt: Option<Instant>,
    /// Whether the last call asked for everything anew.
    fresh: bool,
}

impl Partitions {
    /// Makes sure that every record of the batch finds its partition. To be called outside a transaction, so
    /// that the locks it takes are held no longer than needed.
    pub(crate) async fn ensure(
        &mut self,
        client: &Client,
        batch: &[Entry],
    ) -> Result<(), tokio_postgres::Error> {
        let mut wanted: BTreeSet<_> = batch
            .iter()
            .filter_map(|entry| entry.record.as_ref().ok())
            .map(|record| record.created_at.0.div_euclid(DAY_US))
            .collect();
        self.fresh = self.learnt.is_none_or(|learnt| learnt.elapsed() > BELIEF);
        if self.fresh {
            self.known.clear();
            let today = today();
            wanted.extend(today..=today + AHEAD_DAYS);
        }
        // Retention drops old days at any moment, and a late row would land in the default partition.
        let yesterday = today() - 1;
        self.known.retain(|day| *day >= yesterday);
        wanted.retain(|day| (0..=LAST_DAY).contains(day) && !self.known.contains(day));
        for (first, last) in runs(&wanted) {
            make_run(client, first, last).await?;
        }
        self.known.extend(wanted);
        if self.fresh {
            self.learnt = Some(Instant::now());
        }
        Ok(())
    }

    /// PostgreSQL says that there is no partition for a row. True if that may be news, and asking again help.
    pub(crate) fn doubt(&mut self) -> bool {
        self.learnt = None;
        !self.fresh
    }
}

/// Makes the partitions of the days, without those that the default partition's rows make impossible: such
/// rows have company then, stored if not where they belong.
async fn make_run(client: &Client, first: i64, last: i64) -> Result<(), tokio_postgres::Error> {
    if make(client, first, last).await? {
        return Ok(());
    }
    for day in first..=last {
        if !make(client, day, day).await? {
            let day = value::rfc3339(Timestamp(day * DAY_US));
            error!(day, "rows in mcp_server_request_log_default keep this day's partition from being made");
        }
    }
    Ok(())
}

/// False if rows in the default partition are in the way.
async fn make(client: &Client, first: i64, last: i64) -> Result<bool, tokio_postgres::Error> {
    let [first, last] = [first, last].map(|day| Value::Time(Timestamp(day * DAY_US)));
    let (timestamp, sql) = (Kind::Timestamp.postgres_type(), "select mcpmeter.ensure_partitions($1, $2)");
    match client.query_typed(sql, &[(&first, timestamp.clone()), (&last, timestamp)]).await {
        Err(error) if error.code() == Some(&SqlState::CHECK_VIOLATION) => Ok(false),
        result => result.map(|_| true),
    }
}

/// Days that follow each other, joined into first and last, at most a year at a time.
fn runs(days: &BTreeSet<i64>) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for &day in days {
        match runs.last_mut() {
            Some((first, last)) if *last + 1 == day && day - *first < 365 => *last = day,
            _ => runs.push((day, day)),
        }
    }
    runs
}

fn today() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(seconds / 86_400).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_asked_for_in_runs_and_never_across_a_gap() {
        // A clock that was wrong for one call must not make a partition for every day since 1970.
        let days = BTreeSet::from([0, 20_513, 20_514, 20_515, 20_517]);
        assert_eq!(runs(&days), [(0, 0), (20_513, 20_515), (20_517, 20_517)]);
        assert_eq!(runs(&(0..400).collect()).len(), 2);
    }
}
