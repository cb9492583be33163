//! What mcpmeter understands of the traffic it carries: bytes and instants go in, [`CallRecord`]s come out.
//!
//! This crate has no clock, no I/O and no runtime (promise 6 of ARCHITECTURE.md): whoever owns the sockets
//! tells it what was read and when. It never alters a byte and never fails an exchange; at worst it
//! understands less. It can therefore be fuzzed, replayed from a transcript, and read on its own.
//!
//! The ways in are [`Instance::begin`], which gives an [`Exchange`] for one HTTP request and its response, and
//! [`Instance::begin_pipe`], which gives a [`Pipe`] for a client that speaks stdio.

mod body;
mod budget;
mod call;
mod conversation;
mod correlator;
mod decoder;
mod endpoint;
mod exchange;
mod instance;
mod jsonrpc;
mod latency;
mod line;
mod outcome;
mod outside_session;
mod pipe;
mod reader;
mod redact;
mod rounds;
mod sse;
mod tasks;
mod trace;
mod word;

pub use body::{Body, BodyRule, BodySide, HeldBodies, KeepBodies, Unkept};
pub use call::{CallId, CallRecord, Text, Tick, Timestamp};
pub use decoder::{Coding, ContentDecoder, Undecodable};
pub use endpoint::{EndpointPatch, Mount, outside_of_base};
pub use exchange::{Exchange, Failure};
pub use instance::{Caller, Head, Identity, Instance};
pub use jsonrpc::{Elements, Form, IdToken, Kind, Leaf, Member, Members, Message, Scanner, find_value};
pub use latency::{BUCKETS, bucket_of, bucket_upper_us};
pub use pipe::{Pipe, PipeEnd};
pub use redact::{Pattern, Personal, Redactor};
pub use sse::{Decoder, Item};
pub use word::{
    AuthMethod, AuthState, Framing, MatchKind, Method, Origin, Status, StatusDetail, Transport, UnknownWord,
};
