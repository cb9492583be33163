//! `deflate`: RFC 1950 (zlib) as the standard says, or bare RFC 1951, as some send under that name.

use super::Undecodable;
use flate2::{Decompress, FlushDecompress, Status};

/// A stream of RFC 1951, with or without the wrapping of RFC 1950: 43 KiB, window included.
pub(super) struct Inflate(Decompress);

impl Inflate {
    pub(super) fn new(zlib: bool) -> Self {
        Self(Decompress::new(zlib))
    }

    /// Expects another stream.
    pub(super) fn reset(&mut self) {
        self.0.reset(false);
    }

    /// How much was put out, and whether the stream has ended.
    pub(super) fn step(
        &mut self,
        input: &mut &[u8],
        output: &mut [u8],
    ) -> Result<(usize, bool), Undecodable> {
        let mut written = 0;
        // The library also stops where its window wraps around, with more to come.
        loop {
            let before = (self.0.total_in(), self.0.total_out());
            let rest = &mut output[written..];
            let status =
                self.0.decompress(input, rest, FlushDecompress::None).map_err(|_corrupt| Undecodable)?;
            let after = (self.0.total_in(), self.0.total_out());
            *input = &input[(after.0 - before.0) as usize..];
            written += (after.1 - before.1) as usize;
            let over = status == Status::StreamEnd;
            if over || before == after || written == output.len() {
                return Ok((written, over));
            }
        }
    }
}

/// What stands at the beginning is decided by its first two bytes.
#[derive(Default)]
pub(super) enum Deflate {
    #[default]
    Start,
    /// The first byte came alone.
    Second(u8),
    Stream(Inflate),
    /// The rest is not looked at.
    Over,
}

impl Deflate {
    pub(super) fn step(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Undecodable> {
        let first = match (&*self, *input) {
            (Self::Start, [first]) => {
                *self = Self::Second(*first);
                *input = &[];
                return Ok(0);
            }
            (Self::Start, [first, second, ..]) => {
                *self = Self::Stream(Inflate::new(is_zlib(*first, *second)));
                None
            }
            (Self::Second(first), [second, ..]) => {
                let first = *first;
                *self = Self::Stream(Inflate::new(is_zlib(first, *second)));
                Some(first)
            }
            _ => None,
        };
        if let (Self::Stream(inflate), Some(first)) = (&mut *self, first) {
            // One byte is never enough to put anything out, nor to end a stream.
            inflate.step(&mut &[first][..], output)?;
        }
        let Self::Stream(inflate) = self else {
            *input = &[];
            return Ok(0);
        };
        let (written, over) = inflate.step(input, output)?;
        if over {
            *self = Self::Over;
        }
        Ok(written)
    }
}

/// The check of RFC 1950, section 2.2: method 8, a window that exists, no dictionary, divisible by 31.
const fn is_zlib(first: u8, second: u8) -> bool {
    first & 0x0f == 8
        && first >> 4 <= 7
        && second & 0x20 == 0
        && u16::from_be_bytes([first, second]).is_multiple_of(31)
}
