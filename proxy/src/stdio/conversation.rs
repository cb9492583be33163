//! What is going on between one program and its clients: which answer belongs to whom, and where what the program says
//! unasked has to go. Pure: lines and events come in, [`Effect`]s go out; whoever owns pipes and sockets carries them out.
//!
//! A program of one session is spoken to in its client's own words. One that is shared (`remaps`) gets ids and progress
//! tokens that are unique over all clients; each client gets its own bytes back (WIRE.md 6). Nothing is ever sent to two
//! clients: what belongs to nobody is dropped and counted.

use super::message::Message;
use backlog::Backlog;
use bytes::Bytes;
use mcpmeter_observer::IdToken;
use std::collections::{BTreeMap, HashMap, HashSet};

mod asking;
mod backlog;
mod routing;
#[cfg(test)]
mod tests;

/// One response that is open: a POST's, or a stream for what is said unasked. A later one is larger.
pub(super) type Stream = u64;
/// A session; or, where there are none, the one exchange.
pub(super) type Client = u64;

/// The client of a program that has one session.
pub(super) const SOLE_CLIENT: Client = 0;
/// Questions of the program that are remembered; more are a mistake of its own.
const ASKED: usize = 4096;

/// What has to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// A line for the program.
    Tell(Bytes),
    /// A message for a client.
    Deliver(Stream, Delivery),
    /// Nothing more comes on it.
    Close(Stream),
}

/// A message for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    /// JSON without a line break.
    pub(super) message: Bytes,
    /// It is an answer.
    pub(super) is_answer: bool,
    /// The code, if it is an error.
    pub(super) error_code: Option<i64>,
    /// The client has all it has asked for.
    pub(super) is_last: bool,
}

/// Why a client's message is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// An id is in flight already.
    DuplicateId,
    /// Neither request nor notification nor response.
    NoMessage,
    /// An answer, among other messages, to nothing that this client was asked.
    NotAsked,
    /// It could be read in two ways.
    Doubtful,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The answers to one POST, and what is said while they are made.
    Answers,
    /// What is said unasked.
    Unasked,
    /// Everything: the stream of a client of 2024-11-05.
    Everything,
}

#[derive(Debug)]
struct Open {
    client: Client,
    purpose: Purpose,
    /// Answers that are owed on it.
    owed: usize,
    /// Another one was open at the same time.
    is_crossed: bool,
}

/// A request that the program has not answered.
#[derive(Debug)]
struct Pending {
    client: Client,
    stream: Stream,
    /// The client's own bytes.
    id: Bytes,
    token: Option<Bytes>,
    is_call: bool,
    is_listen: bool,
    /// A `tasks/result` for this task.
    task: Option<Box<str>>,
}

/// Counted, because each may point at a mistake somewhere.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Answers to nothing that is open: late ones of requests whose client has left.
    pub(super) late: u64,
    /// Messages that belong to no client, or to one of several.
    pub(super) stray: u64,
}

/// The state of one program's conversation.
#[derive(Debug)]
pub(super) struct Conversation {
    remaps: bool,
    /// The sessions on a shared program. Where there are none, each exchange is a client of its own.
    sessions: HashSet<Client>,
    next: u64,
    pending: HashMap<IdToken, Pending>,
    /// From a progress token to the request it is of; both as the program knows them.
    tokens: HashMap<IdToken, IdToken>,
    streams: BTreeMap<Stream, Open>,
    /// Who was asked what by the program.
    asked: HashMap<IdToken, Client>,
    backlog: HashMap<Client, Backlog>,
    dropped: Dropped,
}

impl Conversation {
    /// With a program that is shared, or that has one session.
    pub(super) fn new(remaps: bool) -> Self {
        Self {
            remaps,
            sessions: HashSet::new(),
            next: 1,
            pending: HashMap::new(),
            tokens: HashMap::new(),
            streams: BTreeMap::new(),
            asked: HashMap::new(),
            backlog: HashMap::new(),
            dropped: Dropped::default(),
        }
    }

    pub(super) const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Whether anybody waits for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.streams.is_empty()
    }

    /// Whether a client waits for anything.
    pub(super) fn is_used_by(&self, client: Client) -> bool {
        self.pending.values().any(|pending| pending.client == client)
            || self.streams.values().any(|open| open.client == client)
    }

    /// A client begins a session with a shared program.
    pub(super) fn begin_session(&mut self, client: Client) {
        self.sessions.insert(client);
    }

    /// A client opens a stream for what is said unasked; `false` if it has one.
    pub(super) fn listen(
        &mut self,
        client: Client,
        stream: Stream,
        purpose: Purpose,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let has_one = |open: &Open| open.client == client && open.purpose != Purpose::Answers;
        if self.streams.values().any(has_one) {
            return false;
        }
        self.streams.insert(stream, Open { client, purpose, owed: 0, is_crossed: true });
        for message in self.backlog.remove(&client).unwrap_or_default().into_messages() {
            effects.push(Effect::Deliver(stream, Delivery::unasked(message)));
        }
        true
    }

    /// A client has closed a stream. Where that means that it wants no answer (2026-07-28), the program is told.
    pub(super) fn leave(&mut self, stream: Stream, cancels: bool, effects: &mut Vec<Effect>) {
        if self.streams.remove(&stream).is_none() {
            return;
        }
        let of_stream = |pending: &Pending| pending.stream == stream;
        self.abandon(of_stream, cancels, effects);
    }

    /// A client has ended its session with a shared program.
    pub(super) fn end_client(&mut self, client: Client, effects: &mut Vec<Effect>) {
        self.sessions.remove(&client);
        self.backlog.remove(&client);
        self.asked.retain(|_, asked| *asked != client);
        self.abandon(|pending| pending.client == client, true, effects);
        let streams: Vec<_> =
            self.streams.iter().filter(|(_, open)| open.client == client).map(|(key, _)| *key).collect();
        for stream in streams {
            self.streams.remove(&stream);
            effects.push(Effect::Close(stream));
        }
    }

    fn abandon(&mut self, whose: impl Fn(&Pending) -> bool, cancels: bool, effects: &mut Vec<Effect>) {
        let mut abandoned: Vec<_> = self.pending.extract_if(|_, pending| whose(pending)).collect();
        abandoned.sort_by_key(|(id, _)| number(id));
        for (id, pending) in abandoned {
            self.forget_token(&pending, &id);
            if cancels {
                effects.push(Effect::Tell(cancellation(&id)));
            }
        }
    }

    fn remember_asked(&mut self, id: IdToken, client: Client) {
        if self.asked.len() >= ASKED {
            self.asked.clear();
        }
        self.asked.insert(id, client);
    }

    fn forget_token(&mut self, pending: &Pending, id: &IdToken) {
        if let Some(token) = &pending.token {
            let token = if self.remaps { id.clone() } else { IdToken::of(token) };
            // A client may have used it twice; then it is the later request's.
            if self.tokens.get(&token) == Some(id) {
                self.tokens.remove(&token);
            }
        }
    }

    /// The program is gone; the streams that were open.
    pub(super) fn end(&mut self) -> Vec<Stream> {
        self.pending.clear();
        self.tokens.clear();
        std::mem::take(&mut self.streams).into_keys().collect()
    }
}

impl Delivery {
    const fn unasked(message: Bytes) -> Self {
        Self { message, is_answer: false, error_code: None, is_last: false }
    }
}

impl Message<'_> {
    fn id_token(&self) -> Option<IdToken> {
        self.id().map(|place| self.token(place))
    }
}

/// An id as it is written.
fn number(id: &IdToken) -> String {
    match id {
        IdToken::Integer(number) => number.to_string(),
        IdToken::Number(raw) => String::from_utf8_lossy(raw).into_owned(),
        IdToken::Text(text) => serde_json::Value::from(String::from_utf8_lossy(text)).to_string(),
        IdToken::Missing => "null".to_owned(),
    }
}

fn cancellation(id: &IdToken) -> Bytes {
    let head = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"#;
    format!(r#"{head}{id},"reason":"the client has left"}}}}"#, id = number(id)).into()
}
