//! How far recording is behind, and how long the outbox has room: looked up every two seconds from the files, on a
//! thread that may block, so that whoever reads the metrics never waits for a disk. Changes nothing.

use crate::metrics::Gauges;
use arc_swap::ArcSwapOption;
use mcpmeter_journal::{Accounts, Backlog};
use mcpmeter_observer::Timestamp;
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::time::{MissedTickBehavior, interval};

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// Over how many looks the growth of the outbox is taken: a minute.
const LOOKS: usize = 30;

/// What was last seen. With the embedded store there is no outbox, and nothing to see.
pub(crate) struct Lag {
    /// The outbox and its quota, if one is configured.
    outbox: Option<(PathBuf, Option<u64>)>,
    latest: ArcSwapOption<Seen>,
}

struct Seen {
    backlog: Backlog,
    /// Bytes per second, over the last minute at most.
    growth: f64,
}

impl Lag {
    pub(crate) fn new(outbox: Option<(PathBuf, Option<u64>)>) -> Self {
        Self { outbox, latest: ArcSwapOption::empty() }
    }

    /// Looks until `stop`.
    pub(crate) async fn watch(&self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = stop => {}
            () = self.look_for_ever() => {}
        }
    }

    async fn look_for_ever(&self) {
        let Some((file, max_bytes)) = self.outbox.clone() else { return };
        let mut looks = interval(PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sizes: VecDeque<(Instant, u64)> = VecDeque::with_capacity(LOOKS);
        loop {
            looks.tick().await;
            let file = file.clone();
            // Gaps are told by the counters of lost calls; they need not be read every time.
            let read = move || Backlog::read(&file, max_bytes, Timestamp(i64::MAX));
            // What cannot be read now is said by the journal, which has to write it.
            let Ok(Ok(backlog)) = tokio::task::spawn_blocking(read).await else { continue };
            if sizes.len() == LOOKS {
                sizes.pop_front();
            }
            sizes.push_back((Instant::now(), backlog.bytes));
            let growth = growth(&sizes);
            self.latest.store(Some(Arc::new(Seen { backlog, growth })));
        }
    }

    /// Puts what was last seen among the metrics.
    pub(crate) fn show(&self, accounts: &Accounts, gauges: &mut Gauges<'_>) {
        let seen = self.latest.load();
        let waiting = accounts.queued + accounts.outbox > 0;
        let oldest = seen.as_ref().filter(|_| waiting).and_then(|seen| seen.backlog.oldest);
        gauges.show_seconds(
            "log_lag",
            "Age of the oldest finished call that is not in the store; 0 without one",
            behind(oldest.map(|(_, completed)| completed), accounts),
        );
        let Some(seen) = seen.as_ref() else { return };
        let Backlog { bytes, max_bytes, set_aside, .. } = &seen.backlog;
        gauges.show_seconds(
            "log_outbox_oldest_age",
            "Time since the oldest call in the outbox began; 0 without one",
            oldest.map_or(0.0, |(began, _)| age(began)),
        );
        gauges.show("log_outbox_bytes", "Bytes of the outbox on the disk", *bytes);
        gauges.show("log_outbox_max_bytes", "Bytes beyond which the newest calls are lost", *max_bytes);
        gauges.show(
            "log_set_aside_files",
            "Damaged files that lie beside the outbox",
            set_aside.len() as u64,
        );
        if seen.growth > 0.0 && waiting {
            let left = max_bytes.saturating_sub(*bytes) as f64;
            gauges.show_seconds(
                "log_disk_full_forecast",
                "Time until the outbox is full if it goes on growing as in the last minute; absent if it does not grow",
                left / seen.growth,
            );
        }
    }
}

/// Seconds since the oldest call was finished that waits for PostgreSQL, or for the disk.
fn behind(oldest_in_outbox: Option<Timestamp>, accounts: &Accounts) -> f64 {
    oldest_in_outbox.into_iter().chain(accounts.queued_since).min().map_or(0.0, age)
}

fn age(since: Timestamp) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs_f64() - since.0 as f64 / 1e6).max(0.0)
}

/// Bytes per second from the first to the last look.
fn growth(sizes: &VecDeque<(Instant, u64)>) -> f64 {
    match (sizes.front(), sizes.back()) {
        (Some((first, before)), Some((last, after))) if last > first => {
            (*after as f64 - *before as f64) / last.duration_since(*first).as_secs_f64()
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_takes_nothing_is_a_lag_with_and_without_an_outbox() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
        let ago = |seconds: i64| Timestamp(i64::try_from(now).expect("before 290,000") - seconds * 1_000_000);
        let mut accounts = Accounts::default();
        assert_eq!(behind(None, &accounts), 0.0);
        accounts.queued_since = Some(ago(60));
        let lags = [None, Some(ago(10)), Some(ago(3600))].map(|oldest| behind(oldest, &accounts));
        let expected = [60.0, 60.0, 3600.0];
        assert!(
            lags.iter().zip(expected).all(|(lag, least)| (least..least + 30.0).contains(lag)),
            "{lags:?}"
        );
    }

    #[test]
    fn growth_is_taken_over_all_looks_and_may_be_negative() {
        let start = Instant::now();
        let at = |seconds, bytes| (start + Duration::from_secs(seconds), bytes);
        assert_eq!(growth(&[at(0, 100)].into()), 0.0);
        assert_eq!(growth(&[at(0, 100), at(2, 900), at(4, 500)].into()), 100.0);
        assert_eq!(growth(&[at(0, 500), at(4, 100)].into()), -100.0);
    }
}
