//! The language of plays. A play is a list of lines, each said by an actor: `client("c")` is a connection of a client,
//! made by its first line; `upstream("u")` is one exchange as the server sees it, begun by the line with which it takes
//! a request. Lines are performed in order, and those that wait, wait for what they name:
//!
//! ```text
//! client("c").sends(post("/mcp", &call)),
//! upstream("u").takes(""),
//! upstream("u").sends(json_answer(&result)),
//! client("c").gets_answer(),
//! ```
//!
//! `{host}` is the name by which the client calls the server, `{prefix}` where it finds it, `{upstream}` the server's
//! own name and port; all three are filled in where bytes are sent or expected.

use std::{borrow::Cow, time::Duration};

/// The name of an actor.
pub(crate) type Name = Cow<'static, str>;

/// One line of a play.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) actor: Actor,
    pub(crate) act: Act,
}

/// Whose line it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Actor {
    Client(Name),
    Upstream(Name),
    /// Nobody's: it is about the play or the program.
    Stage,
}

/// What is done.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Send(Vec<u8>),
    /// Bytes framed as a chunk when they are sent, behind the filling in.
    SendChunk(Vec<u8>),
    /// Sends without waiting until everything is taken.
    Pour(Vec<u8>),
    /// Waits for bytes in the message's body, behind those that were waited for before.
    Expect(Vec<u8>),
    /// Waits for the message's end, or for its head only.
    AwaitAnswer,
    AwaitHead,
    /// Waits until the message has been cut off.
    AwaitCut,
    /// Waits until the other side has gone.
    AwaitGone,
    /// Begins an exchange: the oldest request not taken yet that contains these bytes, whole or its head only.
    Take(Vec<u8>),
    TakeHead(Vec<u8>),
    /// Connects with a narrow window and reads nothing until told to.
    ConnectNarrow,
    Read,
    HalfClose,
    Close,
    Reset,
    /// Nothing happens for so long, where it can matter: only with the program between the two.
    Pause(Duration),
    /// Waits until the program has written so many rows.
    AwaitRows(usize),
    /// From here on the growth of the program's memory counts.
    NoteMemory,
    /// The server, which was down, begins to listen.
    Listen,
}

/// A connection of a client.
pub(crate) fn client(name: impl Into<Name>) -> Actor {
    Actor::Client(name.into())
}

/// An exchange at the server.
pub(crate) fn upstream(name: impl Into<Name>) -> Actor {
    Actor::Upstream(name.into())
}

/// Nothing happens for so long: to be used for what only time can show, never to wait for something.
pub(crate) const fn pause(time: Duration) -> Line {
    Line { actor: Actor::Stage, act: Act::Pause(time) }
}

/// The program has written so many rows by now.
pub(crate) const fn has_recorded(rows: usize) -> Line {
    Line { actor: Actor::Stage, act: Act::AwaitRows(rows) }
}

/// The server of a case that begins without one comes up.
pub(crate) const fn server_comes_up() -> Line {
    Line { actor: Actor::Stage, act: Act::Listen }
}

/// From here on the growth of the program's memory counts.
pub(crate) const fn note_memory() -> Line {
    Line { actor: Actor::Stage, act: Act::NoteMemory }
}

/// The lines that both sides have; in a play they are read as sentences.
impl Actor {
    const fn does(self, act: Act) -> Line {
        Line { actor: self, act }
    }

    pub(crate) fn sends(self, bytes: impl Into<Vec<u8>>) -> Line {
        self.does(Act::Send(bytes.into()))
    }

    pub(crate) fn sends_chunk(self, data: impl Into<Vec<u8>>) -> Line {
        self.does(Act::SendChunk(data.into()))
    }

    /// An event of SSE with this data, as a chunk.
    pub(crate) fn sends_event(self, data: impl AsRef<str>) -> Line {
        self.sends_chunk(format!("data: {}\n\n", data.as_ref()))
    }

    pub(crate) fn pours(self, bytes: impl Into<Vec<u8>>) -> Line {
        self.does(Act::Pour(bytes.into()))
    }

    /// Waits for bytes of the body.
    pub(crate) fn gets(self, bytes: impl Into<Vec<u8>>) -> Line {
        self.does(Act::Expect(bytes.into()))
    }

    pub(crate) const fn gets_answer(self) -> Line {
        self.does(Act::AwaitAnswer)
    }

    /// The rest of a request.
    pub(crate) const fn gets_all(self) -> Line {
        self.gets_answer()
    }

    pub(crate) const fn gets_head(self) -> Line {
        self.does(Act::AwaitHead)
    }

    /// The message breaks off.
    pub(crate) const fn gets_cut_off(self) -> Line {
        self.does(Act::AwaitCut)
    }

    /// The other side closes the connection.
    pub(crate) const fn sees_end(self) -> Line {
        self.does(Act::AwaitGone)
    }

    /// A request that contains these bytes, to its end.
    pub(crate) fn takes(self, bytes: impl Into<Vec<u8>>) -> Line {
        self.does(Act::Take(bytes.into()))
    }

    /// The same as soon as its head is there.
    pub(crate) fn takes_head(self, bytes: impl Into<Vec<u8>>) -> Line {
        self.does(Act::TakeHead(bytes.into()))
    }

    pub(crate) const fn connects_narrowly(self) -> Line {
        self.does(Act::ConnectNarrow)
    }

    pub(crate) const fn reads(self) -> Line {
        self.does(Act::Read)
    }

    pub(crate) const fn half_closes(self) -> Line {
        self.does(Act::HalfClose)
    }

    pub(crate) const fn closes(self) -> Line {
        self.does(Act::Close)
    }

    pub(crate) const fn resets(self) -> Line {
        self.does(Act::Reset)
    }
}

/// A whole exchange in four lines: the client `name` sends `request`, the server answers with `response`.
pub(crate) fn exchange(
    name: impl Into<Name>,
    request: impl Into<Vec<u8>>,
    response: impl Into<Vec<u8>>,
) -> Vec<Line> {
    let name = name.into();
    let asks = client(name.clone());
    vec![
        asks.clone().sends(request),
        upstream(name.clone()).takes(""),
        upstream(name).sends(response),
        asks.gets_answer(),
    ]
}
