//! The program that several clients share: one at a time, started when it is needed, again when it has ended, and known
//! to speak the revision of its clients. Whoever comes while it starts waits for it instead of starting another.

use super::{
    child::{Asked, Child},
    conversation::SOLE_CLIENT,
    failure, modern,
    outlet::Arrival,
    restarts::Restarts,
};
use mcpmeter_observer::Failure;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, time::timeout};

/// A restart that is this near is waited for.
const WORTH_WAITING: Duration = Duration::from_secs(1);
/// How long a program may be silent when it is asked for its revision, before it is taken for one of the older ones: they
/// may answer nothing before `initialize` (WIRE.md 6).
const SILENCE: Duration = Duration::from_secs(10);
/// One that is still being fetched is silent, too: only the second time is remembered.
const SILENCES: u32 = 2;
/// The codes with which a program of the revision without sessions refuses what it is asked, and shows that it
/// understands it.
const UNSUPPORTED_VERSION: i64 = -32022;

/// The shared program of a route.
#[derive(Default)]
pub(super) struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    child: Option<(Arc<Child>, Instant)>,
    /// It does not speak the revision without sessions.
    is_legacy: bool,
    silences: u32,
    restarts: Restarts,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoChild {
    /// It speaks an older revision.
    Legacy,
    Failed(Failure),
}

impl Shared {
    /// The running program, or a new one. `discovers` finds out first whether it speaks the revision without sessions.
    pub(super) async fn get<S>(&self, discovers: bool, start: S) -> Result<Arc<Child>, NoChild>
    where
        S: AsyncFnOnce() -> Result<Arc<Child>, Failure>,
    {
        let mut state = self.0.lock().await;
        if discovers && state.is_legacy {
            return Err(NoChild::Legacy);
        }
        if let Some((child, started)) = &state.child {
            if !child.has_ended() {
                return Ok(Arc::clone(child));
            }
            let (failed, started) = (!child.was_stopped(), *started);
            state.child = None;
            if failed {
                state.restarts.note_failure(started, Instant::now());
            }
        }
        let pause = state.restarts.pause(Instant::now());
        if pause > WORTH_WAITING {
            return Err(NoChild::Failed(failure::resting(pause)));
        }
        tokio::time::sleep(pause).await;
        let started = Instant::now();
        let child = start().await.map_err(|failure| {
            state.restarts.note_failure(started, Instant::now());
            NoChild::Failed(failure)
        })?;
        if discovers {
            // One that has been spoken to in a revision that it does not know serves nobody any more.
            let unfit = StopOnDrop(Some(Arc::clone(&child)));
            match timeout(SILENCE, discover(&child)).await {
                Ok(Ok(true)) => unfit.keep(),
                Ok(Ok(false)) => {
                    state.is_legacy = true;
                    return Err(NoChild::Legacy);
                }
                Err(_) => {
                    state.silences += 1;
                    state.is_legacy = state.silences >= SILENCES;
                    return Err(NoChild::Legacy);
                }
                Ok(Err(failure)) => {
                    state.restarts.note_failure(started, Instant::now());
                    return Err(NoChild::Failed(failure));
                }
            }
        }
        state.child = Some((Arc::clone(&child), started));
        Ok(child)
    }

    /// Ends the program. Nobody may ask for it again.
    pub(super) fn stop(&self) {
        if let Ok(state) = self.0.try_lock()
            && let Some((child, _)) = &state.child
        {
            child.stop();
        }
    }
}

/// Stops a program that nobody has taken over, also if whoever wanted it leaves meanwhile.
struct StopOnDrop(Option<Arc<Child>>);

impl StopOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            child.stop();
        }
    }
}

/// Asks it what only a program of the revision without sessions understands.
async fn discover(child: &Arc<Child>) -> Result<bool, Failure> {
    let asked =
        child.ask(SOLE_CLIENT, &modern::discovery(), false).map_err(super::child::Unasked::into_failure)?;
    let Asked::Answers(mut answers) = asked else { return Ok(false) };
    while let Some(arrival) = answers.next().await {
        match arrival {
            Arrival::Failed(failure) => return Err(failure),
            Arrival::Message(delivery) if delivery.is_answer => {
                return Ok(delivery.error_code.is_none_or(|code| code == UNSUPPORTED_VERSION));
            }
            Arrival::Message(_) => {}
        }
    }
    Ok(false)
}
