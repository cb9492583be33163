//! The incremental decoder of `text/event-stream` (WHATWG HTML, section 9.2.6): bytes in any chunking,
//! pieces of data and ends of events out.
//!
//! It only reads. Comments, field order and line endings are the business of those who get the bytes. It keeps an
//! event's name and id up to a cap, the stream's last `retry`, and never an event's data.

/// What was read next.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A piece of the current event's data; the lines of one event are joined by `\n` as the standard says.
    Data(&'a [u8]),
    /// A blank line ended an event that had at least one field.
    EventEnd,
}

/// Longer names and ids are cut: none that matters is as long, and a stream cannot fill memory with them.
const MAX_FIELD: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    Id,
    Retry,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the first byte of the stream, where a byte order mark may stand.
    Start { mark: u8 },
    /// Inside a field's name, which is in `name`.
    Name,
    /// Behind the colon, where one space is not part of the value.
    Colon(Field),
    /// Inside the value.
    Value(Field),
}

/// Reads one stream.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The last byte was a carriage return, so a line feed belongs to it.
    after_cr: bool,
    name: Vec<u8>,
    event: Vec<u8>,
    id: Vec<u8>,
    has_id: bool,
    /// The value of an `id` that is being read; it counts when its line ends.
    next_id: Vec<u8>,
    /// There is a NUL in it, which makes the standard ignore it.
    bad_id: bool,
    /// The last `retry` of the stream, in milliseconds.
    retry_ms: Option<u64>,
    /// One that is being read, while it is all digits.
    next_retry: Option<u64>,
    has_fields: bool,
    data_lines: u32,
    /// A line feed has to be given out before the next piece of data.
    join: bool,
    event_over: bool,
}

const MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

impl Default for Decoder {
    fn default() -> Self {
        Self {
            state: State::Start { mark: 0 },
            after_cr: false,
            name: Vec::new(),
            event: Vec::new(),
            id: Vec::new(),
            has_id: false,
            next_id: Vec::new(),
            bad_id: false,
            retry_ms: None,
            next_retry: None,
            has_fields: false,
            data_lines: 0,
            join: false,
            event_over: false,
        }
    }
}

impl Decoder {
    /// Consumes input up to the next item; `None` when all of it is consumed. The event's name, id and data
    /// can be asked for until the next call after [`Item::EventEnd`].
    pub fn next_item<'a>(&mut self, input: &mut &'a [u8]) -> Option<Item<'a>> {
        if std::mem::take(&mut self.event_over) {
            self.begin_event();
        }
        while !input.is_empty() {
            let (used, item) = self.step(input);
            *input = &input[used..];
            if item.is_some() {
                return item;
            }
        }
        None
    }

    /// The event's name; empty where none was given.
    pub fn event(&self) -> &[u8] {
        &self.event
    }

    /// The event's id, if it has one.
    pub fn id(&self) -> Option<&[u8]> {
        self.has_id.then_some(&self.id)
    }

    /// How long the stream wants its reader to wait before it comes back, in milliseconds, if it has said so.
    pub const fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// The event is a JSON-RPC message by its name.
    pub fn is_message(&self) -> bool {
        self.event.is_empty() || self.event == b"message"
    }

    /// A field of an event that no blank line has ended yet.
    pub const fn is_inside_event(&self) -> bool {
        self.data_lines > 0 && !self.event_over
    }

    fn begin_event(&mut self) {
        self.event.clear();
        self.id.clear();
        self.has_id = false;
        self.has_fields = false;
        self.data_lines = 0;
        self.join = false;
    }

    fn step<'a>(&mut self, input: &'a [u8]) -> (usize, Option<Item<'a>>) {
        if std::mem::take(&mut self.after_cr) && input[0] == b'\n' {
            return (1, None);
        }
        match self.state {
            State::Start { mark } => (self.skip_mark(mark, input[0]), None),
            State::Name => self.read_name(input),
            State::Colon(field) => {
                self.state = State::Value(field);
                (usize::from(input[0] == b' '), None)
            }
            State::Value(field) => self.read_value(field, input),
        }
    }

    fn skip_mark(&mut self, mark: u8, byte: u8) -> usize {
        if MARK[usize::from(mark)] != byte {
            // What looked like a mark and is none begins a field name.
            self.name.extend_from_slice(&MARK[..usize::from(mark)]);
            self.state = State::Name;
            return 0;
        }
        self.state = if mark == 2 { State::Name } else { State::Start { mark: mark + 1 } };
        1
    }

    fn read_name<'a>(&mut self, input: &'a [u8]) -> (usize, Option<Item<'a>>) {
        let Some(at) = memchr::memchr3(b':', b'\n', b'\r', input) else {
            self.keep_name(input);
            return (input.len(), None);
        };
        self.keep_name(&input[..at]);
        if input[at] == b':' {
            let field = self.begin_field();
            self.state = State::Colon(field);
            return (at + 1, None);
        }
        self.after_cr = input[at] == b'\r';
        if self.name.is_empty() {
            self.event_over = self.has_fields;
            return (at + 1, self.has_fields.then_some(Item::EventEnd));
        }
        // A line without a colon is a field with an empty value.
        let field = self.begin_field();
        if field == Field::Id {
            self.end_id();
        }
        let joined = field == Field::Data && std::mem::take(&mut self.join);
        (at + 1, joined.then_some(Item::Data(b"\n")))
    }

    fn keep_name(&mut self, bytes: &[u8]) {
        let room = MAX_FIELD.saturating_sub(self.name.len()).min(bytes.len());
        self.name.extend_from_slice(&bytes[..room]);
    }

    /// The name is complete: starts the field it names.
    fn begin_field(&mut self) -> Field {
        let field = match self.name.as_slice() {
            b"data" => {
                self.join = self.data_lines > 0;
                self.data_lines = self.data_lines.saturating_add(1);
                Field::Data
            }
            b"event" => {
                self.event.clear();
                Field::Event
            }
            b"id" => {
                self.next_id.clear();
                self.bad_id = false;
                Field::Id
            }
            b"retry" => {
                self.next_retry = None;
                Field::Retry
            }
            _ => Field::Other,
        };
        self.has_fields |= !matches!(field, Field::Retry | Field::Other);
        self.name.clear();
        field
    }

    fn read_value<'a>(&mut self, field: Field, input: &'a [u8]) -> (usize, Option<Item<'a>>) {
        if field == Field::Data && std::mem::take(&mut self.join) {
            return (0, Some(Item::Data(b"\n")));
        }
        let end = memchr::memchr2(b'\n', b'\r', input);
        let value = &input[..end.unwrap_or(input.len())];
        if let Some(end) = end {
            self.after_cr = input[end] == b'\r';
            self.state = State::Name;
        }
        let used = end.map_or(input.len(), |end| end + 1);
        match field {
            Field::Data => return (used, (!value.is_empty()).then_some(Item::Data(value))),
            Field::Event => keep_capped(&mut self.event, value),
            Field::Id => {
                self.bad_id |= memchr::memchr(0, value).is_some();
                keep_capped(&mut self.next_id, value);
                if end.is_some() {
                    self.end_id();
                }
            }
            Field::Retry => self.read_retry(value, end.is_some()),
            Field::Other => {}
        }
        (used, None)
    }

    /// A `retry` counts if it is all digits; one that a number cannot hold means the longest time.
    fn read_retry(&mut self, value: &[u8], is_over: bool) {
        for byte in value {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
            let so_far = self.next_retry.unwrap_or(0);
            self.next_retry = digit.map(|digit| so_far.saturating_mul(10).saturating_add(digit));
            if digit.is_none() {
                self.state = if is_over { self.state } else { State::Value(Field::Other) };
                return;
            }
        }
        if is_over {
            self.retry_ms = self.next_retry.or(self.retry_ms);
        }
    }

    /// The line of an `id` has ended. One that is ignored leaves an earlier one in force.
    fn end_id(&mut self) {
        if !self.bad_id {
            std::mem::swap(&mut self.id, &mut self.next_id);
            self.has_id = true;
        }
    }
}

fn keep_capped(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAX_FIELD.saturating_sub(kept.len()).min(bytes.len());
    kept.extend_from_slice(&bytes[..room]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Clone)]
    struct Event {
        name: String,
        id: Option<String>,
        data: String,
    }

    fn decode_in_chunks(stream: &[u8], chunk: usize) -> Vec<Event> {
        let mut decoder = Decoder::default();
        let (mut events, mut data) = (Vec::new(), Vec::new());
        for mut piece in stream.chunks(chunk) {
            while let Some(item) = decoder.next_item(&mut piece) {
                match item {
                    Item::Data(bytes) => data.extend_from_slice(bytes),
                    Item::EventEnd => events.push(Event {
                        name: String::from_utf8_lossy(decoder.event()).into_owned(),
                        id: decoder.id().map(|id| String::from_utf8_lossy(id).into_owned()),
                        data: String::from_utf8(std::mem::take(&mut data)).expect("text"),
                    }),
                }
            }
        }
        events
    }

    fn decode(stream: &str) -> Vec<Event> {
        let whole = decode_in_chunks(stream.as_bytes(), stream.len().max(1));
        for chunk in 1..stream.len() {
            assert_eq!(decode_in_chunks(stream.as_bytes(), chunk), whole, "in chunks of {chunk}");
        }
        whole
    }

    fn event(name: &str, id: Option<&str>, data: &str) -> Event {
        Event { name: name.to_owned(), id: id.map(str::to_owned), data: data.to_owned() }
    }

    #[test]
    fn all_three_line_endings_say_the_same() {
        let stream =
            "\u{feff}: hello\nevent: message\ndata: {\"a\":\ndata:1}\nid: 4\nretry: 3000\n\ndata:x\n\n";
        let expected = [event("message", Some("4"), "{\"a\":\n1}"), event("", None, "x")];
        assert_eq!(decode(stream), expected);
        assert_eq!(decode(&stream.replace('\n', "\r\n")), expected);
        assert_eq!(decode(&stream.replace('\n', "\r")), expected);
    }

    #[test]
    fn a_priming_event_has_an_id_and_no_data() {
        assert_eq!(decode("id: 0\ndata: \n\n"), [event("", Some("0"), "")]);
        assert_eq!(decode("id: 0\ndata\n\n"), [event("", Some("0"), "")]);
    }

    #[test]
    fn every_line_of_data_counts_even_an_empty_one() {
        assert_eq!(decode("data:x\ndata\ndata:\ndata:y\n\n")[0].data, "x\n\n\ny");
    }

    #[test]
    fn comments_and_blank_lines_are_no_events() {
        assert_eq!(decode(": ping\n\n\n\n:\n\nretry: 5\n\n"), []);
    }

    #[test]
    fn the_last_retry_that_is_a_number_counts_in_any_pieces() {
        let stream =
            b"retry: 1500\r\nid: 1\r\n\r\nretry: 1x2\nretry: \nretry: 99999999999999999999999\nretry\n\n";
        for (until, expected) in
            [(5, None), (13, Some(1500)), (40, Some(1500)), (stream.len(), Some(u64::MAX))]
        {
            for size in 1..=until {
                let mut decoder = Decoder::default();
                for mut piece in stream[..until].chunks(size) {
                    while decoder.next_item(&mut piece).is_some() {}
                }
                assert_eq!(decoder.retry_ms(), expected, "{until} bytes in pieces of {size}");
            }
        }
    }

    #[test]
    fn only_one_space_behind_the_colon_is_not_data() {
        assert_eq!(decode("data:  x \n\n")[0].data, " x ");
    }

    #[test]
    fn an_id_with_a_nul_is_ignored() {
        assert_eq!(decode("id: a\0b\ndata: x\n\n"), [event("", None, "x")]);
        assert_eq!(decode("id: 1\nid: a\0b\ndata: x\n\n"), [event("", Some("1"), "x")]);
    }

    #[test]
    fn half_a_byte_order_mark_belongs_to_the_name_of_the_field_behind_it() {
        assert_eq!(decode_in_chunks(b"\xef\xbbdata: x\ndata: y\n\n", 3), [event("", None, "y")]);
    }

    #[test]
    fn an_event_without_its_blank_line_is_unfinished() {
        let mut decoder = Decoder::default();
        let mut input: &[u8] = b"data: {}\n";
        assert_eq!(decoder.next_item(&mut input), Some(Item::Data(b"{}")));
        assert_eq!(decoder.next_item(&mut input), None);
        assert!(decoder.is_inside_event());
    }
}
