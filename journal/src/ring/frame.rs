//! One record in a segment, and how to tell it from rubbish.
//!
//! ```text
//! frame = length of the record (u16) | CRC-32 of what follows and of the length (u32) | record
//! ```
//!
//! Little-endian. The CRC begins with a seed that differs from file to file and from generation to generation:
//! neither a frame of the segment's earlier life nor bytes that a user chose can pass for one.

use crc32fast::Hasher;
use mcpmeter_observer::CallRecord;

/// Bytes of a frame before its record.
pub(crate) const FRAME_HEAD: usize = 6;

/// What the CRCs of one generation of one segment begin with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed(u32);

impl Seed {
    /// The seed for a segment; `nonce` is the file's.
    pub(crate) fn new(nonce: u64, segment: usize, generation: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&nonce.to_le_bytes());
        hasher.update(&(segment as u64).to_le_bytes());
        hasher.update(&generation.to_le_bytes());
        Self(hasher.finalize())
    }

    fn crc(self, length: [u8; 2], record: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(&length);
        hasher.update(record);
        hasher.finalize()
    }
}

/// Writes the record's frame to the start of `room` and returns its length; `None` if it does not fit.
pub(crate) fn write(record: &CallRecord, seed: Seed, room: &mut [u8]) -> Option<usize> {
    let (head, body) = room.split_at_mut_checked(FRAME_HEAD)?;
    // The room is never larger than a segment, so that the length fits its field.
    let encoded = postcard::to_slice(record, body).ok()?;
    let length = u16::try_from(encoded.len()).ok()?.to_le_bytes();
    head[..2].copy_from_slice(&length);
    head[2..].copy_from_slice(&seed.crc(length, encoded).to_le_bytes());
    Some(FRAME_HEAD + encoded.len())
}

/// The records in the frames at the start of `bytes`, one after the other, until something else follows.
#[derive(Debug, Clone)]
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
    seed: Seed,
}

impl<'a> Frames<'a> {
    pub(crate) const fn new(bytes: &'a [u8], seed: Seed) -> Self {
        Self { rest: bytes, seed }
    }

    /// After the last frame: how many records lie behind it that are damaged, going by the lengths that they
    /// are said to have.
    pub(crate) fn count_damaged(&self) -> u64 {
        let (mut rest, mut records) = (self.rest, 0);
        while let Some((length, _)) = rest.split_first_chunk::<2>() {
            records += 1;
            let frame = FRAME_HEAD + usize::from(u16::from_le_bytes(*length));
            rest = rest.get(frame..).unwrap_or_default();
        }
        records
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<2>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let (record, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        // No record is empty, but fresh memory would make a frame of none once in 2³² seeds.
        if record.is_empty() || self.seed.crc(*length, record) != u32::from_le_bytes(*crc) {
            return None;
        }
        self.rest = rest;
        Some(record)
    }
}
