//! The decoder of event streams. The first byte of the input says how the rest, the stream, is cut.
//!
//! Any cut gives the same events, and they are those that a decoder finds which has the whole stream before it and
//! follows the words of the standard (WHATWG HTML, section 9.2.6).

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpmeter_observer::{Decoder, Item};
use mcpmeter_observer_fuzz::chunks;

/// Longer names and ids are cut.
const CAP: usize = 1024;

#[derive(Debug, PartialEq, Default)]
struct Event {
    name: Vec<u8>,
    id: Option<Vec<u8>>,
    data: Vec<u8>,
}

fn decode(chunks: &[&[u8]]) -> Vec<Event> {
    let mut decoder = Decoder::default();
    let (mut events, mut data) = (Vec::new(), Vec::new());
    for mut chunk in chunks.iter().copied() {
        while let Some(item) = decoder.next_item(&mut chunk) {
            match item {
                Item::Data(piece) => data.extend_from_slice(piece),
                Item::EventEnd => events.push(Event {
                    name: decoder.event().to_vec(),
                    id: decoder.id().map(<[u8]>::to_vec),
                    data: std::mem::take(&mut data),
                }),
            }
        }
        assert!(chunk.is_empty());
    }
    events
}

/// The lines that have an end.
fn lines(stream: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        lines.push(&rest[..at]);
        let skipped = if rest[at..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[at + skipped..];
    }
    lines
}

fn decode_naively(stream: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut event = Event::default();
    let (mut has_fields, mut has_data) = (false, false);
    let capped = |value: &[u8]| value[..value.len().min(CAP)].to_vec();
    for line in lines(stream) {
        if line.is_empty() {
            if std::mem::take(&mut has_fields) {
                events.push(std::mem::take(&mut event));
            }
            has_data = false;
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = colon.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if std::mem::replace(&mut has_data, true) {
                    event.data.push(b'\n');
                }
                event.data.extend_from_slice(value);
            }
            b"event" => event.name = capped(value),
            b"id" if !value.contains(&0) => event.id = Some(capped(value)),
            b"id" => {}
            _ => continue,
        }
        has_fields = true;
    }
    events
}

fuzz_target!(|input: &[u8]| {
    let Some((seed, stream)) = input.split_first() else { return };
    let whole = decode(&[stream]);
    assert_eq!(decode(&chunks(stream, *seed)), whole);
    assert_eq!(whole, decode_naively(stream));
});
