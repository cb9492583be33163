//! Shows the observer what goes through the pipe, and the journal the observer's records. Until the store is open the
//! records wait here; where it cannot be opened they are let go.

use super::books::Desk;
use crate::{clock::Clock, process_meter::Tree};
use mcpmeter_journal::{Journal, LossReason};
use mcpmeter_observer::{CallRecord, Instance, Pipe, PipeEnd, Tick};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Records that may wait for a store that takes its time to open. Beyond that the oldest are lost, and counted.
const MAX_WAITING: usize = 10_000;

/// The pipe under observation. Cheap to clone; its lock is held for a frame's scan and never across an await.
#[derive(Clone)]
pub(crate) struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    instance: Arc<Instance>,
    clock: Clock,
    desk: Desk,
    state: Mutex<State>,
    /// The processes of the program behind the pipe.
    meter: OnceLock<Arc<Tree>>,
}

struct State {
    pipe: Pipe,
    waiting: VecDeque<Box<CallRecord>>,
    /// Let go because too many waited.
    unrecorded: u64,
}

impl Recorder {
    pub(crate) fn begin(instance: &Arc<Instance>, clock: Clock, desk: Desk) -> Self {
        let pipe = instance.begin_pipe(entropy(), clock.tick());
        let state = Mutex::new(State { pipe, waiting: VecDeque::new(), unrecorded: 0 });
        let meter = OnceLock::new();
        Self { shared: Arc::new(Shared { instance: Arc::clone(instance), clock, desk, state, meter }) }
    }

    /// From now on, these processes work on the calls.
    pub(crate) fn meter(&self, processes: Arc<Tree>) {
        self.state().pipe.watch_opened();
        let _ = self.shared.meter.set(processes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes from the client, before they go on.
    pub(crate) fn hear_client(&self, bytes: &[u8]) {
        let created_at = self.shared.clock.timestamp();
        self.tell(|pipe, now| pipe.handle_client_data(bytes, created_at, now));
    }

    /// Bytes from the server, before they go on.
    pub(crate) fn hear_server(&self, bytes: &[u8]) {
        self.tell(|pipe, now| pipe.handle_server_data(bytes, now));
    }

    /// The pipe is over.
    pub(crate) fn end(&self, end: &PipeEnd) {
        self.tell(|pipe, now| pipe.handle_end(end, now));
        let open = self.shared.instance.close(self.shared.clock.tick());
        self.hand_on(&mut self.state(), open);
    }

    /// Whether a call waits for its answer.
    pub(crate) fn is_owed(&self) -> bool {
        self.shared.instance.open_calls() > 0
    }

    /// Tells the observer something, and the journal what came of it.
    pub(crate) fn tell(&self, what: impl FnOnce(&mut Pipe, Tick)) {
        let mut state = self.state();
        what(&mut state.pipe, self.shared.clock.tick());
        let meter = self.shared.meter.get();
        if let Some(meter) = meter {
            std::iter::from_fn(|| state.pipe.poll_opened()).for_each(|call| meter.begin(call));
        }
        if state.pipe.has_finished() {
            let handed_on = self.shared.clock.tick();
            let metered = |mut record: Box<CallRecord>| {
                if let Some(meter) = meter {
                    meter.end(&mut record);
                }
                record
            };
            let records: Vec<_> =
                std::iter::from_fn(|| state.pipe.poll_finished(handed_on)).map(metered).collect();
            self.hand_on(&mut state, records);
        }
    }

    /// Ends the calls whose time has run out, and hands on what waited for the store.
    pub(crate) fn end_expired(&self) {
        let expired = self.shared.instance.poll_expired(self.shared.clock.tick());
        self.hand_on(&mut self.state(), expired);
    }

    fn hand_on(&self, state: &mut State, records: impl IntoIterator<Item = Box<CallRecord>>) {
        match self.shared.desk.get() {
            Some(Some(journal)) => {
                std::mem::take(&mut state.waiting).into_iter().for_each(|record| journal.accept(record));
                records.into_iter().for_each(|record| journal.accept(record));
                count_unrecorded(journal, state);
            }
            Some(None) => state.waiting = VecDeque::new(),
            None => {
                state.waiting.extend(records);
                let too_many = state.waiting.len().saturating_sub(MAX_WAITING);
                state.waiting.drain(..too_many);
                state.unrecorded += too_many as u64;
            }
        }
    }
}

fn count_unrecorded(journal: &Journal, state: &mut State) {
    let too_many = state.pipe.poll_unrecorded();
    journal.lose(LossReason::BatchTooLarge, too_many);
    journal.lose(LossReason::QueueFull, std::mem::take(&mut state.unrecorded));
}

/// Random bits, seeded by the system: two programs started at the same instant do not have the same.
fn entropy() -> u128 {
    fastrand::u128(..)
}
