//! A client that speaks stdio, observed: what was read on either side goes in by `handle_*`, finished records come out by
//! [`Pipe::poll_finished`]. One channel each way, shared by all calls, so ids decide whose an answer is (WIRE.md 1.2 G).
//!
//! The bytes go in as they come, in whatever pieces, and before they are forwarded; lines are cut here. Never keeps a
//! line, and never asks for one.

use crate::{
    call::{CallId, CallRecord, Tick, Timestamp},
    exchange::{Exchange, Failure},
    instance::Instance,
    jsonrpc::IdToken,
    line::LineCut,
    outcome::Outcome,
};
use std::sync::Arc;

/// One client's pipe, from its first byte to its end.
#[derive(Debug)]
pub struct Pipe {
    exchange: Exchange,
    /// Where the client is within its line.
    asked: LineCut,
}

/// Why a pipe ends; its open calls end with it.
#[derive(Debug, Clone)]
pub enum PipeEnd {
    /// The client closed it, or is gone.
    ClientLeft,
    /// The server's program ended, or broke off: how.
    Failed(Failure),
    /// The proxy was told to stop.
    Stopped,
}

impl Pipe {
    pub(crate) fn begin(instance: Arc<Instance>, entropy: u128, now: Tick) -> Self {
        Self { exchange: Exchange::begin_pipe(instance, entropy, now), asked: LineCut::default() }
    }

    /// Bytes from the client, before they are forwarded; `created_at` is the wall clock at the same instant.
    pub fn handle_client_data(&mut self, mut bytes: &[u8], created_at: Timestamp, now: Tick) {
        loop {
            let begins = self.asked.is_at_start();
            let Some(piece) = self.asked.next_piece(&mut bytes) else { return };
            if begins {
                self.exchange.begin_line(created_at, now);
            }
            self.exchange.read_line(piece.bytes, now);
            if piece.is_last {
                self.exchange.end_line(self.asked.end(), now);
            }
        }
    }

    /// The client will say nothing more. What it said behind its last line feed is a line to most servers.
    pub fn handle_client_end(&mut self, now: Tick) {
        if !self.asked.is_at_start() {
            self.exchange.end_line(self.asked.end(), now);
        }
    }

    /// Bytes from the server, before they are forwarded.
    pub fn handle_server_data(&mut self, bytes: &[u8], now: Tick) {
        self.exchange.handle_response_data(bytes, now);
    }

    /// The head of the answer to one call has come, with that HTTP status: for a pipe whose other end is HTTP.
    pub fn handle_call_head(&mut self, id: &IdToken, status: u16, now: Tick) {
        self.exchange.note_head(id, status, now);
    }

    /// The server was not reached for one call, or broke off; the others go on.
    pub fn handle_call_failed(&mut self, id: &IdToken, failure: &Failure, now: Tick) {
        let outcome = Outcome::of_failure(&self.exchange.redactor(), failure);
        self.exchange.end_call(id, failure.http_status, outcome, now);
    }

    /// One call was answered with an HTTP status of 400 or above and no JSON-RPC message; `body` is its beginning, and
    /// `in_session` says whether the request had named a session.
    pub fn handle_call_refused(
        &mut self,
        id: &IdToken,
        status: u16,
        body: &[u8],
        in_session: bool,
        now: Tick,
    ) {
        let outcome = Outcome::of_http_status(&self.exchange.redactor(), status, body, in_session);
        self.exchange.end_call(id, Some(status), outcome, now);
    }

    /// The pipe is over. To be called once; only the records are left to be polled.
    pub fn handle_end(&mut self, end: &PipeEnd, now: Tick) {
        self.exchange.drop_line();
        match end {
            PipeEnd::ClientLeft => self.exchange.handle_client_left(now),
            PipeEnd::Failed(failure) => self.exchange.handle_failure(failure, now),
            PipeEnd::Stopped => self.exchange.handle_stop(now),
        }
    }

    /// Whoever meters calls wants to know when one begins: from now on [`Self::poll_opened`] tells.
    pub fn watch_opened(&mut self) {
        self.exchange.watch_opened();
    }

    /// A call that has begun since this was last asked.
    pub fn poll_opened(&mut self) -> Option<CallId> {
        self.exchange.poll_opened()
    }

    /// Whether [`Self::poll_finished`] has something to give.
    pub fn has_finished(&self) -> bool {
        self.exchange.has_finished()
    }

    /// The next finished record; `now` is just before the bytes go on.
    pub fn poll_finished(&mut self, now: Tick) -> Option<Box<CallRecord>> {
        self.exchange.poll_finished(now)
    }

    /// Calls of one line that were more than are recorded of one, since this was last asked.
    pub const fn poll_unrecorded(&mut self) -> u64 {
        self.exchange.poll_unrecorded()
    }
}

#[cfg(test)]
mod tests;
