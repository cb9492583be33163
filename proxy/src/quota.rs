//! How many calls may be made in a day or a month: `[[quota]]`, counted over all proxies and restarts, without asking the
//! store on the way of a request.
//!
//! What is used = what the store had at the last look + what of this proxy's own was not certainly in it then:
//!
//! ```text
//! enter ─▶ running ─▶ ended ─▶ leaving ─▶ (part of what is stored)
//!             end of the call ─┘   └─ a look begins       └─ it succeeds
//! ```
//!
//! A look (`watch`) begins by noting which calls have ended, waits until the journal says that all of those are stored, and
//! only then asks the store: what was noted is in the answer, and is forgotten here. What ended meanwhile may be counted
//! twice until the next look, some tenths of a second's worth; a call that runs, or waits for a store that is away, is
//! counted here as long as it takes. So this proxy never lets too many through because of its own calls, and is never
//! wrong for long: what is counted here but never becomes a row is forgotten by the next look.
//!
//! What other proxies let through between two looks is not known here: together they may go beyond a quota by the calls of
//! the others in that time, which is 5 seconds and what it takes a row to get into the store (a second and a half, or the whole
//! time that the store is away). Before the first look, and in the first seconds of a new day, nothing is known of others.

mod period;
mod watch;

pub(crate) use watch::{Looker, watch};

use crate::{
    limits::{Limited, State},
    policy::Asked,
    subjects::{self, Known, Subjects},
};
use arc_swap::ArcSwap;
use mcpmeter_config::{self as config, Per};
use mcpmeter_journal::Dimension;
use mcpmeter_observer::Timestamp;
use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// The quotas in force.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    quotas: Vec<Quota>,
}

#[derive(Debug)]
struct Quota {
    config: config::Quota,
    count: Arc<Count>,
}

/// What everybody has used of the present day or month.
#[derive(Debug, Default)]
struct Count {
    stored: ArcSwap<Stored>,
    own: Subjects<Own>,
}

/// What the store had at the last look.
#[derive(Debug)]
struct Stored {
    period: Range<Timestamp>,
    calls: HashMap<u64, u64>,
}

/// Calls of this proxy that the store may not have had.
#[derive(Debug, Default)]
struct Own {
    /// When their period begins.
    begins: Timestamp,
    running: u64,
    ended: u64,
    leaving: u64,
}

impl Default for Stored {
    fn default() -> Self {
        Self { period: Timestamp(0)..Timestamp(0), calls: HashMap::new() }
    }
}

impl Own {
    const fn total(&self) -> u64 {
        self.running.saturating_add(self.ended).saturating_add(self.leaving)
    }
}

impl Known for Own {
    /// Whoever is forgotten is counted again when its calls are stored.
    fn worth(&self) -> Option<u64> {
        Some(self.total())
    }
}

/// Calls that count, and run until this is dropped: not before their records have been handed over to the journal.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    places: Vec<Place>,
    state: Option<State>,
}

#[derive(Debug)]
struct Place {
    count: Arc<Count>,
    caller: u64,
    begins: Timestamp,
    calls: AtomicU64,
}

impl Quotas {
    /// The quotas of a configuration. What an earlier table has counted goes on, also under another number.
    pub(crate) fn build(wanted: &[config::Quota], earlier: Option<&Self>) -> Self {
        let known = |wanted: &config::Quota| {
            let same =
                |known: &&Quota| (known.config.per, known.config.period) == (wanted.per, wanted.period);
            earlier.and_then(|earlier| earlier.quotas.iter().find(same)).map(|known| Arc::clone(&known.count))
        };
        let quota = |wanted: &config::Quota| Quota {
            config: wanted.clone(),
            count: known(wanted).unwrap_or_default(),
        };
        Self { quotas: wanted.iter().map(quota).collect() }
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.quotas.is_empty()
    }

    /// Counts so many calls that begin now, all or none.
    pub(crate) fn enter(&self, asked: &Asked<'_>, calls: u64, now: Timestamp) -> Result<Spent, Limited> {
        let mut spent = Spent::default();
        if calls == 0 {
            return Ok(spent);
        }
        for quota in &self.quotas {
            match quota.enter(asked, calls, now) {
                Ok((place, state)) => {
                    spent.places.push(place);
                    spent.state = State::tightest(spent.state.take(), state);
                }
                Err(limited) => {
                    spent.give_back();
                    return Err(limited);
                }
            }
        }
        Ok(spent)
    }
}

impl Quota {
    fn enter(&self, asked: &Asked<'_>, calls: u64, now: Timestamp) -> Result<(Place, State), Limited> {
        let config::Quota { name, per, calls: limit, period } = &self.config;
        let stored = self.count.stored.load();
        let (range, known) = if stored.period.contains(&now) {
            (stored.period.clone(), &stored.calls)
        } else {
            (period::of(*period, now), &HashMap::new())
        };
        let caller = self.count.own.number_of(name_of(*per, asked));
        let stored = known.get(&caller).copied().unwrap_or_default();
        let enter = |own: &mut Own| {
            if own.begins != range.start {
                *own = Own { begins: range.start, ..Own::default() };
            }
            let left = limit.saturating_sub(stored.saturating_add(own.total()));
            let after = left.checked_sub(calls).ok_or(left)?;
            own.running = own.running.saturating_add(calls);
            Ok::<_, u64>(after)
        };
        let until_end = between(now, range.end);
        let state = |left| State::of_quota(name, *limit, between(range.start, range.end), left, until_end);
        // Somebody can always be forgotten.
        match self.count.own.change(caller, enter).unwrap_or(Ok(0)) {
            Ok(left) => {
                let place = Place {
                    count: Arc::clone(&self.count),
                    caller,
                    begins: range.start,
                    calls: AtomicU64::new(calls),
                };
                Ok((place, state(left)))
            }
            Err(left) => Err(Limited::by_quota(state(left), until_end, calls <= *limit)),
        }
    }
}

impl Count {
    /// A look begins: what has ended will be in its answer.
    fn begin_look(&self) {
        self.own.retain(|own| {
            own.leaving = own.leaving.saturating_add(std::mem::take(&mut own.ended));
            true
        });
    }

    /// A look has succeeded: what was leaving when it began is part of this. Of more callers than there is room for, those
    /// with the most calls are known.
    fn learn(&self, period: Range<Timestamp>, mut calls: Vec<(Option<String>, u64)>) {
        if let Some(last) = calls.len().checked_sub(subjects::MOST).and_then(|more| more.checked_sub(1)) {
            calls.select_nth_unstable_by_key(last, |(_, calls)| *calls);
            calls.drain(..=last);
        }
        let number = |(name, calls): (Option<String>, u64)| (self.own.number_of(name.as_deref()), calls);
        let begins = period.start;
        let calls = calls.into_iter().map(number).collect();
        self.stored.store(Arc::new(Stored { period, calls }));
        self.own.retain(|own| {
            own.leaving = 0;
            own.begins == begins && own.total() > 0
        });
    }
}

/// What a caller is called in the column that is counted by.
fn name_of<'a>(per: Per, asked: &Asked<'a>) -> Option<&'a str> {
    match per {
        Per::Key => asked.key,
        Per::User => asked.user,
        Per::Organization => asked.organization,
        _ => Some(asked.instance),
    }
}

/// The column that is counted by.
const fn dimension_of(per: Per) -> Dimension {
    match per {
        Per::Key => Dimension::Key,
        Per::User => Dimension::User,
        Per::Organization => Dimension::Organization,
        _ => Dimension::Instance,
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_micros(to.0.saturating_sub(from.0).max(0).unsigned_abs())
}

impl Spent {
    /// How the request stands with the tightest quota; absent if there is none.
    pub(crate) const fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The calls are not made after all.
    pub(crate) fn give_back(self) {
        self.places.iter().for_each(Place::give_back);
    }
}

impl Place {
    fn give_back(&self) {
        let calls = self.calls.swap(0, Relaxed);
        self.change(|own| own.running = own.running.saturating_sub(calls));
    }

    fn change(&self, change: impl FnOnce(&mut Own)) {
        self.count.own.look(self.caller, |own| {
            if let Some(own) = own.filter(|own| own.begins == self.begins) {
                change(own);
            }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let calls = self.calls.load(Relaxed);
        if calls > 0 {
            self.change(|own| {
                own.running = own.running.saturating_sub(calls);
                own.ended = own.ended.saturating_add(calls);
            });
        }
    }
}

#[cfg(test)]
mod tests;
