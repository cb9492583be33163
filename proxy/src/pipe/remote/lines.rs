//! The client's lines, whole, each with the bytes that came. The observer sees them piece by piece as they are read.

use super::{
    super::{
        client::{self, Input},
        recorder::Recorder,
    },
    MAX_MESSAGE,
};
use bytes::{Bytes, BytesMut};

/// Cuts what the client says into lines.
pub(super) struct Lines {
    input: Input,
    recorder: Recorder,
    buffer: Vec<u8>,
    held: BytesMut,
    /// Bytes at the beginning of `held` without a line feed.
    searched: usize,
    over: bool,
}

/// A line is longer than [`MAX_MESSAGE`].
#[derive(Debug)]
pub(super) struct TooLong;

impl Lines {
    pub(super) fn new(input: Input, recorder: Recorder) -> Self {
        let (buffer, held) = (client::buffer(), BytesMut::new());
        Self { input, recorder, buffer, held, searched: 0, over: false }
    }

    /// The next line without its end; `None` when the client has said everything.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.held[self.searched..]) {
                let mut line = self.held.split_to(self.searched + at + 1);
                self.searched = 0;
                line.truncate(line.len() - 1);
                return Ok(Some(line.freeze()));
            }
            self.searched = self.held.len();
            if self.over {
                let last = std::mem::take(&mut self.held).freeze();
                self.searched = 0;
                return Ok((!last.is_empty()).then_some(last));
            }
            if self.searched > MAX_MESSAGE {
                return Err(TooLong);
            }
            self.read().await;
        }
    }

    async fn read(&mut self) {
        let bytes = self.input.read(&mut self.buffer).await;
        if bytes == 0 {
            self.over = true;
            self.recorder.tell(|pipe, now| pipe.handle_client_end(now));
        } else {
            self.recorder.hear_client(&self.buffer[..bytes]);
            self.held.extend_from_slice(&self.buffer[..bytes]);
        }
    }
}
