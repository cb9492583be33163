//! Which characters a text has at all: one look at each byte, after which most rules need not look for anything.

/// What was seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glance {
    seen: u16,
    /// ASCII digits.
    pub(super) digits: usize,
}

/// Classes of bytes.
pub(super) const DIGIT: u16 = 1;
pub(super) const UPPER: u16 = 1 << 1;
pub(super) const AT: u16 = 1 << 2;
pub(super) const COLON: u16 = 1 << 3;
pub(super) const EQUALS: u16 = 1 << 4;
pub(super) const SLASH: u16 = 1 << 5;
pub(super) const HYPHEN: u16 = 1 << 6;
/// What may stand between a name and its value beside colons and equals signs.
pub(super) const BREAK: u16 = 1 << 7;
/// A backslash or a percent sign.
pub(super) const ESCAPE: u16 = 1 << 8;
/// Beyond ASCII.
pub(super) const WIDE: u16 = 1 << 9;

static CLASSES: [u16; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT,
            b'A'..=b'Z' => UPPER,
            b'@' => AT,
            b':' => COLON,
            b'=' => EQUALS,
            b'/' => SLASH,
            b'-' => HYPHEN,
            b' ' | b'\t' | b'"' | b'\'' | b'`' | b'>' => BREAK,
            b'\\' | b'%' => ESCAPE,
            0x80..=0xff => WIDE,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

impl Glance {
    pub(super) fn at(text: &str) -> Self {
        let (mut seen, mut digits) = (0, 0);
        for byte in text.bytes() {
            let class = CLASSES[usize::from(byte)];
            seen |= class;
            digits += usize::from(class & DIGIT);
        }
        Self { seen, digits }
    }

    /// Whether there is a byte of one of the classes.
    pub(super) const fn has(self, classes: u16) -> bool {
        self.seen & classes != 0
    }
}
