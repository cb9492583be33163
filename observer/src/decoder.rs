//! Undoes `Content-Encoding` (RFC 9110, section 8.4) on the observer's copy of a body: encoded bytes in any
//! chunking in, pieces of the plain body out, each as soon as the encoder flushed it.
//!
//! The bytes that are forwarded never come by here. What is decoded is never kept: it is handed on in pieces of
//! [`PIECE`] bytes. A decoder's memory is bounded by the largest window it accepts ([`MAX_WINDOW_LOG`]) and its
//! work by what was transferred ([`MAX_RATIO`]); beyond either, and at the first byte that is not as its coding
//! wants it, it gives up for good.

mod brotli;
mod deflate;
mod gzip;
#[cfg(test)]
mod tests;
mod zstd;

use http::{HeaderMap, header};
use std::fmt;

/// Bytes that are handed on at once.
const PIECE: usize = 8 << 10;
/// Windows up to 8 MiB: what RFC 9659 allows to zstd. Brotli knows 16 MiB too, but its libraries use 4 MiB.
const MAX_WINDOW_LOG: u8 = 23;
/// What may always be decoded of a body, however few bytes it came in; about a millisecond of work.
const FREE_OUTPUT: u64 = 1 << 20;
/// What may be decoded beyond that for each byte transferred. JSON is seldom packed 20 times smaller; a gzip bomb
/// is, 1,030 times, and the other codings know no limit.
const MAX_RATIO: u64 = 128;
/// Codings on top of each other that are undone.
const MAX_LAYERS: usize = 3;

/// The body cannot be read (on): it is corrupt, wants too large a window, or unpacks to too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecodable;

/// What a message's headers say about the coding of its body.
#[derive(Debug, Default)]
pub enum Coding {
    /// The body is as it is.
    #[default]
    Plain,
    /// Its codings are known.
    Known(Box<ContentDecoder>),
    /// One of its codings is not, or they are too many.
    Unknown,
}

impl Coding {
    /// From `Content-Encoding`, which may come several times and list several codings.
    pub fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::CONTENT_ENCODING).iter();
        let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        let mut layers = Vec::new();
        for name in names.map(<[u8]>::trim_ascii) {
            match Algorithm::named(name) {
                Some(algorithm) if layers.len() < MAX_LAYERS => layers.push(Layer::Unused(algorithm)),
                None if name.is_empty() || name.eq_ignore_ascii_case(b"identity") => {}
                _ => return Self::Unknown,
            }
        }
        if layers.is_empty() {
            return Self::Plain;
        }
        // They are listed in the order in which they were applied.
        layers.reverse();
        Self::Known(Box::new(ContentDecoder { layers, transferred: 0, produced: 0 }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Algorithm {
    fn named(name: &[u8]) -> Option<Self> {
        const NAMES: [(&[u8], Algorithm); 5] = [
            (b"gzip", Algorithm::Gzip),
            (b"x-gzip", Algorithm::Gzip),
            (b"deflate", Algorithm::Deflate),
            (b"br", Algorithm::Brotli),
            (b"zstd", Algorithm::Zstd),
        ];
        NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, algorithm)| *algorithm)
    }
}

/// One coding of a body. Its memory is only taken when the first byte comes: a stream may be silent for hours.
enum Layer {
    Unused(Algorithm),
    Gzip(Box<gzip::Gzip>),
    Deflate(Box<deflate::Deflate>),
    Brotli(Box<brotli::Brotli>),
    Zstd(zstd::Zstd),
}

impl Layer {
    fn begin(algorithm: Algorithm) -> Result<Self, Undecodable> {
        Ok(match algorithm {
            Algorithm::Gzip => Self::Gzip(Box::default()),
            Algorithm::Deflate => Self::Deflate(Box::default()),
            Algorithm::Brotli => Self::Brotli(Box::default()),
            Algorithm::Zstd => Self::Zstd(zstd::Zstd::new()?),
        })
    }

    /// Consumes input until it is used up or the output is full, and says how much was put out. A full output can
    /// mean that there is more to come without further input.
    fn step(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Undecodable> {
        match self {
            Self::Unused(algorithm) => {
                *self = Self::begin(*algorithm)?;
                self.step(input, output)
            }
            Self::Gzip(gzip) => gzip.step(input, output),
            Self::Deflate(deflate) => deflate.step(input, output),
            Self::Brotli(brotli) => brotli.step(input, output),
            Self::Zstd(zstd) => zstd.step(input, output),
        }
    }
}

/// Reads one encoded body.
pub struct ContentDecoder {
    /// The coding that was applied last comes first. Empty when the decoder has given up.
    layers: Vec<Layer>,
    transferred: u64,
    /// By all layers together.
    produced: u64,
}

impl fmt::Debug for ContentDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layers, transferred, produced } = self;
        write!(f, "ContentDecoder({} layers, {transferred} bytes to {produced})", layers.len())
    }
}

impl ContentDecoder {
    /// Decodes what was read next; `sink` is given the plain bytes, piece by piece.
    ///
    /// # Errors
    ///
    /// When the body cannot be read on. What `sink` was given before is right; from then on nothing is decoded any
    /// more, and the memory is free.
    pub fn decode(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) -> Result<(), Undecodable> {
        if self.layers.is_empty() {
            return Err(Undecodable);
        }
        self.transferred = self.transferred.saturating_add(input.len() as u64);
        let limit = FREE_OUTPUT.saturating_add(self.transferred.saturating_mul(MAX_RATIO));
        let mut budget = limit.saturating_sub(self.produced);
        let available = budget;
        let decoded = run(&mut self.layers, input, &mut budget, &mut sink);
        self.produced += available - budget;
        if decoded.is_err() {
            self.layers = Vec::new();
        }
        decoded
    }
}

/// Sends input through the layers. `budget` is how many bytes they may put out.
fn run(
    layers: &mut [Layer],
    mut input: &[u8],
    budget: &mut u64,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<(), Undecodable> {
    let Some((layer, inner)) = layers.split_first_mut() else {
        sink(input);
        return Ok(());
    };
    let mut piece = [0; PIECE];
    while !input.is_empty() {
        // A layer that has filled a piece is asked again: it may hold more than the input that is left.
        let mut written = PIECE;
        while written == PIECE {
            let before = input.len();
            written = layer.step(&mut input, &mut piece)?;
            *budget = budget.checked_sub(written as u64).ok_or(Undecodable)?;
            if written > 0 {
                run(inner, &piece[..written], budget, sink)?;
            } else if input.len() == before && before > 0 {
                return Err(Undecodable);
            }
        }
    }
    Ok(())
}
