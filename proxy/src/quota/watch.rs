//! Looks what has been used, every few seconds, from the store. Nothing on the way of a request waits for it.

use super::{Quotas, dimension_of, period};
use crate::clock::Clock;
use mcpmeter_config::StoreUrl;
use mcpmeter_journal::{BadPostgresUrl, Journal, ReadError, Reader, chain};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// The shortest time between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// A look may take so large a part of the time, so that a large store is not busy with nothing else.
const SHARE: u32 = 20;
/// How long a look waits for what has ended to be stored. Then the store is behind, and would tell too little.
const SETTLING: Duration = Duration::from_secs(4);
/// How often it is asked whether that is so.
const GLANCE: Duration = Duration::from_millis(50);

/// Asks the store.
pub(crate) struct Looker {
    url: StoreUrl,
    reader: Option<Reader>,
    journal: Journal,
    clock: Clock,
    failing: bool,
}

/// Why a look told nothing. What is known already stays in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// The store cannot be read.
    #[error("cannot read what has been used")]
    Read(#[from] ReadError),
    /// The store's URL cannot be used.
    #[error("cannot use store.url")]
    Url(#[from] BadPostgresUrl),
    /// Calls that have ended are not stored yet.
    #[error("the store is behind: calls that have ended wait for it")]
    Behind,
}

/// Looks until `stop`; `current` gives the quotas in force, which may change.
pub(crate) async fn watch(
    mut looker: Looker,
    current: impl Fn() -> Arc<Quotas>,
    stop: impl Future<Output = ()>,
) {
    let looking = async {
        loop {
            let quotas = current();
            let pause = if quotas.quotas.is_empty() { PERIOD } else { looker.look_and_tell(&quotas).await };
            drop(quotas);
            sleep(pause).await;
        }
    };
    tokio::select! {
        () = stop => {}
        () = looking => {}
    }
}

impl Looker {
    /// `journal` is the one that this process writes, to `url`.
    pub(crate) fn new(url: &StoreUrl, journal: Journal, clock: Clock) -> Self {
        Self { url: url.clone(), reader: None, journal, clock, failing: false }
    }

    /// Looks, tells the world if it is news whether that worked, and says how long to wait for the next look.
    async fn look_and_tell(&mut self, quotas: &Quotas) -> Duration {
        let took = self.look(quotas).await;
        match &took {
            Err(error) if !self.failing => {
                warn!(error = chain(error), "quotas go on with what was known, and with what is called here");
            }
            Ok(_) if self.failing => info!("quotas know again what is stored"),
            _ => {}
        }
        self.failing = took.is_err();
        PERIOD.max(took.unwrap_or_default() * (SHARE - 1))
    }

    /// Looks once, and says how long the store took.
    pub(crate) async fn look(&mut self, quotas: &Quotas) -> Result<Duration, LookError> {
        for quota in &quotas.quotas {
            quota.count.begin_look();
        }
        let accounts = self.journal.accounts();
        let ended = accounts.finished + accounts.recovered;
        if timeout(SETTLING, self.is_settled(ended)).await.is_err() {
            return Err(LookError::Behind);
        }
        let began = Instant::now();
        let now = self.clock.timestamp();
        let reader = self.reader()?;
        for quota in &quotas.quotas {
            let range = period::of(quota.config.period, now);
            let calls = reader.calls_made(dimension_of(quota.config.per), range.start, range.end).await?;
            quota.count.learn(range, calls);
        }
        Ok(began.elapsed())
    }

    /// Returns once as many calls as these are stored, or lost for good: the first ones are first. While calls are lost that
    /// is too early, by as many as are lost meanwhile; the next look knows them.
    async fn is_settled(&self, ended: u64) {
        loop {
            let accounts = self.journal.accounts();
            if accounts.stored + accounts.lost_total() >= ended {
                return;
            }
            sleep(GLANCE).await;
        }
    }

    fn reader(&mut self) -> Result<Reader, LookError> {
        if let Some(reader) = &self.reader {
            return Ok(reader.clone());
        }
        let reader = match &self.url {
            StoreUrl::Sqlite(file) => Reader::sqlite(file)?,
            StoreUrl::Postgres(url) => Reader::postgres(&url.expose().parse()?)?,
        };
        Ok(self.reader.insert(reader).clone())
    }
}
