//! Everything that one end of a connection has received, cut into HTTP/1.1 messages. Knows where messages end and
//! nothing else of HTTP; never drops, changes or interprets a byte of a head or a body.

/// How the other side ended the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a FIN.
    Closed,
    /// With a reset.
    Reset,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// More may come.
    Open,
    /// It ended as its framing promised.
    Complete,
    /// The connection ended before.
    Cut,
}

/// A message as far as it has arrived.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Start line and headers, with the empty line behind them.
    pub(crate) head: Vec<u8>,
    /// The body without the framing of its chunks.
    pub(crate) body: Vec<u8>,
    /// The lines behind the last chunk.
    pub(crate) trailers: Vec<u8>,
    /// Whether more is to come.
    pub(crate) ending: Ending,
}

/// Where the next byte belongs.
#[derive(Debug, Clone, Copy)]
enum Place {
    Head,
    /// A body of which this much is missing.
    Length(usize),
    ChunkSize,
    /// A chunk of which this much is missing, and the end of its line.
    Chunk(usize),
    /// Behind the last chunk.
    Trailers,
    /// A body that ends with the connection.
    UntilClose,
}

/// What one end has received.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) messages: Vec<Message>,
    pub(crate) end: Option<End>,
    /// Bytes that are not in a message yet.
    rest: Vec<u8>,
    place: Place,
    is_client: bool,
    /// A client's last request was a HEAD, whose answer has no body whatever it says.
    asked_for_head: bool,
}

impl Inbox {
    /// Of a client, which receives responses, or of a server.
    pub(crate) const fn new(is_client: bool) -> Self {
        Self {
            messages: Vec::new(),
            end: None,
            rest: Vec::new(),
            place: Place::Head,
            is_client,
            asked_for_head: false,
        }
    }

    /// This end sends something, of which it depends where the answer ends.
    pub(crate) fn sends(&mut self, bytes: &[u8]) {
        self.asked_for_head = self.is_client && bytes.starts_with(b"HEAD ");
    }

    /// More bytes have come.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while !self.rest.is_empty() && self.advance() {}
    }

    /// The other side has ended.
    pub(crate) fn finish(&mut self, end: End) {
        self.end = Some(end);
        let until_close = matches!(self.place, Place::UntilClose) && end == End::Closed;
        if let Some(last) = self.messages.last_mut().filter(|last| last.ending == Ending::Open) {
            last.ending = if until_close { Ending::Complete } else { Ending::Cut };
        }
    }

    fn advance(&mut self) -> bool {
        match self.place {
            Place::Head => match memchr::memmem::find(&self.rest, b"\r\n\r\n") {
                Some(at) => self.begin_message(at + 4),
                None => return false,
            },
            Place::Length(missing) => {
                let left = missing - self.take_body(missing);
                self.place = Place::Length(left);
                if left == 0 {
                    self.end_message();
                }
            }
            Place::ChunkSize => match memchr::memmem::find(&self.rest, b"\r\n") {
                Some(at) => {
                    let digits: Vec<u8> = self.rest.drain(..at + 2).collect();
                    let digits = str::from_utf8(&digits).expect("a chunk's size").trim();
                    let size = usize::from_str_radix(digits, 16).expect("a chunk's size");
                    self.place = if size == 0 { Place::Trailers } else { Place::Chunk(size) };
                }
                None => return false,
            },
            Place::Chunk(0) => {
                if self.rest.len() < 2 {
                    return false;
                }
                self.rest.drain(..2);
                self.place = Place::ChunkSize;
            }
            Place::Chunk(missing) => self.place = Place::Chunk(missing - self.take_body(missing)),
            Place::Trailers => match memchr::memmem::find(&self.rest, b"\r\n") {
                Some(0) => {
                    self.rest.drain(..2);
                    self.end_message();
                }
                Some(at) => {
                    let line = self.rest.drain(..at + 2);
                    self.messages.last_mut().expect("a body has a head").trailers.extend(line);
                }
                None => return false,
            },
            Place::UntilClose => {
                self.take_body(usize::MAX);
            }
        }
        true
    }

    fn begin_message(&mut self, head: usize) {
        let head: Vec<u8> = self.rest.drain(..head).collect();
        let has_no_body = self.has_no_body(&head);
        let header = |name: &str| header(&head, name);
        self.place = if has_no_body {
            Place::Length(0)
        } else if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            Place::ChunkSize
        } else if let Some(length) = header("content-length") {
            Place::Length(length.parse().expect("a length"))
        } else if self.is_client {
            Place::UntilClose
        } else {
            Place::Length(0)
        };
        self.messages.push(Message { head, body: Vec::new(), trailers: Vec::new(), ending: Ending::Open });
        if matches!(self.place, Place::Length(0)) {
            self.end_message();
        }
    }

    fn has_no_body(&self, head: &[u8]) -> bool {
        let status = head.get(9..12);
        self.is_client
            && (self.asked_for_head
                || matches!(status, Some(b"204" | b"304"))
                || status.is_some_and(|s| s[0] == b'1'))
    }

    fn take_body(&mut self, most: usize) -> usize {
        let count = most.min(self.rest.len());
        let message = self.messages.last_mut().expect("a body has a head");
        message.body.extend(self.rest.drain(..count));
        count
    }

    fn end_message(&mut self) {
        self.messages.last_mut().expect("it has begun").ending = Ending::Complete;
        self.place = Place::Head;
    }
}

/// The first value of a header.
pub(crate) fn header(head: &[u8], name: &str) -> Option<String> {
    let text: String = head.iter().copied().map(char::from).collect();
    text.split("\r\n").skip(1).find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

#[test]
fn messages_are_cut_the_same_whatever_the_pieces() {
    let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
                  HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n\
                  HTTP/1.1 200 OK\r\n\r\nrest";
    for size in 1..bytes.len() {
        let mut inbox = Inbox::new(true);
        bytes.chunks(size).for_each(|piece| inbox.feed(piece));
        inbox.finish(End::Closed);
        let bodies: Vec<_> = inbox.messages.iter().map(|message| message.body.as_slice()).collect();
        assert_eq!(bodies, [b"".as_slice(), b"abc", b"def", b"rest"]);
        assert!(inbox.messages.iter().all(|message| message.ending == Ending::Complete));
    }
}
