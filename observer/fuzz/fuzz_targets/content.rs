//! The decoders of content codings. The first byte of the input chooses the coding, the second how the body is cut;
//! with an odd third byte the rest is a body as somebody may send it, with an even one it is the plain text.
//!
//! Nothing panics, nothing unpacks to more than is allowed, a cut does not matter, and what an encoder wrote is read
//! back, flushed or not, to the byte.

#![no_main]

use http::{HeaderMap, HeaderValue, header::CONTENT_ENCODING};
use libfuzzer_sys::fuzz_target;
use mcpmeter_observer::{Coding, ContentDecoder};
use mcpmeter_observer_fuzz::chunks;
use std::io::Write;

const CODINGS: [&str; 8] =
    ["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, gzip", "br, deflate", "gzip, gzip"];
/// The limits that the decoder documents.
const FREE_OUTPUT: usize = 1 << 20;
const MAX_RATIO: usize = 128;

fn decoder(coding: &'static str) -> Box<ContentDecoder> {
    let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(coding))]);
    match Coding::of(&headers) {
        Coding::Known(decoder) => decoder,
        other => panic!("{coding} is {other:?}"),
    }
}

fn decode(coding: &'static str, chunks: &[&[u8]]) -> (bool, Vec<u8>) {
    let (mut decoder, mut plain) = (decoder(coding), Vec::new());
    for chunk in chunks {
        if decoder.decode(chunk, |piece| plain.extend_from_slice(piece)).is_err() {
            return (false, plain);
        }
    }
    (true, plain)
}

/// Encodes in one coding; flushes in the middle where `flush` says so.
fn encode(coding: &str, plain: &[u8], flush: bool) -> Vec<u8> {
    let level = flate2::Compression::fast();
    let (start, end) = plain.split_at(plain.len() / 2);
    match coding {
        "gzip" => write(flate2::write::GzEncoder::new(Vec::new(), level), start, end, flush)
            .finish()
            .expect("memory"),
        "deflate" if flush => write(flate2::write::DeflateEncoder::new(Vec::new(), level), start, end, flush)
            .finish()
            .expect("memory"),
        "deflate" => write(flate2::write::ZlibEncoder::new(Vec::new(), level), start, end, flush)
            .finish()
            .expect("memory"),
        "br" => write(brotli::CompressorWriter::new(Vec::new(), 512, 1, 16), start, end, flush).into_inner(),
        _ => {
            let frame = |part: &[u8]| {
                let mut encoded = vec![0; zstd_safe::compress_bound(part.len()) + 64];
                let written = zstd_safe::compress(&mut encoded[..], part, 1).expect("room");
                encoded.truncate(written);
                encoded
            };
            if flush { [frame(start), frame(end)].concat() } else { frame(plain) }
        }
    }
}

fn write<W: Write>(mut encoder: W, start: &[u8], end: &[u8], flush: bool) -> W {
    encoder.write_all(start).expect("memory");
    if flush {
        encoder.flush().expect("memory");
    }
    encoder.write_all(end).expect("memory");
    encoder
}

fuzz_target!(|input: &[u8]| {
    let [coding, seed, mode, body @ ..] = input else { return };
    let coding = CODINGS[usize::from(*coding) % CODINGS.len()];
    if mode % 2 == 1 {
        let (whole, all) = decode(coding, &[body]);
        let (cut, pieces) = decode(coding, &chunks(body, *seed));
        assert!(all.len() <= FREE_OUTPUT + body.len() * MAX_RATIO);
        // In pieces a body may be given up sooner, never later.
        assert!(whole || !cut);
        assert!(if cut { pieces == all } else { all.starts_with(&pieces) || pieces.starts_with(&all) });
        return;
    }
    let flush = mode & 2 != 0;
    let encoded = coding.split(", ").fold(body.to_vec(), |plain, coding| encode(coding, &plain, flush));
    let (whole, plain) = decode(coding, &chunks(&encoded, *seed));
    assert!(whole && plain == body, "{coding}");
    // Cut off anywhere it is short, and not wrong.
    let (right, part) = decode(coding, &[&encoded[..encoded.len() * usize::from(*seed) / 256]]);
    assert!(right && body.starts_with(&part), "{coding}, cut off");
});
