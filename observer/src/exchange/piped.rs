//! A pipe in the terms of an exchange: its requests come line by line, its answers on the one channel back, and both go
//! on until it ends. What is told of messages is told by the same code as for HTTP; here is only what is cut differently.

use super::{Asked, Exchange, Facts, Finished, Role};
use crate::{
    call::{Tick, Timestamp},
    correlator::{OpenCall, OpenCalls},
    instance::Instance,
    jsonrpc::{IdToken, Leaf, Message},
    outcome::Outcome,
    reader::Reader,
    word::Framing,
};
use std::{collections::VecDeque, sync::Arc};

impl Exchange {
    /// The pipe's conversation stands in the table of those that share a channel, under a name that no endpoint can have,
    /// so that its cancelled calls expire and its open ones are waited for like theirs.
    pub(crate) fn begin_pipe(instance: Arc<Instance>, entropy: u128, now: Tick) -> Self {
        let key: Box<[u8]> = [b"\0pipe".as_slice(), &entropy.to_be_bytes()].concat().into();
        let (conversation, forgotten) = instance.memory.endpoints.get_or_insert(&key, now);
        let scanner = Some(instance.new_scanner());
        let mut reader = Reader::for_lines();
        reader.keep_bodies(instance.memory.keeping.held_bytes());
        let mut pipe = Self {
            instance,
            facts: Facts::of_pipe(entropy, now),
            role: Role::Pipe { conversation: Arc::clone(&conversation), key },
            session: Some(conversation),
            asked: Asked { scanner, done: true, listens: true, ..Asked::default() },
            spare: None,
            open: OpenCalls::default(),
            answer: super::Answer { reader, ..super::Answer::default() },
            finished: VecDeque::new(),
            unrecorded: 0,
            opened: None,
            ended: false,
        };
        pipe.end_session_calls(forgotten, crate::word::Status::UpstreamError, now);
        pipe
    }

    /// A line of the client's begins: the calls in it began now.
    pub(crate) const fn begin_line(&mut self, created_at: Timestamp, now: Tick) {
        self.facts.created_at = created_at;
        self.facts.began_at = now;
    }

    /// A piece of the line.
    pub(crate) fn read_line(&mut self, bytes: &[u8], now: Tick) {
        self.scan_request(bytes, now);
    }

    /// The line is complete, and so are the calls in it. What breaks off within a batch is no message, and whoever gets
    /// it will not take the batch's first half for one.
    pub(crate) fn end_line(&mut self, line_bytes: u64, now: Tick) {
        let Some(scanner) = &mut self.asked.scanner else { return };
        let (batch_size, is_whole) = (scanner.batch_size(), scanner.is_over());
        scanner.restart();
        if self.open.is_empty() {
            return;
        }
        for mut call in self.open.take_all() {
            if !is_whole {
                continue;
            }
            call.asked_at = now;
            call.record.batch_size = batch_size;
            if batch_size.is_none() {
                call.record.input_bytes = line_bytes;
            }
            self.wait_on_pipe(call, now);
        }
    }

    fn wait_on_pipe(&mut self, call: OpenCall, now: Tick) {
        let Role::Pipe { conversation, .. } = &self.role else { return };
        conversation.forget_cancel(&call.id);
        if let Err((call, status)) = conversation.push_open(call) {
            self.end_session_calls(vec![call], status, now);
        }
    }

    /// Forgets a line that has not ended: nobody was asked anything yet.
    pub(crate) fn drop_line(&mut self) {
        self.open.take_all();
    }

    /// A notification of the server's: progress of a call, or the end of a task.
    pub(super) fn take_notice(&mut self, message: &Message, bytes: u64, at: Tick) {
        if message.method() == Some("notifications/progress") {
            self.note_progress(&message.id_token(Leaf::ProgressToken), at);
        } else {
            self.take_task_notice(message, Framing::Line, bytes, at);
        }
    }

    fn note_progress(&self, token: &IdToken, at: Tick) {
        if let (Role::Pipe { conversation, .. }, false) = (&self.role, *token == IdToken::Missing) {
            conversation.tell_open(
                |call| call.progress_token == *token,
                |call| {
                    call.record.first_event_us.get_or_insert(at.micros_since(call.asked_at));
                },
            );
        }
    }

    /// The head of the answer to a call has come, where each call has an exchange of its own behind the pipe.
    pub(crate) fn note_head(&self, id: &IdToken, status: u16, now: Tick) {
        let Role::Pipe { conversation, .. } = &self.role else { return };
        conversation.tell_open(
            |call| call.id == *id,
            |call| {
                call.record.http_status = Some(status);
                call.record.ttfb_us = Some(now.micros_since(call.asked_at));
            },
        );
    }

    /// A call has ended without an answer, while the pipe goes on.
    pub(crate) fn end_call(&mut self, id: &IdToken, http_status: Option<u16>, outcome: Outcome, now: Tick) {
        let Role::Pipe { conversation, .. } = &self.role else { return };
        let Some(mut call) = conversation.take_exact(id) else { return };
        call.record.http_status = http_status.or(call.record.http_status);
        let outcome = self.cancel_of(&call).map_or(outcome, Outcome::cancelled);
        self.complete(&mut call);
        self.finished.push_back(Finished { record: call.finish(outcome, now), answered_at: None });
    }
}
