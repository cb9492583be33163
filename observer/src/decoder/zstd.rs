//! `zstd` (RFC 8878, with the window of RFC 9659): any number of frames, one after the other.
//!
//! By the reference library, because the decoder in Rust (ruzstd) keeps a whole window back until the frame ends,
//! and the frame of an event stream ends with the stream.

use super::{MAX_WINDOW_LOG, Undecodable};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// Reads one body.
pub(super) struct Zstd(DCtx<'static>);

impl Zstd {
    pub(super) fn new() -> Result<Self, Undecodable> {
        let mut context = DCtx::try_create().ok_or(Undecodable)?;
        let limit = DParameter::WindowLogMax(MAX_WINDOW_LOG.into());
        context.set_parameter(limit).map_err(|_refused| Undecodable)?;
        Ok(Self(context))
    }

    pub(super) fn step(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Undecodable> {
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around(output);
        while source.pos() < input.len() || target.pos() == 0 {
            let before = (source.pos(), target.pos());
            self.0.decompress_stream(&mut target, &mut source).map_err(|_corrupt| Undecodable)?;
            if before == (source.pos(), target.pos()) || target.pos() == target.capacity() {
                break;
            }
        }
        let (read, written) = (source.pos(), target.pos());
        *input = &input[read..];
        Ok(written)
    }
}
