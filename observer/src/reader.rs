//! From the bytes of an answer's body to its messages, whatever the coding and the framing.
//!
//! A message of a JSON body is given when the body ends, so that its length is the body's whatever the
//! chunking; an element of an array at its end; a message in an SSE event at the event's end. Each comes with
//! the instant at which its last byte was read.

use crate::{
    call::Tick,
    decoder::{Coding, ContentDecoder},
    jsonrpc::{Message, Scanner},
    line::LineCut,
    sse::{Decoder, Item},
    word::Framing,
};
use http::{HeaderMap, header};

/// What was read next.
pub(crate) enum Read<'a> {
    /// A complete message, and when its last byte was read.
    Message { message: &'a Message, framing: Framing, bytes: u64, at: Tick },
    /// The end of an SSE event; `has_data` is false for one that only primes the stream.
    Event { id: Option<&'a [u8]>, has_data: bool },
    /// The stream is that of a legacy client, and this is where it shall post to.
    Endpoint(&'a [u8]),
    /// Bytes of an encoded body, decoded; they come before what was read of them.
    Decoded(&'a [u8]),
}

/// Longer endpoint values are no endpoints: no client could post to them.
const MAX_ENDPOINT: usize = 8192;

/// Reads one body.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Undoes the body's codings, if it has any.
    decoder: Option<Box<ContentDecoder>>,
    format: Format,
}

/// The framing of a body.
#[derive(Debug)]
enum Format {
    /// One JSON document.
    Json { scanner: Box<Scanner>, over_at: Option<Tick> },
    /// A stream of events.
    Sse(Box<Events>),
    /// A message a line.
    Lines(Box<Lines>),
    /// The first byte will tell, because the headers do not. Until then there is a scanner to spare, or none.
    Unknown(Option<Box<Scanner>>),
    /// Nothing that can be read, or that needs to be.
    Blind,
}

#[derive(Debug, Default)]
pub(crate) struct Lines {
    cut: LineCut,
    scanner: Scanner,
}

#[derive(Debug, Default)]
pub(crate) struct Events {
    decoder: Decoder,
    scanner: Scanner,
    bytes: u64,
    endpoint: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::BLIND
    }
}

impl Reader {
    /// Reads nothing.
    pub(crate) const BLIND: Self = Self { decoder: None, format: Format::Blind };

    /// Chosen by `Content-Encoding` and the essence of `Content-Type` (WIRE.md 3.2). A body in a coding that is not
    /// known is not read. A scanner that is spare and restarted saves making one.
    pub(crate) fn for_headers(headers: &HeaderMap, spare: Option<Box<Scanner>>) -> Self {
        let decoder = match Coding::of(headers) {
            Coding::Plain => None,
            Coding::Known(decoder) => Some(decoder),
            Coding::Unknown => return Self::BLIND,
        };
        Self { decoder, ..Self::for_plain(headers, spare) }
    }

    /// Reads the lines of a pipe.
    pub(crate) fn for_lines() -> Self {
        Self { decoder: None, format: Format::Lines(Box::default()) }
    }

    /// The same for headers without `Content-Encoding`.
    pub(crate) fn for_plain(headers: &HeaderMap, spare: Option<Box<Scanner>>) -> Self {
        Self { decoder: None, format: Format::for_headers(headers, spare) }
    }

    /// Its messages are held as a whole as well, up to so many bytes; 0 for none.
    pub(crate) fn keep_bodies(&mut self, limit: usize) {
        match &mut self.format {
            Format::Json { scanner, .. } => scanner.keep_bodies(limit),
            Format::Sse(events) => events.scanner.keep_bodies(limit),
            Format::Lines(lines) => lines.scanner.keep_bodies(limit),
            Format::Unknown(spare) if limit > 0 => spare.get_or_insert_default().keep_bodies(limit),
            Format::Unknown(spare) => *spare = None,
            Format::Blind => {}
        }
    }

    /// The body is in a form that is not read, or has turned out to be.
    pub(crate) const fn is_blind(&self) -> bool {
        matches!(self.format, Format::Blind)
    }

    /// The body is a stream of events, which may last for hours.
    pub(crate) const fn is_of_events(&self) -> bool {
        matches!(self.format, Format::Sse(_))
    }

    /// Reads on; `sink` is given what was completed, and when.
    pub(crate) fn read(&mut self, bytes: &[u8], now: Tick, mut sink: impl FnMut(Read<'_>)) {
        let Some(decoder) = &mut self.decoder else {
            return self.format.read(bytes, now, &mut sink);
        };
        let format = &mut self.format;
        let decoded = decoder.decode(bytes, |piece| {
            sink(Read::Decoded(piece));
            format.read(piece, now, &mut sink);
        });
        if decoded.is_err() {
            *self = Self::BLIND;
        }
    }

    /// The body has ended, or broken off. Says whether the last event lacked its blank line.
    pub(crate) fn finish(&mut self, now: Tick, sink: impl FnMut(Read<'_>)) -> bool {
        self.format.finish(now, sink)
    }
}

impl Format {
    fn for_headers(headers: &HeaderMap, spare: Option<Box<Scanner>>) -> Self {
        let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
            return Self::Unknown(spare);
        };
        let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii();
        if essence.eq_ignore_ascii_case(b"text/event-stream") {
            Self::Sse(Box::default())
        } else if essence.eq_ignore_ascii_case(b"application/json") {
            Self::json(spare)
        } else {
            Self::Unknown(spare)
        }
    }

    fn json(spare: Option<Box<Scanner>>) -> Self {
        Self::Json { scanner: spare.unwrap_or_default(), over_at: None }
    }

    fn read(&mut self, mut bytes: &[u8], now: Tick, mut sink: impl FnMut(Read<'_>)) {
        if let Self::Unknown(spare) = self
            && let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace())
        {
            *self = if matches!(first, b'{' | b'[' | 0xef) { Self::json(spare.take()) } else { Self::Blind };
        }
        match self {
            Self::Json { scanner, over_at } => {
                while let Some(message) = scanner.next_message(&mut bytes) {
                    if message.batch_index.is_some() {
                        let framing = Framing::BatchJson;
                        sink(Read::Message { message, framing, bytes: message.bytes, at: now });
                    }
                }
                if over_at.is_none() && scanner.is_over() {
                    *over_at = Some(now);
                }
            }
            Self::Sse(events) => events.read(bytes, now, sink),
            Self::Lines(lines) => lines.read(bytes, now, sink),
            Self::Unknown(_) | Self::Blind => {}
        }
    }

    fn finish(&mut self, now: Tick, mut sink: impl FnMut(Read<'_>)) -> bool {
        match self {
            Self::Json { scanner, over_at } => {
                let bytes = scanner.consumed();
                if let (Some(at), Some(message)) = (*over_at, scanner.single_message()) {
                    sink(Read::Message { message, framing: Framing::Json, bytes, at });
                }
                scanner.restart();
                false
            }
            Self::Sse(events) => events.decoder.is_inside_event() && events.end_event(now, sink),
            Self::Lines(lines) => lines.end_line(now, sink),
            Self::Unknown(_) | Self::Blind => false,
        }
    }
}

impl Lines {
    fn read(&mut self, mut bytes: &[u8], now: Tick, mut sink: impl FnMut(Read<'_>)) {
        while let Some(piece) = self.cut.next_piece(&mut bytes) {
            let mut rest = piece.bytes;
            while let Some(message) = self.scanner.next_message(&mut rest) {
                if message.batch_index.is_some() {
                    sink(Read::Message { message, framing: Framing::Line, bytes: message.bytes, at: now });
                }
            }
            if piece.is_last {
                self.end_line(now, &mut sink);
            }
        }
    }

    /// Gives out the message of the line that has just ended; never says that something was cut off.
    fn end_line(&mut self, now: Tick, mut sink: impl FnMut(Read<'_>)) -> bool {
        let bytes = self.cut.end();
        if let Some(message) = self.scanner.single_message() {
            sink(Read::Message { message, framing: Framing::Line, bytes, at: now });
        }
        self.scanner.restart();
        false
    }
}

impl Events {
    fn read(&mut self, mut bytes: &[u8], now: Tick, mut sink: impl FnMut(Read<'_>)) {
        while let Some(item) = self.decoder.next_item(&mut bytes) {
            match item {
                Item::Data(data) => self.read_data(data, now, &mut sink),
                Item::EventEnd => {
                    self.end_event(now, &mut sink);
                }
            }
        }
    }

    fn read_data(&mut self, mut data: &[u8], now: Tick, mut sink: impl FnMut(Read<'_>)) {
        self.bytes += data.len() as u64;
        if !self.decoder.is_message() {
            let room = MAX_ENDPOINT.saturating_sub(self.endpoint.len()).min(data.len());
            self.endpoint.extend_from_slice(&data[..room]);
            return;
        }
        while let Some(message) = self.scanner.next_message(&mut data) {
            if message.batch_index.is_some() {
                let framing = Framing::BatchSse;
                sink(Read::Message { message, framing, bytes: message.bytes, at: now });
            }
        }
    }

    /// Gives out the event that has just ended; says whether it held a message.
    fn end_event(&mut self, now: Tick, mut sink: impl FnMut(Read<'_>)) -> bool {
        sink(Read::Event { id: self.decoder.id(), has_data: self.bytes > 0 });
        if self.decoder.event() == b"endpoint" {
            sink(Read::Endpoint(&self.endpoint));
        }
        let message = self.scanner.single_message().filter(|_| self.decoder.is_message());
        let is_message = message.is_some();
        if let Some(message) = message {
            sink(Read::Message { message, framing: Framing::Sse, bytes: self.bytes, at: now });
        }
        self.endpoint.clear();
        self.scanner.restart();
        self.bytes = 0;
        is_message
    }
}
