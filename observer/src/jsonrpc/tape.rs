//! The bytes of one message as they came, up to a limit: of what a message says a scanner keeps leaves, and this only where
//! somebody wants the whole of it. Holds one message at a time, and no memory between two.

/// The message that is being read, or was read last.
#[derive(Debug, Default)]
pub(super) struct Tape {
    /// The most bytes that are held.
    limit: usize,
    held: Vec<u8>,
    /// Of the message so far, held or not.
    seen: u64,
    /// The message has begun and not ended.
    runs: bool,
    /// The message began in the piece that is being read.
    is_fresh: bool,
}

/// What a tape holds of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taped<'a> {
    /// Its beginning, or all of it.
    pub(crate) held: &'a [u8],
    /// Its length as far as it was read.
    pub(crate) bytes: u64,
    /// It is longer than what is held, or was never read to its end.
    pub(crate) is_cut: bool,
}

impl Tape {
    pub(super) fn new(limit: usize) -> Box<Self> {
        Box::new(Self { limit, ..Self::default() })
    }

    /// A message begins in the piece that is read next.
    pub(super) fn begin(&mut self) {
        self.held.clear();
        self.seen = 0;
        (self.runs, self.is_fresh) = (true, true);
    }

    /// What was read. `before` are bytes of it in front of a message that begins in it.
    pub(super) fn read(&mut self, piece: &[u8], before: u64) {
        if !self.runs {
            return;
        }
        let skipped = if std::mem::take(&mut self.is_fresh) { before as usize } else { 0 };
        let piece = piece.get(skipped..).unwrap_or_default();
        self.seen += piece.len() as u64;
        let room = self.limit.saturating_sub(self.held.len()).min(piece.len());
        self.held.extend_from_slice(&piece[..room]);
    }

    /// The message is complete.
    pub(super) const fn end(&mut self) {
        self.runs = false;
    }

    /// The message is no longer asked for.
    pub(super) fn release(&mut self) {
        *self = Self { limit: self.limit, ..Self::default() };
    }

    pub(super) fn taped(&self) -> Option<Taped<'_>> {
        let is_cut = self.runs || self.seen > self.held.len() as u64;
        (self.seen > 0).then_some(Taped { held: &self.held, bytes: self.seen, is_cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::Scanner;

    /// What is taped of each message, with its length and whether it was cut.
    fn taped(document: &[u8], chunk: usize, limit: usize) -> Vec<(String, u64, bool)> {
        let mut scanner = Scanner::default();
        scanner.keep_bodies(limit);
        let mut found = Vec::new();
        for mut piece in document.chunks(chunk) {
            while let Some(message) = scanner.next_message(&mut piece) {
                let taped = message.taped().expect("a message was read");
                found.push((String::from_utf8_lossy(taped.held).into_owned(), taped.bytes, taped.is_cut));
            }
        }
        found
    }

    #[test]
    fn each_message_of_a_batch_is_held_by_itself_in_any_pieces() {
        let batch = br#" [1, "{", {"id":1,"a":{"b":"}"}} , {"id":2},[{"id":9}],{"id":"\"3"}] "#;
        let whole = |text: &str| (text.to_owned(), text.len() as u64, false);
        let expected = [whole(r#"{"id":1,"a":{"b":"}"}}"#), whole(r#"{"id":2}"#), whole(r#"{"id":"\"3"}"#)];
        for chunk in 1..=batch.len() {
            assert_eq!(taped(batch, chunk, 100), expected, "in pieces of {chunk}");
        }
    }

    #[test]
    fn no_more_than_the_limit_is_held_and_the_length_is_told() {
        let message = format!(r#"{{"id":1,"params":{{"text":"{}"}}}}"#, "x".repeat(100_000));
        for chunk in [1, 7, 64 << 10, message.len()] {
            let [(held, bytes, is_cut)] = &taped(message.as_bytes(), chunk, 50)[..] else { panic!("one") };
            assert_eq!((&**held, *bytes, *is_cut), (&message[..50], message.len() as u64, true));
        }
    }

    #[test]
    fn a_message_without_its_end_is_cut_and_nothing_is_held_between_documents() {
        let mut scanner = Scanner::default();
        scanner.keep_bodies(100);
        let mut piece = &b"{\"id\":1,\"meth"[..];
        assert!(scanner.next_message(&mut piece).is_none());
        let taped = scanner.partial_message().and_then(|message| message.taped()).expect("half of it");
        assert_eq!((taped.held, taped.bytes, taped.is_cut), (&b"{\"id\":1,\"meth"[..], 13, true));
        scanner.restart();
        let mut tape = Tape::new(10);
        tape.begin();
        tape.read(b"{}", 0);
        tape.release();
        assert_eq!((tape.held.capacity(), tape.taped()), (0, None));
    }
}
