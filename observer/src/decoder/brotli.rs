//! `br` (RFC 7932).

use super::{MAX_WINDOW_LOG, Undecodable};
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// Reads one body. The window grows with what was decoded, up to what the stream's first byte asks for.
#[derive(Default)]
pub(super) struct Brotli {
    state: Option<State>,
    over: bool,
}

impl Brotli {
    pub(super) fn step(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Undecodable> {
        if self.over {
            *input = &[];
        }
        let Some(first) = input.first().or(self.state.as_ref().map(|_| &0)).filter(|_| !self.over) else {
            return Ok(0);
        };
        if self.state.is_none() && window_log(*first) > MAX_WINDOW_LOG {
            return Err(Undecodable);
        }
        let state = self.state.get_or_insert_with(|| {
            let alloc = StandardAlloc::default();
            State::new_strict(alloc, alloc, alloc)
        });
        let (mut available_in, mut read) = (input.len(), 0);
        let (mut available_out, mut written) = (output.len(), 0);
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut read,
            input,
            &mut available_out,
            &mut written,
            output,
            &mut 0,
            state,
        );
        *input = &input[read..];
        match result {
            BrotliResult::ResultFailure => return Err(Undecodable),
            BrotliResult::ResultSuccess => {
                self.over = true;
                self.state = None;
            }
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(written)
    }
}

/// The window that the first byte of a stream asks for, as a power of two (RFC 7932, section 9.1).
const fn window_log(first: u8) -> u8 {
    match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        (_, 0, small) => 8 + small,
        (_, large, _) => 17 + large,
    }
}
