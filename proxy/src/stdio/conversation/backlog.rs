//! What a program has said unasked before its client has opened a stream on which it may be told. Bounded; the oldest
//! goes first.

use bytes::Bytes;
use std::collections::VecDeque;

/// Messages (WIRE.md 6).
const MESSAGES: usize = 256;
/// Their bytes together.
const BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Backlog {
    /// Keeps a message; returns how many had to go for it.
    pub(super) fn keep(&mut self, message: &[u8]) -> u64 {
        let mut gone = 0;
        if message.len() > BYTES {
            return 1;
        }
        while self.messages.len() >= MESSAGES || self.bytes + message.len() > BYTES {
            self.bytes -= self.messages.pop_front().map_or(0, |oldest| oldest.len());
            gone += 1;
        }
        self.bytes += message.len();
        // A copy: the message may be a slice of a much longer line.
        self.messages.push_back(Bytes::copy_from_slice(message));
        gone
    }

    pub(super) fn into_messages(self) -> VecDeque<Bytes> {
        self.messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_by_number_and_by_size() {
        let mut backlog = Backlog::default();
        let gone: u64 = (0..MESSAGES + 3).map(|number| backlog.keep(number.to_string().as_bytes())).sum();
        assert_eq!(gone, 3);
        assert_eq!(backlog.keep(&vec![b' '; BYTES + 1]), 1);
        assert_eq!(backlog.keep(&vec![b' '; BYTES]), MESSAGES as u64);
        assert_eq!(backlog.into_messages().len(), 1);
    }
}
