//! The rates that keys have of their own (`mcpmeter keys create --per-minute`): a limit for each rate that there is, in which
//! each key is counted by itself. A key whose rate is changed begins anew.

use super::{Admitted, Limited, Limits, Ticks};
use crate::policy::Asked;
use mcpmeter_config::{Limit, Per, Rate};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What clients are told such a limit is called.
const NAME: &str = "key";

/// The rates in use. Cheap to clone; clones count together.
#[derive(Clone)]
pub(crate) struct KeyRates {
    clock: Ticks,
    by_rate: Arc<Mutex<HashMap<u32, Arc<Limits>>>>,
}

impl KeyRates {
    pub(crate) fn new(clock: Ticks) -> Self {
        Self { clock, by_rate: Arc::default() }
    }

    /// Asks for the calls of one request that comes with a key of this rate.
    pub(crate) fn enter(
        &self,
        per_minute: u32,
        asked: &Asked<'_>,
        calls: &[Option<&str>],
    ) -> Result<Admitted, Limited> {
        let mut by_rate = self.by_rate.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = Arc::clone(by_rate.entry(per_minute).or_insert_with(|| self.limits_of(per_minute)));
        drop(by_rate);
        limits.enter(asked, calls)
    }

    fn limits_of(&self, per_minute: u32) -> Arc<Limits> {
        let limit = Limit {
            name: NAME.to_owned(),
            per: Per::Key,
            rate: Some(Rate { calls: per_minute, seconds: 60 }),
            burst: per_minute,
            concurrency: None,
            route: None,
            tool: None,
        };
        Arc::new(Limits::build(&[limit], None, &self.clock))
    }

    /// Forgets those who stand as if they had never come.
    pub(crate) fn tidy(&self) {
        let by_rate = self.by_rate.lock().unwrap_or_else(PoisonError::into_inner);
        by_rate.values().for_each(|limits| limits.tidy());
    }
}
