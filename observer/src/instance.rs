//! One observed MCP server instance: whose it is, and the conversations that are going on with it.

use crate::{
    body::{BodyRule, Keeping},
    budget::{Budget, Permit},
    call::{CallRecord, Text, Tick, Timestamp},
    conversation::Conversations,
    correlator::OpenCall,
    decoder::Coding,
    endpoint::Mount,
    exchange::Exchange,
    jsonrpc::Scanner,
    outcome::Outcome,
    outside_session::OutsideSession,
    pipe::Pipe,
    redact::Redactor,
    rounds::Rounds,
    tasks::Tasks,
    word::{AuthMethod, AuthState, Origin, Status, StatusDetail, Transport},
};
use arc_swap::Guard;
use http::{HeaderMap, Method};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Whose calls these are: the snapshot that every record of the instance carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The route's `instance_id`, or its name.
    pub instance_id: Text,
    /// The user that the route names.
    pub user_id: Option<Text>,
    /// The organisation that the route names.
    pub organization_id: Option<Text>,
}

/// What is told of an exchange when its request's head has been read.
#[derive(Debug)]
pub struct Head<'a> {
    /// The HTTP method.
    pub method: &'a Method,
    /// Path and query as they are sent to the upstream.
    pub target: &'a str,
    /// The request's headers, as received.
    pub headers: &'a HeaderMap,
    /// The wall clock.
    pub created_at: Timestamp,
    /// The monotonic clock, at the same instant.
    pub at: Tick,
    /// Random bits for the ids of the exchange's calls.
    pub entropy: u128,
    /// The client's address, already minimised.
    pub client_ip: Option<Text>,
    /// What is known of the caller; `None` where nobody has looked.
    pub caller: Option<Arc<Caller>>,
}

/// Who asks, as far as its credentials were checked before the observer is told of the exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// How it proved who it is.
    pub auth_method: AuthMethod,
    /// What the check said.
    pub auth_state: AuthState,
    /// The key's public id, or a keyed hash of the credentials.
    pub api_key_id: Option<Text>,
    /// The user, where it is another one than the route's.
    pub user_id: Option<Text>,
    /// The organisation, where it is another one than the route's.
    pub organization_id: Option<Text>,
}

impl Caller {
    /// The key's public id, if the caller was found to have that key. A hash of credentials that nobody has checked is
    /// for the record only: anybody can have any number of those.
    pub fn proven_key_id(&self) -> Option<&str> {
        self.api_key_id.as_deref().filter(|_| self.auth_state == AuthState::Ok)
    }
}

/// One MCP server instance. Shared by all exchanges with it, whatever their thread.
#[derive(Debug)]
pub struct Instance {
    pub(crate) identity: Identity,
    pub(crate) mount: Mount,
    /// How the instance is spoken to, where it is not as the client speaks.
    pub(crate) transport: Option<Transport>,
    pub(crate) memory: Arc<Memory>,
}

/// What is going on with an instance, whosever it is.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Sessions of Streamable HTTP, by `Mcp-Session-Id`.
    pub(crate) sessions: Conversations,
    /// Conversations of legacy clients, by the endpoint that was announced to them, and those on pipes.
    pub(crate) endpoints: Conversations,
    /// Open calls of clients without a session, for what those cancel.
    pub(crate) outside_session: OutsideSession,
    /// Tasks whose end has not been seen yet.
    pub(crate) tasks: Tasks,
    /// The rounds of multi round-trip requests.
    pub(crate) rounds: Rounds,
    /// Calls that wait for a resumed stream.
    pub(crate) waiting: Budget,
    /// Encoded requests that are being read: each may need a window of megabytes.
    pub(crate) decoding: Budget,
    /// What its records must not have in them, and which bodies are kept beside them.
    pub(crate) keeping: Arc<Keeping>,
    orphans: AtomicU64,
    redelivered: AtomicU64,
}

/// Calls of one instance that wait for resumed streams, about 1.2 KiB each.
const MAX_WAITING: usize = 16_384;
/// Encoded requests of one instance at a time, up to 9 MiB each. More are recorded by their sizes (`unread`).
const MAX_DECODING: usize = 16;

impl Default for Memory {
    fn default() -> Self {
        Self {
            sessions: Conversations::default(),
            endpoints: Conversations::default(),
            outside_session: OutsideSession::default(),
            tasks: Tasks::default(),
            rounds: Rounds::default(),
            waiting: Budget::of(MAX_WAITING),
            decoding: Budget::of(MAX_DECODING),
            keeping: Arc::default(),
            orphans: AtomicU64::new(0),
            redelivered: AtomicU64::new(0),
        }
    }
}

impl Instance {
    /// An instance that nobody has spoken to yet.
    pub fn new(identity: Identity, mount: Mount) -> Self {
        Self { identity, mount, transport: None, memory: Arc::default() }
    }

    /// An instance that is spoken to over stdio, whatever its clients speak: every record of it says so.
    pub fn new_stdio(identity: Identity, mount: Mount) -> Self {
        Self { transport: Some(Transport::Stdio), ..Self::new(identity, mount) }
    }

    /// The same server, which belongs to somebody else from now on: whoever speaks with it goes on where they are. Calls
    /// that have begun stay whose they were.
    pub fn succeed(&self, identity: Identity) -> Self {
        let Self { mount, transport, memory, .. } = self;
        Self { identity, mount: mount.clone(), transport: *transport, memory: Arc::clone(memory) }
    }

    /// The same instance as a caller sees it that is refused: nothing that it says reaches anybody's conversation.
    pub fn apart(&self) -> Self {
        let memory = Memory::default();
        memory.keeping.redactor.store(Arc::clone(&self.redactor()));
        Self { memory: Arc::new(memory), ..self.succeed(self.identity.clone()) }
    }

    /// What is redacted from now on, also from calls that have begun, and in all instances that this one succeeds or is
    /// succeeded by. Until it is told, all kinds that are known are.
    pub fn redact_with(&self, redactor: Arc<Redactor>) {
        self.memory.keeping.redactor.store(redactor);
    }

    /// Which bodies are kept from now on, beginning with calls that end from now on, and in all instances that this one
    /// succeeds or is succeeded by. Until it is told, none are.
    pub fn keep_bodies(&self, rule: BodyRule) {
        self.memory.keeping.set_rule(rule);
    }

    pub(crate) fn redactor(&self) -> Guard<Arc<Redactor>> {
        self.memory.keeping.redactor.load()
    }

    /// Whether it is the other one, or one that it has succeeded or is succeeded by: what ends in one ends in both.
    pub fn is_same_server(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }

    /// Reads the messages of one direction.
    pub(crate) fn new_scanner(&self) -> Box<Scanner> {
        let mut scanner = Box::<Scanner>::default();
        scanner.keep_bodies(self.memory.keeping.held_bytes());
        scanner
    }

    /// How an encoded request is read, if not too many are.
    pub(crate) fn begin_decoding(&self, headers: &HeaderMap) -> (Coding, Option<Permit>) {
        let permit = self.memory.decoding.take(1);
        (if permit.is_some() { Coding::of(headers) } else { Coding::Unknown }, permit)
    }

    /// Begins to observe a client that speaks stdio. `entropy` are random bits, for the ids of its calls and the name of
    /// its conversation.
    pub fn begin_pipe(self: &Arc<Self>, entropy: u128, now: Tick) -> Pipe {
        Pipe::begin(Arc::clone(self), entropy, now)
    }

    /// Begins to observe an exchange.
    pub fn begin(self: &Arc<Self>, head: &Head<'_>) -> Exchange {
        Exchange::begin(Arc::clone(self), head)
    }

    /// Where the instance hangs on both sides of the proxy.
    pub const fn mount(&self) -> &Mount {
        &self.mount
    }

    /// Whose instance it is.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Conversations that are remembered.
    pub fn conversations(&self) -> usize {
        self.memory.sessions.len() + self.memory.endpoints.len()
    }

    /// Whether a stream of this instance has announced the upstream's path and query as its endpoint.
    pub fn announces(&self, target: &str, now: Tick) -> bool {
        self.memory.endpoints.get(target.as_bytes(), now).is_some()
    }

    /// Calls of legacy clients and on pipes that wait for their answers; those of other clients wait on their exchanges.
    pub fn open_calls(&self) -> usize {
        self.memory.endpoints.open_calls()
    }

    /// Whether a call waits in any conversation, for its stream or for a resumed one, or a row is still to come of a
    /// task that has ended. A task that runs is nothing to wait for.
    pub fn has_open(&self) -> bool {
        self.memory.sessions.has_open() || self.memory.endpoints.has_open() || self.memory.tasks.has_ended()
    }

    /// Answers that came on a shared channel and belong to no request seen there. More than a few mean that
    /// requests go past the proxy.
    pub fn orphans(&self) -> u64 {
        self.memory.orphans.load(Ordering::Relaxed)
    }

    pub(crate) fn count_orphan(&self) {
        self.memory.orphans.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers to calls that came once more on a resumed stream. Their rows are stored already and stay as they are.
    pub fn redelivered(&self) -> u64 {
        self.memory.redelivered.load(Ordering::Relaxed)
    }

    pub(crate) fn count_redelivered(&self) {
        self.memory.redelivered.fetch_add(1, Ordering::Relaxed);
    }

    /// Tasks that were forgotten before their end was seen: there were too many at once, or nobody asked for a day.
    pub fn forgotten_tasks(&self) -> u64 {
        self.memory.tasks.forgotten()
    }

    /// The records of calls that waited too long for a resumed stream or behind a cancellation, and of tasks that are
    /// known to have ended and whose result nobody fetches. To be asked for every second or so.
    pub fn poll_expired(&self, now: Tick) -> Vec<Box<CallRecord>> {
        let expired =
            self.memory.sessions.take_expired(now).into_iter().chain(self.memory.endpoints.take_expired(now));
        let ended = expired.map(|(call, outcome): (OpenCall, Outcome)| call.finish(outcome, now));
        ended.chain(self.memory.tasks.take_expired(now)).collect()
    }

    /// The records of everything that is still open between exchanges, because the proxy stops.
    pub fn close(&self, now: Tick) -> Vec<Box<CallRecord>> {
        let open =
            self.memory.sessions.take_everything().into_iter().chain(self.memory.endpoints.take_everything());
        let outcome = Outcome::new(Status::UpstreamError, StatusDetail::ProxyShutdown, Origin::Proxy);
        open.map(|call| call.finish(outcome.clone(), now)).chain(self.memory.tasks.take_ended()).collect()
    }
}
