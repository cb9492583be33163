//! Whether a request may go on: policy, limits and quotas in one, in the order in which they are asked.
//!
//! ```text
//! head:  judge ─▶ denied?          reads_bodies ─▶ no ─▶ enter ─▶ limited? ─▶ forward
//!                                        └─▶ yes: read up to max_body_bytes, check_head, Envelope::read,
//!                                            check_agreement, judge_body ─▶ denied?  enter ─▶ …
//! ```
//!
//! A request that is refused by one part costs nothing in the others. Nothing in here waits, and nothing is asked of the
//! store on the way of a request; `tend` does that beside it.

use crate::{
    clock::Clock,
    envelope::{Channel, Envelope},
    held_bytes::{HeldBytes, Hold},
    limits::{Admitted, KeyRates, Limited, Limits, State, Ticks},
    policy::{Asked, Policy, Verdict},
    quota::{self, Looker, Quotas, Spent},
};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use mcpmeter_config::Config;
use mcpmeter_observer::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// How often those are forgotten who stand with a limit as if they had never come.
const TIDY: Duration = Duration::from_secs(30);

/// What is in force. Never changed; a reload makes another one, which goes on counting where this one is.
pub(crate) struct Admission {
    policy: Policy,
    limits: Limits,
    quotas: Arc<Quotas>,
    key_rates: KeyRates,
    /// The longest body that is read.
    pub(crate) max_body_bytes: u64,
    /// How long that may take.
    pub(crate) body_timeout: Duration,
    held: Arc<HeldBytes>,
    max_held_bytes: u64,
}

/// Leave to go on. To be held until the calls have ended and their records are handed over.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    spent: Spent,
    admitted: Admitted,
    /// By what the key says of itself.
    own: Admitted,
}

impl Admission {
    /// What a configuration says; counts of an earlier one go on where nothing has changed.
    pub(crate) fn build(config: &Config, earlier: Option<&Self>, clock: Clock) -> Self {
        let limits = Limits::build(&config.limits, earlier.map(|earlier| &earlier.limits), &Ticks(clock));
        let quotas = Quotas::build(&config.quotas, earlier.map(|earlier| &*earlier.quotas));
        Self {
            policy: Policy::compile(&config.policy),
            limits,
            quotas: Arc::new(quotas),
            key_rates: earlier
                .map_or_else(|| KeyRates::new(Ticks(clock)), |earlier| earlier.key_rates.clone()),
            max_body_bytes: config.policy.max_body_bytes,
            body_timeout: Duration::from_millis(config.policy.body_timeout_ms),
            held: earlier.map_or_else(Arc::default, |earlier| Arc::clone(&earlier.held)),
            max_held_bytes: config.policy.max_held_bytes,
        }
    }

    /// How much of bodies is held, beyond what is free.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held.bytes()
    }

    /// Room for a body that has to be read before it may go on.
    pub(crate) fn hold(&self) -> Hold {
        self.held.hold(self.max_held_bytes)
    }

    /// Whether nothing is asked of anybody, but what a key says of itself.
    pub(crate) fn is_open(&self) -> bool {
        self.policy.is_open() && self.limits.is_empty() && self.quotas.is_empty()
    }

    /// Whether calls of whoever asks are counted.
    pub(crate) fn counts(&self, asked: &Asked<'_>) -> bool {
        self.limits.concern(asked) || !self.quotas.is_empty()
    }

    /// Whether anything depends on the tool, for whoever asks: then the whole body has to be read before it is forwarded.
    pub(crate) fn reads_bodies(&self, asked: &Asked<'_>) -> bool {
        self.policy.concerns_tools(asked) || self.limits.concern_tools(asked)
    }

    /// Whether a request passes, as far as its head tells. If bodies are not read, that is all there is to it.
    pub(crate) fn judge(&self, asked: &Asked<'_>) -> Verdict {
        self.policy.judge(asked, None)
    }

    /// Whether everything in a body passes; if not, why the first of it does not.
    pub(crate) fn judge_body(&self, asked: &Asked<'_>, envelope: &Envelope<'_>) -> Verdict {
        let mut verdicts = envelope.messages.iter().map(|message| self.policy.judge(asked, message.tool()));
        verdicts.find(|verdict| *verdict != Verdict::Allowed).unwrap_or(Verdict::Allowed)
    }

    /// What the client is told of a body that does not pass.
    pub(crate) fn deny(
        &self,
        asked: &Asked<'_>,
        envelope: &Envelope<'_>,
        channel: Channel,
    ) -> Response<Full<Bytes>> {
        envelope.deny(channel, |message| self.policy.judge(asked, message.tool()) != Verdict::Allowed)
    }

    /// Asks for room for the calls of a request, by their tools (`None` for a list of tools, and where the body was not
    /// read). A request without a call asks for nothing.
    pub(crate) fn enter(
        &self,
        asked: &Asked<'_>,
        calls: &[Option<&str>],
        now: Timestamp,
    ) -> Result<Leave, Limited> {
        let spent = self.quotas.enter(asked, calls.len() as u64, now)?;
        match self.limits.enter(asked, calls) {
            Ok(admitted) => Ok(Leave { spent, admitted, own: Admitted::default() }),
            Err(limited) => {
                spent.give_back();
                Err(limited)
            }
        }
    }
}

impl Admission {
    /// The same for a request that comes with a key, which may have a rate of its own.
    pub(crate) fn enter_by_key(
        &self,
        per_minute: Option<u32>,
        asked: &Asked<'_>,
        calls: &[Option<&str>],
        now: Timestamp,
    ) -> Result<Leave, Limited> {
        let own = per_minute.map(|rate| self.key_rates.enter(rate, asked, calls)).transpose()?;
        let own = own.unwrap_or_default();
        match self.enter(asked, calls, now) {
            Ok(leave) => Ok(Leave { own, ..leave }),
            Err(limited) => {
                own.give_back();
                Err(limited)
            }
        }
    }
}

impl Leave {
    /// For `rate_limit_state` of the rows: the tightest limit or quota that applied; absent if none did.
    pub(crate) fn state(&self) -> Option<State> {
        let states = [self.spent.state(), self.admitted.state(), self.own.state()];
        states.into_iter().flatten().cloned().fold(None, State::tightest)
    }
}

/// Keeps counts right until `stop`; `current` gives what is in force.
pub(crate) async fn tend(
    looker: Looker,
    current: impl Fn() -> Arc<Admission> + Clone,
    stop: impl Future<Output = ()>,
) {
    let quotas = current.clone();
    let tidying = async {
        loop {
            sleep(TIDY).await;
            let current = current();
            current.limits.tidy();
            current.key_rates.tidy();
        }
    };
    tokio::select! {
        () = quota::watch(looker, move || Arc::clone(&quotas().quotas), stop) => {}
        () = tidying => {}
    }
}

#[cfg(test)]
mod tests;
