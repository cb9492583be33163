//! One running program with its conversation, shared by the exchanges that speak to it. The conversation is pure and
//! stands behind a lock held for one message; what it asks for is carried out under that lock, so that the program gets
//! messages in the order in which they were registered.

use super::{
    answers::Answers,
    conversation::{Client, Conversation, Dropped, Effect, Purpose, Refused, SOLE_CLIENT, Stream},
    failure,
    outlet::{self, Outlet},
    process::LineWriter,
};
use crate::process_meter::Tree;
use bytes::Bytes;
use mcpmeter_observer::Failure;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// A program as its clients see it.
pub(super) struct Child {
    writer: LineWriter,
    /// What it costs.
    pub(super) processes: Arc<Tree>,
    state: Mutex<State>,
    stop: CancellationToken,
    /// The most bytes that wait for one slow client.
    max_waiting: usize,
}

struct State {
    conversation: Conversation,
    outlets: HashMap<Stream, Outlet>,
    next_stream: Stream,
    next_client: Client,
    last_used: Instant,
    /// It has said something.
    has_spoken: bool,
    /// Why it can be asked no more.
    ended: Option<Failure>,
    /// Why it was told to end.
    why: Option<Failure>,
}

/// Why a message is not passed on to a program.
#[derive(Debug)]
pub(super) enum Unasked {
    /// The client's mistake.
    Refused(Refused),
    /// The program is gone, or does not read.
    Failed(Failure),
}

/// What became of a message.
pub(super) enum Asked {
    /// No answer is owed.
    Taken,
    /// The answers come here.
    Answers(Answers),
}

impl Child {
    /// A program that has just been started.
    pub(super) fn new(writer: LineWriter, remaps: bool, max_waiting: usize, processes: Arc<Tree>) -> Self {
        Self {
            writer,
            processes,
            stop: CancellationToken::new(),
            max_waiting,
            state: Mutex::new(State {
                conversation: Conversation::new(remaps),
                outlets: HashMap::new(),
                next_stream: 1,
                next_client: SOLE_CLIENT + 1,
                last_used: Instant::now(),
                has_spoken: false,
                ended: None,
                why: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of a shared program that has no session.
    pub(super) fn new_client(&self) -> Client {
        let mut state = self.lock();
        state.next_client += 1;
        state.next_client
    }

    /// A client of a shared program that begins a session, to be ended by [`Self::end_client`].
    pub(super) fn new_session(&self) -> Client {
        let client = self.new_client();
        self.lock().conversation.begin_session(client);
        client
    }

    /// Passes a client's line on.
    pub(super) fn ask(
        self: &Arc<Self>,
        client: Client,
        line: &Bytes,
        cancels: bool,
    ) -> Result<Asked, Unasked> {
        let mut state = self.lock();
        let stream = self.take_number(&mut state)?;
        // Opened first: the answer may come before this returns.
        let (outlet, inlet) = outlet::pair();
        state.outlets.insert(stream, outlet);
        let answers = Answers { inlet, child: Arc::clone(self), stream, cancels };
        match self.tell(&mut state, client, stream, line) {
            Ok(true) => Ok(Asked::Answers(answers)),
            Ok(false) => {
                state.outlets.remove(&stream);
                drop(state);
                Ok(Asked::Taken)
            }
            Err(unasked) => {
                state.outlets.remove(&stream);
                // The guard takes the lock.
                drop(state);
                drop(answers);
                Err(unasked)
            }
        }
    }

    /// Passes a client's line on whose answers come on a stream that is open already.
    pub(super) fn ask_on(&self, client: Client, stream: Stream, line: &Bytes) -> Result<(), Unasked> {
        let mut state = self.lock();
        self.take_number(&mut state)?;
        self.tell(&mut state, client, stream, line).map(drop)
    }

    fn take_number(&self, state: &mut State) -> Result<Stream, Unasked> {
        if let Some(failure) = &state.ended {
            return Err(Unasked::Failed(failure.clone()));
        }
        if self.stop.is_cancelled() {
            return Err(Unasked::Failed(failure::stopping()));
        }
        state.last_used = Instant::now();
        state.next_stream += 1;
        Ok(state.next_stream)
    }

    fn tell(&self, state: &mut State, client: Client, stream: Stream, line: &Bytes) -> Result<bool, Unasked> {
        // First, so that nothing has to be taken back.
        if !self.writer.has_room_for(line.len()) {
            return Err(Unasked::Failed(failure::not_reading()));
        }
        let mut effects = Vec::new();
        let owed = state.conversation.ask(client, stream, line, &mut effects).map_err(Unasked::Refused)?;
        self.carry_out(state, effects);
        Ok(owed)
    }

    /// Opens a stream for what the program says unasked; `None` if the client has one.
    pub(super) fn listen(
        self: &Arc<Self>,
        client: Client,
        purpose: Purpose,
    ) -> Result<Option<Answers>, Failure> {
        let mut state = self.lock();
        let stream = self.take_number(&mut state).map_err(Unasked::into_failure)?;
        let (outlet, inlet) = outlet::pair();
        let mut effects = Vec::new();
        if !state.conversation.listen(client, stream, purpose, &mut effects) {
            return Ok(None);
        }
        state.outlets.insert(stream, outlet);
        self.carry_out(&mut state, effects);
        Ok(Some(Answers { inlet, child: Arc::clone(self), stream, cancels: false }))
    }

    /// The program has said something.
    pub(super) fn hear(&self, line: &Bytes) {
        let mut state = self.lock();
        state.has_spoken = true;
        let mut effects = Vec::new();
        state.conversation.hear(line, &mut effects);
        self.carry_out(&mut state, effects);
    }

    fn carry_out(&self, state: &mut State, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Tell(line) => self.writer.write(line),
                Effect::Close(stream) => drop(state.outlets.remove(&stream)),
                Effect::Deliver(stream, delivery) => {
                    let Some(outlet) = state.outlets.get(&stream) else { continue };
                    if !outlet.send(delivery, self.max_waiting) {
                        outlet.fail(failure::client_too_slow());
                        state.outlets.remove(&stream);
                    }
                }
            }
        }
    }

    /// A client's session ends, the program does not.
    pub(super) fn end_client(&self, client: Client) {
        let mut state = self.lock();
        let mut effects = Vec::new();
        state.conversation.end_client(client, &mut effects);
        self.carry_out(&mut state, effects);
    }

    /// Nobody waits for what comes on a stream any more. `cancels`: leaving is cancelling.
    pub(super) fn leave(&self, stream: Stream, cancels: bool) {
        let mut state = self.lock();
        state.outlets.remove(&stream);
        state.last_used = Instant::now();
        let mut effects = Vec::new();
        state.conversation.leave(stream, cancels, &mut effects);
        self.carry_out(&mut state, effects);
    }

    /// Whether a client waits for anything.
    pub(super) fn is_used_by(&self, client: Client) -> bool {
        self.lock().conversation.is_used_by(client)
    }

    /// It can be asked no more; whoever waits learns why.
    pub(super) fn end(&self, failure: Failure) {
        let mut state = self.lock();
        state.conversation.end();
        for outlet in std::mem::take(&mut state.outlets).into_values() {
            outlet.fail(failure.clone());
        }
        state.ended.get_or_insert(failure);
    }

    /// Asks for its end, in order.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Asks for its end, because its one client has ended its session.
    pub(super) fn stop_with_session(&self) {
        self.lock().why.get_or_insert_with(failure::session_deleted);
        self.stop();
    }

    /// What becomes of those who wait when it ends as it was told to.
    pub(super) fn why_stopped(&self) -> Failure {
        self.lock().why.clone().unwrap_or_else(failure::stopping)
    }

    /// It is to end.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.stop.is_cancelled() || self.lock().ended.is_some()
    }

    /// It was told to end.
    pub(super) fn was_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Somebody waits for it.
    pub(super) fn is_owed(&self) -> bool {
        !self.lock().conversation.is_idle()
    }

    pub(super) fn dropped(&self) -> Dropped {
        self.lock().conversation.dropped()
    }

    pub(super) fn has_spoken(&self) -> bool {
        self.lock().has_spoken
    }

    /// When it will have been idle for that long, if nothing happens; `None` while somebody waits.
    pub(super) fn idle_at(&self, patience: Duration) -> Option<Instant> {
        let state = self.lock();
        state.conversation.is_idle().then(|| state.last_used + patience)
    }
}

impl Unasked {
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Refused(_) => failure::not_reading(),
        }
    }
}
