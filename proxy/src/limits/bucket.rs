//! The state of a rate: for each caller the instant until which it has called, which is all that GCRA needs. `governor`
//! decides; the instants are kept here, because its own stores grow without end and know neither looking without taking
//! nor giving back.

use super::State;
use crate::subjects::{Known, Subjects};
use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};
use mcpmeter_config::Rate;
use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
    time::Duration,
};

/// How one caller stands with one limit.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The theoretical arrival time of GCRA, in nanoseconds since the limit was made: 0 if it never called.
    pub(super) until_ns: u64,
    /// Calls that run.
    pub(super) running: u32,
}

impl Known for Held {
    /// Who calls the most would gain the most by being forgotten; who has calls running is needed still.
    fn worth(&self) -> Option<u64> {
        (self.running == 0).then_some(self.until_ns)
    }
}

/// A rate, and how everybody stands with it.
#[derive(Clone)]
pub(super) struct Bucket<C: Clock<Instant = Nanos>> {
    limiter: Arc<RateLimiter<Visit, Instants, C, StateInformationMiddleware>>,
    quota: Quota,
    clock: C,
}

/// Why a rate has no room.
#[derive(Debug)]
pub(super) struct Refused {
    /// How many calls there would be room for.
    pub(super) left: u32,
    /// Until there is room.
    pub(super) wait: Duration,
    /// Whether there can ever be room for so many at once.
    pub(super) ever: bool,
}

impl<C: Clock<Instant = Nanos> + Clone> Bucket<C> {
    pub(super) fn new(rate: Rate, burst: u32, held: &Arc<Subjects<Held>>, clock: &C) -> Self {
        let interval_ns = (u64::from(rate.seconds) * 1_000_000_000).div_ceil(u64::from(rate.calls.max(1)));
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_nanos(interval_ns)).expect("at least a nanosecond");
        let quota = quota.allow_burst(burst);
        let limiter = RateLimiter::new(quota, Instants(Arc::clone(held)), clock.clone());
        Self { limiter: Arc::new(limiter), quota, clock: clock.clone() }
    }
}

impl<C: Clock<Instant = Nanos>> Bucket<C> {
    /// Whether there is room for so many calls, and how much is left behind them; takes it if it is to.
    pub(super) fn ask(&self, caller: u64, calls: u32, takes: bool) -> Result<u32, Refused> {
        let burst = self.quota.burst_size();
        let Some(calls) = NonZeroU32::new(calls) else { return Ok(burst.get()) };
        let visit = |takes| Visit { caller, takes };
        if calls > burst {
            let left = self.left(caller);
            return Err(Refused { left, wait: self.quota.burst_size_replenished_in(), ever: false });
        }
        match self.limiter.check_key_n(&visit(takes), calls).expect("they are not more than the burst") {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                Err(Refused { left: self.left(caller), wait, ever: true })
            }
        }
    }

    /// How many calls there is room for.
    fn left(&self, caller: u64) -> u32 {
        let one = self.limiter.check_key(&Visit { caller, takes: false });
        one.map_or(0, |state| state.remaining_burst_capacity() + 1)
    }

    pub(super) fn interval(&self) -> Duration {
        self.quota.replenish_interval()
    }

    pub(super) fn state(&self, name: &str, left: u32) -> State {
        let window = self.quota.burst_size_replenished_in();
        State::of_rate(name, self.quota.burst_size().get(), window, left, self.interval())
    }

    /// Forgets those who have their whole burst again.
    pub(super) fn retain_recent(&self) {
        self.limiter.retain_recent();
    }
}

/// A question of one caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Visit {
    caller: u64,
    /// Whether the answer is acted upon.
    takes: bool,
}

/// Where `governor` finds the instants.
#[derive(Debug)]
struct Instants(Arc<Subjects<Held>>);

impl StateStore for Instants {
    type Key = Visit;

    fn measure_and_replace<T, F, E>(&self, visit: &Visit, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let known = |held: &Held| NonZeroU64::new(held.until_ns).map(|until| Nanos::from(until.get()));
        if !visit.takes {
            let until = self.0.look(visit.caller, |held| held.and_then(|held| known(held)));
            return decide(until).map(|(decision, _)| decision);
        }
        let take = |held: &mut Held| {
            let (decision, until) = decide(known(held))?;
            held.until_ns = until.as_u64();
            Ok(decision)
        };
        // Everybody may be forgotten but those who have calls running, and whose calls run is known already.
        self.0.change(visit.caller, take).unwrap_or_else(|| decide(None).map(|(decision, _)| decision))
    }
}

impl ShrinkableKeyedStateStore<Visit> for Instants {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.retain(|held| held.running > 0 || held.until_ns > drop_below.as_u64());
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}
