//! Takes the chunks off an HTTP/1.1 body, strictly: no extensions, no trailers, CRLF only. Copies nothing.

/// A body that is not well-formed chunks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ChunkError {
    /// Something else where a hexadecimal digit or the end of the line must be.
    #[error("byte {0:#04x} in the size of a chunk")]
    Size(u8),
    /// A size line without digits, or one of more than 16.
    #[error("the size of a chunk is missing or too large")]
    SizeLength,
    /// Something else where CR or LF must be.
    #[error("byte {0:#04x} where a line must end")]
    LineEnd(u8),
}

/// Where in the coding the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { value: usize, digits: u8 },
    SizeLf { value: usize },
    Data { left: usize },
    DataCr,
    DataLf,
    LastCr,
    LastLf,
    Done,
}

/// The state between two reads.
#[derive(Debug)]
pub(crate) struct Dechunk(State);

impl Default for Dechunk {
    fn default() -> Self {
        Self(State::Size { value: 0, digits: 0 })
    }
}

impl Dechunk {
    /// The last chunk and its empty line have come.
    pub(crate) fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// Hands the data in `bytes` to `accept`; returns how many bytes were taken: all, unless the body ended before.
    pub(crate) fn take<E: From<ChunkError>>(
        &mut self,
        bytes: &[u8],
        mut accept: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut rest = bytes;
        while let Some(&byte) = rest.first()
            && !self.is_done()
        {
            if let State::Data { left } = self.0 {
                let (data, later) = rest.split_at(left.min(rest.len()));
                accept(data)?;
                rest = later;
                let left = left - data.len();
                self.0 = if left == 0 { State::DataCr } else { State::Data { left } };
            } else {
                self.0 = self.0.after(byte)?;
                rest = &rest[1..];
            }
        }
        Ok(bytes.len() - rest.len())
    }
}

impl State {
    /// The state after one byte of the coding itself.
    fn after(self, byte: u8) -> Result<Self, ChunkError> {
        match (self, byte) {
            (Self::Size { digits: 0 | 17.., .. }, b'\r') => Err(ChunkError::SizeLength),
            (Self::Size { value, .. }, b'\r') => Ok(Self::SizeLf { value }),
            (Self::Size { value, digits }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(ChunkError::Size(byte))?;
                let value = value.checked_mul(16).ok_or(ChunkError::SizeLength)? + digit as usize;
                Ok(Self::Size { value, digits: digits.saturating_add(1) })
            }
            (Self::SizeLf { value: 0 }, b'\n') => Ok(Self::LastCr),
            (Self::SizeLf { value }, b'\n') => Ok(Self::Data { left: value }),
            (Self::DataCr, b'\r') => Ok(Self::DataLf),
            (Self::DataLf, b'\n') => Ok(Self::Size { value: 0, digits: 0 }),
            (Self::LastCr, b'\r') => Ok(Self::LastLf),
            (Self::LastLf, b'\n') => Ok(Self::Done),
            _ => Err(ChunkError::LineEnd(byte)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let (mut chunks, mut data, mut taken) = (Dechunk::default(), Vec::new(), 0);
        for part in bytes.chunks(step) {
            taken += chunks.take(part, |bytes| {
                data.extend_from_slice(bytes);
                Ok::<_, ChunkError>(())
            })?;
        }
        Ok((data, taken, chunks.is_done()))
    }

    #[test]
    fn chunks_are_joined_however_they_are_cut() {
        let bytes = b"5\r\nhello\r\nA\r\n, world...\r\n0\r\n\r\n";
        for step in 1..=bytes.len() {
            assert_eq!(decode(bytes, step), Ok((b"hello, world...".to_vec(), bytes.len(), true)));
        }
    }

    #[test]
    fn bytes_after_the_last_chunk_are_not_taken() {
        assert_eq!(decode(b"1\r\nx\r\n0\r\n\r\nHTTP", 64), Ok((b"x".to_vec(), 11, true)));
    }

    #[test]
    fn anything_loose_is_refused() {
        assert_eq!(decode(b"\r\n", 64), Err(ChunkError::SizeLength));
        assert_eq!(decode(b"5;a=b\r\nhello", 64), Err(ChunkError::Size(b';')));
        assert_eq!(decode(b"5\nhello", 64), Err(ChunkError::Size(b'\n')));
        assert_eq!(decode(b"5\r\nhello!", 64), Err(ChunkError::LineEnd(b'!')));
        assert_eq!(decode(b"0\r\nTrailer: 1\r\n\r\n", 64), Err(ChunkError::LineEnd(b'T')));
        assert_eq!(decode(b"11111111111111111\r\n", 64), Err(ChunkError::SizeLength));
    }
}
