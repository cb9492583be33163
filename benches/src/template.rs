//! Bytes rendered once, with places where a call's id goes. The upstream answers from them and the load generator
//! compares every answer with them, byte for byte, without ever holding a whole answer.

use bytes::Bytes;

/// A JSON-RPC id of the bench. Always ten digits, so that every rendering of a template has the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId(u64);

impl CallId {
    /// Bytes of every id on the wire.
    pub(crate) const DIGITS: usize = 10;
    const FIRST: u64 = 1_000_000_000;

    /// The id of the `n`th call of a run; ids are never used twice, as the specification asks within a session.
    pub(crate) fn nth(n: u64) -> Self {
        Self(Self::FIRST + n % (9 * Self::FIRST))
    }

    /// The id as it stands on the wire.
    pub(crate) fn digits(self) -> [u8; Self::DIGITS] {
        let mut digits = [b'0'; Self::DIGITS];
        let mut rest = self.0;
        for digit in digits.iter_mut().rev() {
            *digit += u8::try_from(rest % 10).expect("a remainder of ten fits");
            rest /= 10;
        }
        digits
    }
}

/// Fixed bytes; the id stands between any two neighbouring pieces.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pieces: Vec<Bytes>,
}

impl Template {
    /// Splits `text` at each `{id}`.
    pub(crate) fn parse(text: &str) -> Self {
        Self { pieces: text.split("{id}").map(|piece| Bytes::copy_from_slice(piece.as_bytes())).collect() }
    }

    /// Bytes of a rendering, the same for every id.
    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum::<usize>() + (self.pieces.len() - 1) * CallId::DIGITS
    }

    /// Appends the rendering for `id`.
    pub(crate) fn render(&self, id: &[u8; CallId::DIGITS], out: &mut Vec<u8>) {
        for (position, piece) in self.pieces.iter().enumerate() {
            if position > 0 {
                out.extend_from_slice(id);
            }
            out.extend_from_slice(piece);
        }
    }

    /// The rendering in two parts, the second shared and not copied: everything after the last id.
    pub(crate) fn render_shared(&self, id: &[u8; CallId::DIGITS]) -> (Bytes, Bytes) {
        let last = self.pieces.last().expect("splitting gives at least one piece").clone();
        let mut front = Vec::with_capacity(self.len() - last.len());
        for piece in &self.pieces[..self.pieces.len() - 1] {
            front.extend_from_slice(piece);
            front.extend_from_slice(id);
        }
        (front.into(), last)
    }

    /// Starts comparing an answer with the rendering for `id`.
    pub(crate) fn compare(&self, id: CallId) -> Comparison<'_> {
        Comparison { template: self, id: id.digits(), part: 0, offset: 0 }
    }
}

/// An answer differs from what the upstream sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// The id of the answer is not the id of the call.
    #[error("the answer carries another id: {0:?}")]
    Id(String),
    /// Some other byte differs.
    #[error("the answer differs from what the upstream sent, near {0:?}")]
    Bytes(String),
    /// Bytes after the end.
    #[error("the answer is longer than what the upstream sent")]
    TooLong,
    /// The end came early.
    #[error("the answer is shorter than what the upstream sent")]
    TooShort,
}

/// The comparison of one answer, fed piecemeal.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    template: &'a Template,
    id: [u8; CallId::DIGITS],
    /// Even parts are pieces of the template, odd ones the id between them.
    part: usize,
    offset: usize,
}

impl Comparison<'_> {
    /// Compares the next bytes of the answer.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Mismatch> {
        while !bytes.is_empty() {
            let expected = &self.current().ok_or(Mismatch::TooLong)?[self.offset..];
            let length = expected.len().min(bytes.len());
            let (now, later) = bytes.split_at(length);
            if now != &expected[..length] {
                return Err(self.describe(now));
            }
            self.offset += length;
            bytes = later;
            self.skip_finished();
        }
        Ok(())
    }

    /// Says whether everything has come.
    pub(crate) fn finish(mut self) -> Result<(), Mismatch> {
        self.skip_finished();
        if self.current().is_none() { Ok(()) } else { Err(Mismatch::TooShort) }
    }

    fn current(&self) -> Option<&[u8]> {
        let piece = self.template.pieces.get(self.part.div_ceil(2))?;
        Some(if self.part.is_multiple_of(2) { piece } else { &self.id })
    }

    fn skip_finished(&mut self) {
        while self.current().is_some_and(|part| part.len() == self.offset) {
            self.part += 1;
            self.offset = 0;
        }
    }

    fn describe(&self, found: &[u8]) -> Mismatch {
        let excerpt = String::from_utf8_lossy(&found[..found.len().min(80)]).into_owned();
        if self.part.is_multiple_of(2) { Mismatch::Bytes(excerpt) } else { Mismatch::Id(excerpt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &Template, n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        template.render(&CallId::nth(n).digits(), &mut out);
        out
    }

    #[test]
    fn a_rendering_is_accepted_however_it_is_cut() {
        let template = Template::parse("{id} a {id}{id} b");
        let bytes = rendered(&template, 7);
        assert_eq!(bytes, b"1000000007 a 10000000071000000007 b");
        assert_eq!(bytes.len(), template.len());
        for step in 1..=bytes.len() {
            let mut comparison = template.compare(CallId::nth(7));
            bytes.chunks(step).for_each(|chunk| comparison.feed(chunk).unwrap());
            comparison.finish().unwrap();
        }
    }

    #[test]
    fn two_shared_parts_are_the_same_rendering() {
        let template = Template::parse("x{id}y{id}");
        let (front, back) = template.render_shared(&CallId::nth(3).digits());
        assert_eq!([front, back].concat(), rendered(&template, 3));
    }

    #[test]
    fn another_id_another_byte_and_another_length_are_told_apart() {
        let template = Template::parse("a{id}b");
        let feed = |bytes: &[u8]| {
            let mut comparison = template.compare(CallId::nth(1));
            comparison.feed(bytes).and_then(|()| comparison.finish())
        };
        assert_eq!(feed(b"a1000000001b"), Ok(()));
        assert!(matches!(feed(b"a1000000002b"), Err(Mismatch::Id(_))));
        assert!(matches!(feed(b"a1000000001c"), Err(Mismatch::Bytes(_))));
        assert_eq!(feed(b"a1000000001bb"), Err(Mismatch::TooLong));
        assert_eq!(feed(b"a1000000001"), Err(Mismatch::TooShort));
    }
}
