//! Where a line of the program goes (WIRE.md 6, "Legacy routing"): an answer to who has asked; progress to who wanted to
//! be told; what belongs to a task or a subscription to the stream of that; and the rest to one stream of the one client
//! it can be for.

use super::{
    super::message::{Edits, Message, is_batch},
    Client, Conversation, Delivery, Effect, Open, Pending, Purpose, SOLE_CLIENT, Stream,
};
use bytes::Bytes;
use mcpmeter_observer::{IdToken, Kind};
use std::ops::Range;

impl Conversation {
    /// A line of the program.
    pub(in super::super) fn hear(&mut self, line: &Bytes, effects: &mut Vec<Effect>) {
        let messages = Message::all_of(line);
        if is_batch(line)
            && let Some(stream) = self.sole_asker(&messages)
        {
            return self.hear_answers(line, &messages, stream, effects);
        }
        for message in &messages {
            self.hear_message(line, message, effects);
        }
    }

    /// The stream of a batch of nothing but answers for one client.
    fn sole_asker(&self, messages: &[Message<'_>]) -> Option<Stream> {
        let mut streams = messages.iter().map(|message| match message.kind() {
            Kind::Response => self.pending.get(&message.id_token()?).map(|pending| pending.stream),
            _ => None,
        });
        let first = streams.next()??;
        streams.all(|stream| stream == Some(first)).then_some(first)
    }

    /// A batch of answers stays one message.
    fn hear_answers(
        &mut self,
        line: &Bytes,
        messages: &[Message<'_>],
        stream: Stream,
        effects: &mut Vec<Effect>,
    ) {
        let mut edits = Edits::default();
        for message in messages {
            let pending = message.id_token().and_then(|id| self.settle(&id));
            if let Some((pending, place)) = pending.zip(message.id()).filter(|_| self.remaps) {
                edits.replace(place, pending.id);
            }
        }
        self.deliver_answer(stream, edits.apply(line, 0..line.len()), messages.len(), None, effects);
    }

    fn hear_message(&mut self, line: &Bytes, message: &Message<'_>, effects: &mut Vec<Effect>) {
        match message.kind() {
            Kind::Response => self.hear_answer(line, message, effects),
            Kind::Request => self.hear_request(line, message, effects),
            Kind::Notification => self.hear_notification(line, message, effects),
            Kind::Other => self.dropped.stray += 1,
        }
    }

    fn hear_answer(&mut self, line: &Bytes, message: &Message<'_>, effects: &mut Vec<Effect>) {
        let Some(pending) = self.find_pending(message).and_then(|id| self.settle(&id)) else {
            self.dropped.late += 1;
            return;
        };
        let mut edits = Edits::default();
        if self.remaps {
            let subscription = if pending.is_listen { message.subscription() } else { None };
            for place in message.id().into_iter().chain(subscription) {
                edits.replace(place, pending.id.clone());
            }
        }
        let code = message.is_error().then(|| message.error_code().unwrap_or_default());
        let answer = edits.apply(line, message.place());
        self.deliver_answer(pending.stream, answer, 1, code, effects);
    }

    /// By its id; a program that turns numbers into strings, or rounds them, means the only one it can mean.
    fn find_pending(&self, message: &Message<'_>) -> Option<IdToken> {
        let id = message.id_token()?;
        if self.pending.contains_key(&id) {
            return Some(id);
        }
        let mut loosely = self.pending.keys().filter(|open| open.loosely_equals(&id));
        loosely.next().filter(|_| loosely.next().is_none()).cloned()
    }

    fn settle(&mut self, id: &IdToken) -> Option<Pending> {
        let pending = self.pending.remove(id)?;
        self.forget_token(&pending, id);
        Some(pending)
    }

    fn deliver_answer(
        &mut self,
        stream: Stream,
        message: Bytes,
        answered: usize,
        error_code: Option<i64>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(open) = self.streams.get_mut(&stream) else {
            self.dropped.late += 1;
            return;
        };
        open.owed = open.owed.saturating_sub(answered);
        let is_last = open.owed == 0 && open.purpose == Purpose::Answers;
        effects.push(Effect::Deliver(stream, Delivery { message, is_answer: true, error_code, is_last }));
        if is_last {
            self.streams.remove(&stream);
            effects.push(Effect::Close(stream));
        }
    }

    /// The program asks its client. For one that is not there nobody answers.
    fn hear_request(&mut self, line: &Bytes, message: &Message<'_>, effects: &mut Vec<Effect>) {
        let Some((client, id)) = self.addressee(message).zip(message.id()) else {
            self.dropped.stray += 1;
            effects.extend(message.id().map(|id| Effect::Tell(nobody_answers(message.raw(id)))));
            return;
        };
        self.remember_asked(message.token(id), client);
        let stream = self.stream_of_task(message).or_else(|| self.newest_call(client));
        let stream = stream.or_else(|| self.unasked_stream(client)).or_else(|| self.newest_answers(client));
        self.deliver_or_keep(client, stream, line.slice(message.place()), effects);
    }

    fn hear_notification(&mut self, line: &Bytes, message: &Message<'_>, effects: &mut Vec<Effect>) {
        if message.is("notifications/progress") {
            return self.hear_progress(line, message, effects);
        }
        if let Some(place) = message.subscription() {
            return self.hear_subscribed(line, message, place, effects);
        }
        if message.is("notifications/cancelled")
            && let Some(place) = message.in_params(&[b"requestId"])
        {
            return self.hear_cancelled(line, message, place, effects);
        }
        let Some(client) = self.addressee(message).or_else(|| self.sole_exchange()) else {
            self.dropped.stray += 1;
            return;
        };
        let stream = self.stream_of_task(message).or_else(|| self.unasked_stream(client));
        let stream = stream.or_else(|| self.newest_answers(client));
        self.deliver_or_keep(client, stream, line.slice(message.place()), effects);
    }

    fn hear_progress(&mut self, line: &Bytes, message: &Message<'_>, effects: &mut Vec<Effect>) {
        let place = message.in_params(&[b"progressToken"]);
        let request = place.clone().and_then(|place| self.tokens.get(&message.token(place)));
        let Some((pending, place)) = request.and_then(|id| self.pending.get(id)).zip(place) else {
            // A task goes on when its call has been answered, and keeps its token (2025-11-25, basic/utilities/tasks).
            let stream = if self.remaps { None } else { self.unasked_stream(SOLE_CLIENT) };
            match stream {
                Some(stream) => self.deliver(stream, line.slice(message.place()), effects),
                None => self.dropped.late += 1,
            }
            return;
        };
        let mut edits = Edits::default();
        if let Some(token) = pending.token.as_ref().filter(|_| self.remaps) {
            edits.replace(place, token.clone());
        }
        let stream = pending.stream;
        self.deliver(stream, edits.apply(line, message.place()), effects);
    }

    /// Of a `subscriptions/listen`, whose id is the subscription's.
    fn hear_subscribed(
        &mut self,
        line: &Bytes,
        message: &Message<'_>,
        place: Range<usize>,
        effects: &mut Vec<Effect>,
    ) {
        let listen = self.pending.get(&message.token(place.clone())).filter(|pending| pending.is_listen);
        let Some(pending) = listen else {
            self.dropped.late += 1;
            return;
        };
        let stream = pending.stream;
        let message = self.in_words_of(pending, place, line, message);
        self.deliver(stream, message, effects);
    }

    /// The program ends a subscription of a client, or takes back what it has asked one.
    fn hear_cancelled(
        &mut self,
        line: &Bytes,
        message: &Message<'_>,
        place: Range<usize>,
        effects: &mut Vec<Effect>,
    ) {
        let id = message.token(place.clone());
        if let Some(client) = self.asked.remove(&id) {
            let stream = self.newest_call(client).or_else(|| self.unasked_stream(client));
            return self.deliver_or_keep(client, stream, line.slice(message.place()), effects);
        }
        let is_listen = self.pending.get(&id).is_some_and(|pending| pending.is_listen);
        let Some(pending) = is_listen.then(|| self.settle(&id)).flatten() else {
            self.dropped.stray += 1;
            return;
        };
        self.deliver(pending.stream, self.in_words_of(&pending, place, line, message), effects);
        if self.streams.remove(&pending.stream).is_some() {
            effects.push(Effect::Close(pending.stream));
        }
    }

    /// A message that names a request, by the id that its client knows.
    fn in_words_of(&self, pending: &Pending, id: Range<usize>, line: &Bytes, message: &Message<'_>) -> Bytes {
        let mut edits = Edits::default();
        if self.remaps {
            edits.replace(id, pending.id.clone());
        }
        edits.apply(line, message.place())
    }

    /// The one client that what is said unasked can be for: the program's only one. That a session has no stream at this
    /// moment does not mean that it was not meant.
    fn addressee(&self, message: &Message<'_>) -> Option<Client> {
        if let Some(stream) = self.stream_of_task(message) {
            return self.streams.get(&stream).map(|open| open.client);
        }
        if !self.remaps {
            return Some(SOLE_CLIENT);
        }
        let mut sessions = self.sessions.iter();
        sessions.next().filter(|_| sessions.next().is_none()).copied()
    }

    /// Without sessions: the only exchange that is open, if no other was while it is. What belongs to one is said before
    /// its answer.
    fn sole_exchange(&self) -> Option<Client> {
        let mut open = self.streams.values();
        let only = open.next().filter(|open| !open.is_crossed && open.purpose == Purpose::Answers)?;
        (self.sessions.is_empty() && open.next().is_none()).then_some(only.client)
    }

    fn stream_of_task(&self, message: &Message<'_>) -> Option<Stream> {
        let task = message.related_task()?;
        let waits = |pending: &&Pending| pending.task.as_deref() == Some(&*task);
        let stream = self.pending.values().find(waits)?.stream;
        self.streams.contains_key(&stream).then_some(stream)
    }

    fn newest_call(&self, client: Client) -> Option<Stream> {
        let calls = self.pending.values().filter(|pending| pending.client == client && pending.is_call);
        calls.map(|pending| pending.stream).filter(|stream| self.streams.contains_key(stream)).max()
    }

    fn newest_answers(&self, client: Client) -> Option<Stream> {
        self.newest(client, |purpose| purpose == Purpose::Answers)
    }

    fn unasked_stream(&self, client: Client) -> Option<Stream> {
        self.newest(client, |purpose| purpose != Purpose::Answers)
    }

    fn newest(&self, client: Client, wanted: impl Fn(Purpose) -> bool) -> Option<Stream> {
        let is_one = |open: &Open| open.client == client && wanted(open.purpose);
        self.streams.iter().rev().find(|(_, open)| is_one(open)).map(|(stream, _)| *stream)
    }

    fn deliver_or_keep(
        &mut self,
        client: Client,
        stream: Option<Stream>,
        message: Bytes,
        effects: &mut Vec<Effect>,
    ) {
        match stream {
            Some(stream) => self.deliver(stream, message, effects),
            None => self.dropped.stray += self.backlog.entry(client).or_default().keep(&message),
        }
    }

    fn deliver(&mut self, stream: Stream, message: Bytes, effects: &mut Vec<Effect>) {
        if self.streams.contains_key(&stream) {
            effects.push(Effect::Deliver(stream, Delivery::unasked(message)));
        } else {
            self.dropped.late += 1;
        }
    }
}

/// The program must not wait for ever.
fn nobody_answers(id: &[u8]) -> Bytes {
    let id = String::from_utf8_lossy(id);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no client can be asked"}}}}"#)
        .into()
}
