//! Where a play is performed: clients that connect to one address, and the server behind it. Performs one line after
//! the other and writes down what arrived at both ends; compares and judges nothing.

use crate::{
    PATIENCE,
    inbox::{Ending, Inbox, Message},
    link::Link,
    script::{Act, Actor, Line},
    server::Server,
    transcript::Transcript,
    wire::chunk,
};
use socket2::Socket;
use std::{cell::Cell, collections::BTreeMap, net::SocketAddr, sync::Arc, time::Instant};
use tokio::{sync::Notify, time::timeout};

/// How the clients reach the server.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Where they connect to.
    pub(crate) address: SocketAddr,
    /// The name by which they call it.
    pub(crate) host: String,
    /// The path under which they find it.
    pub(crate) prefix: &'static str,
    /// The server's own name and port.
    pub(crate) upstream: String,
}

/// A play in progress.
pub(crate) struct Stage {
    way: Way,
    server: Server,
    parties: BTreeMap<Actor, Party>,
    /// Notified of whatever arrives anywhere.
    news: Arc<Notify>,
    /// When somebody last sent something; unset while more may be on its way than a line can be timed by.
    sent_at: Option<Instant>,
    transcript: Transcript,
}

/// Where an actor is: a client with its answers, or the server with one request.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) link: Arc<Link>,
    /// The message of the connection that is looked at, and how much of its body has been.
    pub(crate) message: usize,
    pub(crate) seen: usize,
}

impl Stage {
    /// Opens without a server.
    pub(crate) fn open(way: Way) -> Self {
        Self {
            way,
            server: Server::default(),
            parties: BTreeMap::new(),
            news: Arc::new(Notify::new()),
            sent_at: None,
            transcript: Transcript::default(),
        }
    }

    /// The server begins to listen.
    pub(crate) fn listen(&mut self, socket: &Socket) {
        self.server.listen(socket, &self.news);
    }

    /// Performs a line of a client or of the server.
    pub(crate) async fn perform(&mut self, line: &Line) {
        let Line { actor, act } = line;
        let Party { link, message, seen } = match act {
            Act::Take(bytes) | Act::TakeHead(bytes) => return self.take(line, bytes).await,
            _ => self.party(line).await,
        };
        if matches!(act, Act::AwaitGone) {
            self.wait(line, |_| link.inbox().end).await;
        } else if act.awaits() {
            let looked = Cell::new(seen);
            let there = |stage: &Self| stage.way.reached(&link.inbox(), message, act, &looked);
            let seen = self.wait(line, there).await;
            // A client's next answer comes behind this one; the server takes the next request by a line of its own.
            let is_over = matches!((actor, act), (Actor::Client(_), Act::AwaitAnswer));
            let (message, seen) = if is_over { (message + 1, 0) } else { (message, seen) };
            self.parties.insert(actor.clone(), Party { link, message, seen });
        } else {
            self.sent_at = act.is_timed().then(Instant::now);
            self.way.do_over(&link, act).await;
        }
    }

    /// Ends the play: everybody leaves, and what arrived is told.
    pub(crate) async fn close(mut self) -> Transcript {
        for (actor, party) in &self.parties {
            let messages = match actor {
                Actor::Client(_) => {
                    party.link.close(false).await;
                    party.link.inbox().messages.clone()
                }
                _ => vec![party.link.inbox().messages[party.message].clone()],
            };
            self.transcript.heard.extend(messages.into_iter().map(|message| (actor.clone(), message)));
        }
        self.transcript.untaken = self.server.untaken();
        self.transcript
    }

    /// Where the actor of a line is; a client connects with its first line.
    async fn party(&mut self, line: &Line) -> Party {
        if let Some(party) = self.parties.get(&line.actor) {
            return party.clone();
        }
        assert!(matches!(line.actor, Actor::Client(_)), "there is no exchange for {line:?}");
        let narrow = matches!(line.act, Act::ConnectNarrow);
        let link = Arc::new(Link::connect(self.way.address, narrow, &self.news).await);
        let party = Party { link, message: 0, seen: 0 };
        self.parties.insert(line.actor.clone(), party.clone());
        party
    }

    /// An exchange of the server begins.
    async fn take(&mut self, line: &Line, bytes: &[u8]) {
        let (bytes, whole) = (self.way.fill_in(bytes), matches!(line.act, Act::Take(_)));
        let taken = self
            .wait(line, |stage| {
                stage.assert_not_refused(line);
                stage.server.take(&bytes, whole)
            })
            .await;
        assert!(
            self.parties.insert(line.actor.clone(), taken).is_none(),
            "there was an exchange for {line:?}"
        );
    }

    /// Whoever waits for a request that has been refused would wait in vain.
    fn assert_not_refused(&self, line: &Line) {
        for (actor, party) in self.parties.iter().filter(|(actor, _)| matches!(actor, Actor::Client(_))) {
            let inbox = party.link.inbox();
            let refusal = inbox.messages.get(party.message).filter(|answer| answer.status() >= 500);
            assert!(
                refusal.is_none(),
                "{line:?}: {actor:?} got {}",
                refusal.map_or_else(String::new, Message::brief)
            );
        }
    }

    /// Waits until there is what the line waits for, and notes how long that took behind the last sending.
    async fn wait<T>(&mut self, line: &Line, check: impl Fn(&Self) -> Option<T>) -> T {
        let there = async {
            loop {
                let news = self.news.notified();
                if let Some(there) = check(self) {
                    return there;
                }
                news.await;
            }
        };
        let Ok(there) = timeout(PATIENCE, there).await else {
            panic!("never came about: {line:?}\n{}", self.describe());
        };
        self.transcript.waits.extend(self.sent_at.map(|sent_at| sent_at.elapsed()));
        there
    }

    /// Where everybody is, for whoever has to find out why a play hangs.
    fn describe(&self) -> String {
        let tell = |(actor, party): (&Actor, &Party)| {
            let inbox = party.link.inbox();
            let last = inbox.messages.last().map(Message::brief).unwrap_or_default();
            format!("{actor:?}, end {:?}, last: {last}\n", inbox.end)
        };
        let parties: String = self.parties.iter().map(tell).collect();
        format!("{parties}{} requests that nobody took", self.server.untaken())
    }
}

impl Act {
    /// Whether what comes of it can be timed: not if it is large, nor if nothing has to come of it.
    const fn is_timed(&self) -> bool {
        matches!(self, Self::Send(_) | Self::SendChunk(_))
    }

    /// Whether it waits for the message.
    const fn awaits(&self) -> bool {
        matches!(self, Self::Expect(_) | Self::AwaitAnswer | Self::AwaitHead | Self::AwaitCut)
    }
}

impl Way {
    async fn do_over(&self, link: &Link, act: &Act) {
        match act {
            Act::Send(bytes) => link.send(&self.fill_in(bytes)).await,
            Act::SendChunk(data) => link.send(&chunk(self.fill_in(data))).await,
            Act::Pour(bytes) => link.pour(self.fill_in(bytes)),
            Act::ConnectNarrow => {}
            Act::Read => link.set_reads(true),
            Act::HalfClose => link.finish(),
            Act::Close => link.close(false).await,
            Act::Reset => link.close(true).await,
            _ => panic!("{act:?} is not done over a connection"),
        }
    }

    /// Whether a message has come as far as the act waits for; gives how much of its body has been looked at then. What
    /// need not be looked at again is noted in `seen`.
    fn reached(&self, inbox: &Inbox, message: usize, act: &Act, seen: &Cell<usize>) -> Option<usize> {
        let message = inbox.messages.get(message)?;
        match act {
            Act::AwaitHead => Some(seen.get()),
            Act::AwaitAnswer => (message.ending == Ending::Complete).then_some(message.body.len()),
            Act::AwaitCut => (message.ending == Ending::Cut).then_some(message.body.len()),
            Act::Expect(bytes) => {
                let bytes = self.fill_in(bytes);
                let found = memchr::memmem::find(&message.body[seen.get()..], &bytes);
                let nothing_before = message.body.len().saturating_sub(bytes.len());
                let from = seen.replace(seen.get().max(nothing_before));
                Some(from + found? + bytes.len())
            }
            _ => None,
        }
    }

    /// Puts the names that differ per way in their places.
    fn fill_in(&self, bytes: &[u8]) -> Vec<u8> {
        let filled = replace(bytes, b"{host}", self.host.as_bytes());
        let filled = replace(&filled, b"{prefix}", self.prefix.as_bytes());
        replace(&filled, b"{upstream}", self.upstream.as_bytes())
    }
}

fn replace(bytes: &[u8], word: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for at in memchr::memmem::find_iter(bytes, word) {
        replaced.extend_from_slice(&bytes[from..at]);
        replaced.extend_from_slice(by);
        from = at + word.len();
    }
    replaced.extend_from_slice(&bytes[from..]);
    replaced
}
