//! How many calls may be made in how much time, and at a time: `[[limit]]`. Counted in this process alone and kept over
//! reloads; who is refused is told when to come again, and nobody ever waits.
//!
//! The arithmetic is GCRA, as `governor` does it: one instant per caller (`bucket`), no timers, bursts exact to the
//! nanosecond. A request that several limits apply to takes from all of them or from none. `governor` can test and take
//! in one step, for one limit; so every limit is first asked without taking, and then all are taken from. If another
//! request comes between and takes the last of one, what was taken from the others is given back, which GCRA does
//! exactly: the instant moves back as far as it was moved. So nobody who is refused costs others anything, and no two
//! locks are ever held at a time.
//!
//! Who lacks what a limit goes by (comes without a key, where it is per key) shares with all who lack it.

mod bucket;
mod limited;
mod of_keys;
mod scope;

pub(crate) use limited::{Limited, State};
pub(crate) use of_keys::KeyRates;

use crate::{clock::Clock, policy::Asked, subjects::Subjects};
use bucket::{Bucket, Held};
use governor::{clock::Clock as Time, nanos::Nanos};
use mcpmeter_config as config;
use scope::Scope;
use std::{sync::Arc, time::Duration};

/// The process's monotonic clock, as limits read it.
#[derive(Debug, Clone)]
pub(crate) struct Ticks(pub(crate) Clock);

impl Time for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.tick().0.into()
    }
}

/// The limits in force.
pub(crate) struct Limits<C: Time<Instant = Nanos> = Ticks> {
    limits: Vec<Arc<Limit<C>>>,
}

/// One limit, and how everybody stands with it.
struct Limit<C: Time<Instant = Nanos>> {
    config: config::Limit,
    scope: Scope,
    bucket: Option<Bucket<C>>,
    held: Arc<Subjects<Held>>,
}

/// A request's part of one limit.
struct Share<'l, C: Time<Instant = Nanos>> {
    limit: &'l Limit<C>,
    caller: u64,
    calls: u32,
}

/// Leave to go on. What runs at a time is counted until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    taken: Vec<Taken>,
    state: Option<State>,
}

/// What a request has taken of one limit.
#[derive(Debug)]
struct Taken {
    held: Arc<Subjects<Held>>,
    caller: u64,
    calls: u32,
    /// How many of them count as running.
    running: u32,
    /// What a call costs; nothing where there is no rate.
    interval: Duration,
}

impl<C: Time<Instant = Nanos> + Clone> Limits<C> {
    /// The limits of a configuration. Those that an earlier table has, unchanged but for their names or places, go on where
    /// they are; of those that have changed, everybody begins anew.
    pub(crate) fn build(wanted: &[config::Limit], earlier: Option<&Self>, clock: &C) -> Self {
        let mut known: Vec<&Arc<Limit<C>>> =
            earlier.map(|earlier| earlier.limits.iter().collect()).unwrap_or_default();
        let limits = wanted.iter().map(|wanted| {
            let place = known.iter().position(|known| is_same(&known.config, wanted));
            Arc::new(match place.map(|place| known.swap_remove(place)) {
                Some(known) => known.renamed(wanted),
                None => Limit::new(wanted, clock),
            })
        });
        Self { limits: limits.collect() }
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// Whether there is one for the route that is asked for.
    pub(crate) fn concern(&self, asked: &Asked<'_>) -> bool {
        self.limits.iter().any(|limit| limit.scope.is_about(asked.route))
    }

    /// Whether it depends on the tool what a call takes, so that the body has to be read.
    pub(crate) fn concern_tools(&self, asked: &Asked<'_>) -> bool {
        self.limits.iter().any(|limit| limit.scope.is_about(asked.route) && limit.scope.concerns_tools())
    }

    /// Asks for the calls of one request, by their tools (`None` for a list of tools, and where bodies are not read). All of
    /// them or none; a request without a call asks for nothing.
    pub(crate) fn enter(&self, asked: &Asked<'_>, calls: &[Option<&str>]) -> Result<Admitted, Limited> {
        let shares = self.shares(asked, calls);
        let mut admitted = Admitted { taken: Vec::with_capacity(shares.len()), state: None };
        let mut limited: Option<Limited> = None;
        for share in &shares {
            let refusal = admitted.enter(share).and_then(|()| share.look()).err();
            limited = limited.into_iter().chain(refusal).max_by_key(Limited::retry_after_s);
        }
        if let Some(limited) = limited {
            return Err(limited);
        }
        for (number, share) in shares.iter().enumerate() {
            match share.take() {
                Ok(state) => admitted.state = State::tightest(admitted.state.take(), state),
                Err(limited) => {
                    admitted.taken[..number].iter().for_each(|taken| taken.give_back(taken.calls));
                    return Err(limited);
                }
            }
        }
        Ok(admitted)
    }

    /// Forgets those who stand as if they had never come. To be called now and then; holds nobody up.
    pub(crate) fn tidy(&self) {
        for limit in &self.limits {
            match &limit.bucket {
                Some(bucket) => bucket.retain_recent(),
                None => limit.held.retain(|held| held.running > 0),
            }
        }
    }

    /// How many callers are known, over all limits.
    #[cfg(test)]
    pub(crate) fn callers(&self) -> usize {
        self.limits.iter().map(|limit| limit.held.len()).sum()
    }

    fn shares(&self, asked: &Asked<'_>, calls: &[Option<&str>]) -> Vec<Share<'_, C>> {
        let mut shares = Vec::with_capacity(self.limits.len());
        for limit in &self.limits {
            limit.scope.count(&limit.held, asked, calls, |caller, calls| {
                shares.push(Share { limit, caller, calls });
            });
        }
        shares
    }
}

/// Whether everybody may go on where they are.
fn is_same(known: &config::Limit, wanted: &config::Limit) -> bool {
    let config::Limit { name: _, per, rate, burst, concurrency, route, tool } = known;
    (per, rate, burst, concurrency, route, tool)
        == (&wanted.per, &wanted.rate, &wanted.burst, &wanted.concurrency, &wanted.route, &wanted.tool)
}

impl<C: Time<Instant = Nanos> + Clone> Limit<C> {
    fn new(wanted: &config::Limit, clock: &C) -> Self {
        let held = Arc::<Subjects<Held>>::default();
        let bucket = wanted.rate.map(|rate| Bucket::new(rate, wanted.burst, &held, clock));
        Self { config: wanted.clone(), scope: Scope::of(wanted), bucket, held }
    }

    fn renamed(&self, wanted: &config::Limit) -> Self {
        let Self { config: _, scope, bucket, held } = self;
        Self { config: wanted.clone(), scope: scope.clone(), bucket: bucket.clone(), held: Arc::clone(held) }
    }
}

impl<C: Time<Instant = Nanos>> Share<'_, C> {
    /// Whether the rate has room, without taking it.
    fn look(&self) -> Result<(), Limited> {
        let Some(bucket) = &self.limit.bucket else { return Ok(()) };
        bucket.ask(self.caller, self.calls, false).map(drop).map_err(|refused| self.refuse(&refused))
    }

    /// Takes from the rate, and says what is left; without a rate, how many more may run.
    fn take(&self) -> Result<State, Limited> {
        let name = &self.limit.config.name;
        let Some(bucket) = &self.limit.bucket else {
            let running = self.limit.held.look(self.caller, |held| held.map_or(0, |held| held.running));
            let most = self.limit.config.concurrency.unwrap_or(u32::MAX);
            return Ok(State::of_concurrency(name, most, most.saturating_sub(running)));
        };
        match bucket.ask(self.caller, self.calls, true) {
            Ok(left) => Ok(bucket.state(name, left)),
            Err(refused) => Err(self.refuse(&refused)),
        }
    }

    fn refuse(&self, refused: &bucket::Refused) -> Limited {
        let bucket = self.limit.bucket.as_ref().expect("a rate has refused");
        let state = bucket.state(&self.limit.config.name, refused.left);
        Limited::by_rate(state, refused.wait, refused.ever)
    }
}

impl Admitted {
    /// How the request stands with the tightest limit that applies to it; absent if none does.
    pub(crate) const fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The request does not go on after all.
    pub(crate) fn give_back(self) {
        self.taken.iter().for_each(|taken| taken.give_back(taken.calls));
    }

    /// Makes room among what runs at a time, to be held from now on.
    fn enter<C: Time<Instant = Nanos>>(&mut self, share: &Share<'_, C>) -> Result<(), Limited> {
        let Share { limit, caller, calls } = share;
        let config = &limit.config;
        if let Some(most) = config.concurrency {
            let enter = |held: &mut Held| {
                let fits = held.running.checked_add(*calls).filter(|running| *running <= most);
                fits.map(|running| held.running = running).ok_or(most.saturating_sub(held.running))
            };
            // Where there is no room to count somebody, there is too much going on.
            if let Err(left) = limit.held.change(*caller, enter).unwrap_or(Err(0)) {
                return Err(Limited::by_concurrency(&config.name, most, left, *calls <= most));
            }
        }
        self.taken.push(Taken {
            held: Arc::clone(&limit.held),
            caller: *caller,
            calls: *calls,
            running: config.concurrency.map_or(0, |_| *calls),
            interval: limit.bucket.as_ref().map_or(Duration::ZERO, Bucket::interval),
        });
        Ok(())
    }
}

impl Taken {
    fn cost_ns(&self, calls: u32) -> u64 {
        u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX).saturating_mul(u64::from(calls))
    }

    fn give_back(&self, calls: u32) {
        let cost_ns = self.cost_ns(calls);
        self.held.look(self.caller, |held| {
            if let Some(held) = held {
                held.until_ns = held.until_ns.saturating_sub(cost_ns);
            }
        });
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.running > 0 {
            self.held.look(self.caller, |held| {
                if let Some(held) = held {
                    held.running = held.running.saturating_sub(self.running);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
