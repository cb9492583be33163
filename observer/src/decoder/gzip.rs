//! `gzip` (RFC 1952): any number of members, one after the other.

use super::{Undecodable, deflate::Inflate};

/// Bits of a member's flags that say which fields its header has.
const HAS_CHECKSUM: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;
/// Flags that no version defines.
const RESERVED: u8 = 0xe0;

/// Where in a member the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the ten bytes that every header begins with.
    Fixed(u8),
    /// In the two bytes of the extra field's length.
    ExtraLength(u8),
    /// Before that many bytes of the extra field.
    Extra(u16),
    /// In a text that a NUL ends.
    Name,
    Comment,
    /// In the header's own checksum, which nobody checks.
    Checksum(u8),
    Data,
    /// In the eight bytes behind the data: its checksum and its length.
    Trailer(u8),
    /// What follows the last member is padding; the rest is not looked at.
    Over,
}

/// Reads one body.
pub(super) struct Gzip {
    state: State,
    flags: u8,
    extra: u16,
    trailer: u64,
    crc: crc32fast::Hasher,
    /// Bytes of the member's data, modulo 2^32.
    length: u32,
    members: bool,
    inflate: Option<Inflate>,
}

impl Default for Gzip {
    fn default() -> Self {
        Self {
            state: State::Fixed(0),
            flags: 0,
            extra: 0,
            trailer: 0,
            crc: crc32fast::Hasher::new(),
            length: 0,
            members: false,
            inflate: None,
        }
    }
}

impl Gzip {
    pub(super) fn step(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Undecodable> {
        loop {
            if self.state == State::Data {
                let written = self.inflate(input, output)?;
                if written > 0 || input.is_empty() {
                    return Ok(written);
                }
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(0) };
            *input = rest;
            if self.state == State::Over {
                *input = &[];
            } else if self.state != State::Data {
                self.state = self.read_frame(byte)?;
            }
        }
    }

    fn inflate(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Undecodable> {
        let inflate = self.inflate.get_or_insert_with(|| Inflate::new(false));
        let (written, over) = inflate.step(input, output)?;
        self.crc.update(&output[..written]);
        self.length = self.length.wrapping_add(written as u32);
        if over {
            self.state = State::Trailer(0);
        }
        Ok(written)
    }

    /// Takes a byte of a header or trailer; gives what is next.
    fn read_frame(&mut self, byte: u8) -> Result<State, Undecodable> {
        Ok(match self.state {
            State::Fixed(at) => self.read_fixed(at, byte)?,
            State::ExtraLength(0) => {
                self.extra = u16::from(byte);
                State::ExtraLength(1)
            }
            State::ExtraLength(_) => self.behind_extra(self.extra | u16::from(byte) << 8),
            State::Extra(left) => self.behind_extra(left - 1),
            State::Name if byte == 0 => self.behind_name(),
            State::Comment if byte == 0 => self.behind_comment(),
            State::Checksum(0) => State::Checksum(1),
            State::Checksum(_) => State::Data,
            State::Trailer(at) => self.read_trailer(at, byte)?,
            same @ (State::Name | State::Comment | State::Data | State::Over) => same,
        })
    }

    fn read_fixed(&mut self, at: u8, byte: u8) -> Result<State, Undecodable> {
        let fits = match at {
            0 => byte == 0x1f,
            1 => byte == 0x8b,
            2 => byte == 8,
            3 => byte & RESERVED == 0,
            _ => true,
        };
        match at {
            _ if !fits && self.members => return Ok(State::Over),
            _ if !fits => return Err(Undecodable),
            3 => self.flags = byte,
            9 if self.flags & HAS_EXTRA != 0 => return Ok(State::ExtraLength(0)),
            9 => return Ok(self.behind_extra(0)),
            _ => {}
        }
        Ok(State::Fixed(at + 1))
    }

    const fn behind_extra(&self, left: u16) -> State {
        match left {
            0 if self.flags & HAS_NAME != 0 => State::Name,
            0 => self.behind_name(),
            left => State::Extra(left),
        }
    }

    const fn behind_name(&self) -> State {
        if self.flags & HAS_COMMENT != 0 { State::Comment } else { self.behind_comment() }
    }

    const fn behind_comment(&self) -> State {
        if self.flags & HAS_CHECKSUM != 0 { State::Checksum(0) } else { State::Data }
    }

    fn read_trailer(&mut self, at: u8, byte: u8) -> Result<State, Undecodable> {
        self.trailer = self.trailer >> 8 | u64::from(byte) << 56;
        if at < 7 {
            return Ok(State::Trailer(at + 1));
        }
        let crc = std::mem::take(&mut self.crc).finalize();
        let length = std::mem::take(&mut self.length);
        if self.trailer != u64::from(length) << 32 | u64::from(crc) {
            return Err(Undecodable);
        }
        self.members = true;
        if let Some(inflate) = &mut self.inflate {
            inflate.reset();
        }
        Ok(State::Fixed(0))
    }
}
