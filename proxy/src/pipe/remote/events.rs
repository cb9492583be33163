//! A stream of events, read to its end: the messages in it, and from where it could be resumed.

use super::{
    MAX_MESSAGE,
    line::{is_message, on_one_line},
};
use bytes::{Bytes, BytesMut};
use mcpmeter_observer::{Decoder, Item};
use std::time::Duration;

/// How long a reader waits before it comes back, where the stream has not said (HTML, 9.2.3: a few seconds).
const RETRY: Duration = Duration::from_secs(1);
/// Nobody is made to wait longer.
const MAX_RETRY: Duration = Duration::from_secs(60);

/// From where a stream goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct Mark {
    /// The last event's id.
    pub(super) id: Option<Bytes>,
    retry_ms: Option<u64>,
    /// Events so far.
    pub(super) events: u64,
}

impl Mark {
    /// How long to wait before it is resumed.
    pub(super) fn retry(&self) -> Duration {
        self.retry_ms.map_or(RETRY, Duration::from_millis).min(MAX_RETRY)
    }
}

/// Reads one stream.
#[derive(Default)]
pub(super) struct Events {
    decoder: Decoder,
    data: BytesMut,
}

/// An event is longer than [`MAX_MESSAGE`].
#[derive(Debug)]
pub(super) struct TooLong;

impl Events {
    /// Reads on; gives the messages that were completed, each on one line.
    pub(super) fn read(&mut self, mut bytes: &[u8], mark: &mut Mark) -> Result<Vec<Bytes>, TooLong> {
        let mut messages = Vec::new();
        while let Some(item) = self.decoder.next_item(&mut bytes) {
            match item {
                Item::Data(data) => {
                    if self.data.len() + data.len() > MAX_MESSAGE {
                        return Err(TooLong);
                    }
                    self.data.extend_from_slice(data);
                }
                Item::EventEnd => {
                    mark.events += 1;
                    if let Some(id) = self.decoder.id() {
                        mark.id = Some(Bytes::copy_from_slice(id)).filter(|id| !id.is_empty());
                    }
                    let data = std::mem::take(&mut self.data).freeze();
                    if self.decoder.is_message() && is_message(&data) {
                        messages.push(on_one_line(data));
                    }
                }
            }
        }
        mark.retry_ms = self.decoder.retry_ms().or(mark.retry_ms);
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_lines_and_leave_a_mark() {
        let (mut events, mut mark) = (Events::default(), Mark::default());
        let stream = b": hi\n\nid: 1\ndata:\n\nevent: endpoint\ndata: /x\n\nretry: 20\nid: 2\ndata: {\"a\":\ndata: 1}\n\ndata: x\n\n";
        let messages: Vec<_> =
            stream.chunks(3).flat_map(|piece| events.read(piece, &mut mark).expect("short")).collect();
        assert_eq!(messages, ["{\"a\": 1}"]);
        assert_eq!((mark.id.as_deref(), mark.retry()), (Some(b"2".as_slice()), Duration::from_millis(20)));
        assert_eq!(mark.events, 4);
    }
}
