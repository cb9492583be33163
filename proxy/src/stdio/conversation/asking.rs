//! What a client says on its way to the program: requests are registered before the program can answer them, and ids and
//! tokens are exchanged where the program is shared.

use super::{
    super::message::{Edits, Message},
    Client, Conversation, Effect, Open, Pending, Purpose, Refused, Stream, number,
};
use bytes::Bytes;
use mcpmeter_observer::{IdToken, Kind};

impl Conversation {
    /// A client's line. `stream` is opened if answers are owed on it; returns whether they are. In a session of
    /// 2024-11-05, `stream` is the one that is open already.
    pub(in super::super) fn ask(
        &mut self,
        client: Client,
        stream: Stream,
        line: &Bytes,
        effects: &mut Vec<Effect>,
    ) -> Result<bool, Refused> {
        let messages = Message::all_of(line);
        self.check(client, &messages)?;
        let mut edits = Edits::default();
        let mut owed = 0;
        for message in &messages {
            match message.kind() {
                Kind::Request => {
                    self.register(client, stream, message, &mut edits);
                    owed += 1;
                }
                Kind::Notification => self.translate_cancel(client, message, &mut edits),
                Kind::Response if !self.is_awaited(client, message) => {
                    // By itself: whoever answers twice is told that it was taken.
                    self.dropped.stray += 1;
                    return Ok(false);
                }
                Kind::Response => self.note_answer(message),
                Kind::Other => {}
            }
        }
        if owed > 0 {
            self.open_answers(client, stream, owed);
        }
        effects.push(Effect::Tell(edits.apply(line, 0..line.len())));
        Ok(owed > 0)
    }

    fn open_answers(&mut self, client: Client, stream: Stream, owed: usize) {
        let is_crossed = self.streams.keys().any(|open| *open != stream);
        if is_crossed {
            self.streams.values_mut().for_each(|open| open.is_crossed = true);
        }
        let fresh = Open { client, purpose: Purpose::Answers, owed: 0, is_crossed };
        self.streams.entry(stream).or_insert(fresh).owed += owed;
    }

    /// Nothing is registered of what is refused.
    fn check(&self, client: Client, messages: &[Message<'_>]) -> Result<(), Refused> {
        if messages.is_empty() || messages.iter().any(|message| message.kind() == Kind::Other) {
            return Err(Refused::NoMessage);
        }
        let is_unasked =
            |message: &Message<'_>| message.kind() == Kind::Response && !self.is_awaited(client, message);
        if messages.len() > 1 && messages.iter().any(is_unasked) {
            return Err(Refused::NotAsked);
        }
        if self.remaps {
            // An id that we do not see is not exchanged, and could be another client's.
            let is_doubtful = messages.iter().any(Message::is_doubtful);
            return if is_doubtful { Err(Refused::Doubtful) } else { Ok(()) };
        }
        let ids =
            messages.iter().filter(|message| message.kind() == Kind::Request).filter_map(Message::id_token);
        let mut seen = Vec::new();
        for id in ids {
            if self.pending.contains_key(&id) || seen.contains(&id) {
                return Err(Refused::DuplicateId);
            }
            seen.push(id);
        }
        Ok(())
    }

    fn register(&mut self, client: Client, stream: Stream, message: &Message<'_>, edits: &mut Edits) {
        let Some(place) = message.id() else { return };
        let id = Bytes::copy_from_slice(message.raw(place.clone()));
        let token = message.wanted_token();
        let (own_id, own_token) = if self.remaps {
            let number = self.next;
            self.next += 1;
            edits.replace(place, number.to_string());
            if let Some(token) = &token {
                edits.replace(token.clone(), number.to_string());
            }
            let id = IdToken::of(number.to_string().as_bytes());
            (id.clone(), token.is_some().then_some(id))
        } else {
            (IdToken::of(&id), token.clone().map(|token| message.token(token)))
        };
        if let Some(token) = own_token {
            self.tokens.insert(token, own_id.clone());
        }
        let pending = Pending {
            client,
            stream,
            id,
            token: token.map(|token| Bytes::copy_from_slice(message.raw(token))),
            is_call: message.is("tools/call"),
            is_listen: message.is("subscriptions/listen"),
            task: message
                .is("tasks/result")
                .then(|| message.param_text(b"taskId"))
                .flatten()
                .map(|task| task.into_owned().into()),
        };
        self.pending.insert(own_id, pending);
    }

    /// What a client cancels has another id where the program is shared.
    fn translate_cancel(&self, client: Client, message: &Message<'_>, edits: &mut Edits) {
        if !self.remaps || !message.is("notifications/cancelled") {
            return;
        }
        let Some(place) = message.in_params(&[b"requestId"]) else { return };
        let wanted = message.token(place.clone());
        let mut of_client = self.pending.iter().filter(|(_, pending)| pending.client == client);
        // An id that is not in flight must not hit another client's: no request ever has the number 0.
        let own = of_client.find(|(_, pending)| IdToken::of(&pending.id) == wanted);
        edits.replace(place, own.map_or_else(|| "0".to_owned(), |(id, _)| number(id)));
    }

    /// Only who was asked may answer. A program of one session knows best what it has asked.
    fn is_awaited(&self, client: Client, message: &Message<'_>) -> bool {
        let asked = message.id_token().and_then(|id| self.asked.get(&id));
        !self.remaps || asked == Some(&client)
    }

    fn note_answer(&mut self, message: &Message<'_>) {
        message.id_token().map(|id| self.asked.remove(&id));
    }
}
