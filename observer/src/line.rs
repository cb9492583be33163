//! Cuts a stream of bytes into lines, piece by piece: whoever reads them sees every byte as it comes, and no line is kept.
//!
//! A line ends with a line feed; a carriage return before it belongs to neither (MCP, stdio transport: messages are
//! delimited by newlines, and some servers write `\r\n`).

/// Where a stream is within its line.
#[derive(Debug, Default)]
pub(crate) struct LineCut {
    /// Bytes of the line so far, its end not counted.
    bytes: u64,
    /// The last byte was a carriage return.
    after_cr: bool,
}

/// A piece of one line.
pub(crate) struct Piece<'a> {
    /// May hold the carriage return of the line's end, which is blank to a JSON reader.
    pub(crate) bytes: &'a [u8],
    /// The line ends behind it; [`LineCut::end`] is to be called.
    pub(crate) is_last: bool,
}

impl LineCut {
    /// The next piece of the input; `None` when all of it is consumed.
    pub(crate) fn next_piece<'a>(&mut self, input: &mut &'a [u8]) -> Option<Piece<'a>> {
        if input.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', input);
        let (bytes, rest) = match end {
            Some(end) => (&input[..end], &input[end + 1..]),
            None => (*input, &[][..]),
        };
        *input = rest;
        self.bytes += bytes.len() as u64;
        if let Some(last) = bytes.last() {
            self.after_cr = *last == b'\r';
        }
        Some(Piece { bytes, is_last: end.is_some() })
    }

    /// Whether nothing of the line has been seen yet.
    pub(crate) const fn is_at_start(&self) -> bool {
        self.bytes == 0
    }

    /// The line is over; gives its bytes without its end.
    pub(crate) fn end(&mut self) -> u64 {
        let Self { bytes, after_cr } = std::mem::take(self);
        bytes - u64::from(after_cr)
    }
}
