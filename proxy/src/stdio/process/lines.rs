//! What a program says on stdout, line by line. One that is too long is dropped while it comes, so that it needs no more
//! memory than the limit; what is no message is told as [`Event::Noise`] and dropped.

use super::{Exit, upkeep::Upkeep};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::unix::pipe,
    process::ChildStdout,
    runtime::Handle,
    sync::mpsc,
};

/// Lines that wait for their reader; then the program waits.
const WAITING: usize = 64;
/// How much is read at a time at least.
const READ: usize = 16 << 10;
/// A buffer that one long line has made larger than this is not kept for the next.
const KEPT: usize = 1 << 20;

/// What happens to a program.
#[derive(Debug)]
pub(crate) enum Event {
    /// It says what looks like a message, without the line break.
    Line(Bytes),
    /// It says what is no message.
    Noise,
    /// It says more in one line than is allowed.
    TooLong,
    /// It has ended.
    Exited(Exit),
}

/// Who hears lines that look like messages as they come, on a runtime of its own choice: mostly that of whoever waits for
/// them, so that no other thread has to be woken in between. Must not wait.
pub(crate) struct Listener {
    pub(crate) runtime: Handle,
    pub(crate) hear: Hear,
}

/// Hears one line.
pub(crate) type Hear = Box<dyn Fn(&Bytes) + Send + Sync>;

/// The lines of a program as they come, but for those that a listener hears.
pub(super) struct Lines(mpsc::Receiver<Event>);

impl Lines {
    pub(super) fn start(
        stdout: ChildStdout,
        max_line: usize,
        listener: Option<Listener>,
        upkeep: &Upkeep,
    ) -> io::Result<Self> {
        let (events, receiver) = mpsc::channel(WAITING);
        match listener {
            None => upkeep.spawn(read(stdout, max_line, events, None)),
            Some(Listener { runtime, hear }) => {
                let stdout = stdout.into_owned_fd()?;
                let _entered = runtime.enter();
                let stdout = pipe::Receiver::from_owned_fd(stdout)?;
                upkeep.spawn(read(stdout, max_line, events, Some(hear)));
            }
        }
        Ok(Self(receiver))
    }

    /// `None` when it says nothing more.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

async fn read(
    mut stdout: impl AsyncRead + Unpin,
    max_line: usize,
    events: mpsc::Sender<Event>,
    hear: Option<Hear>,
) {
    let mut splitter = Splitter::new(max_line);
    loop {
        splitter.buffer.reserve(READ);
        let read = stdout.read_buf(&mut splitter.buffer).await;
        let is_over = !matches!(read, Ok(1..));
        while let Some(event) = splitter.next(is_over) {
            match (&hear, event) {
                (Some(hear), Event::Line(line)) => hear(&line),
                (_, event) => {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            }
        }
        if is_over {
            return;
        }
    }
}

/// From pieces to lines.
struct Splitter {
    buffer: BytesMut,
    /// How much of it has no line break.
    searched: usize,
    max_line: usize,
    /// The rest of a line that is too long.
    skips: bool,
}

impl Splitter {
    fn new(max_line: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, max_line, skips: false }
    }

    /// The next line of what has been read; its last may lack its end.
    fn next(&mut self, is_over: bool) -> Option<Event> {
        loop {
            let end = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|at| self.searched + at);
            let end = match end {
                Some(end) => end,
                None if is_over && !self.buffer.is_empty() => self.buffer.len(),
                None if self.skips => {
                    self.forget();
                    return None;
                }
                None if self.buffer.len() > self.max_line => {
                    self.forget();
                    self.skips = true;
                    return Some(Event::TooLong);
                }
                None => {
                    self.searched = self.buffer.len();
                    return None;
                }
            };
            let is_cut_off = end == self.buffer.len();
            match self.cut(end) {
                // It ended in the middle of saying it.
                Some(Event::Line(line)) if is_cut_off && !is_whole(&line) => return Some(Event::Noise),
                Some(event) => return Some(event),
                None => {}
            }
        }
    }

    fn forget(&mut self) {
        self.searched = 0;
        if self.buffer.capacity() > KEPT {
            self.buffer = BytesMut::new();
        } else {
            self.buffer.clear();
        }
    }

    /// Takes the line that ends here; nothing, if it is empty or the end of one that was too long.
    fn cut(&mut self, end: usize) -> Option<Event> {
        self.searched = 0;
        let line = self.buffer.split_to(end);
        if !self.buffer.is_empty() {
            self.buffer.advance(1);
        }
        if self.buffer.capacity() > KEPT || line.len() > KEPT {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        if std::mem::take(&mut self.skips) {
            return None;
        }
        if line.len() > self.max_line {
            return Some(Event::TooLong);
        }
        let mut line = line.freeze();
        if line.starts_with(b"\xef\xbb\xbf") {
            line.advance(3);
        }
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        match line.iter().find(|byte| !byte.is_ascii_whitespace())? {
            b'{' | b'[' => Some(Event::Line(line)),
            _ => Some(Event::Noise),
        }
    }
}

fn is_whole(line: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]], max_line: usize) -> Vec<String> {
        let mut splitter = Splitter::new(max_line);
        let mut seen = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            splitter.buffer.extend_from_slice(piece);
            while let Some(event) = splitter.next(number + 1 == pieces.len()) {
                seen.push(match event {
                    Event::Line(line) => String::from_utf8_lossy(&line).into_owned(),
                    Event::Noise => "noise".to_owned(),
                    Event::TooLong => "too long".to_owned(),
                    Event::Exited(_) => unreachable!("lines do not exit"),
                });
            }
        }
        seen
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let text = b"\xef\xbb\xbf{\"a\":1}\r\nhello\n\n \t\n[2]\n{\"b\":\xff}\n{\"last\":1}";
        let whole = split(&[text], 100);
        assert_eq!(whole, ["{\"a\":1}", "noise", "[2]", "{\"b\":\u{fffd}}", "{\"last\":1}"]);
        assert_eq!(split(&[b"[1]\n{\"id\":1,\"result\":{\"a"], 100), ["[1]", "noise"], "cut off");
        for at in 1..text.len() {
            assert_eq!(split(&[&text[..at], &text[at..]], 100), whole, "{at}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_told_once_and_the_next_is_heard() {
        let long = [&b"{"[..], &[b'x'; 200], b"}\n{1}\n"].concat();
        let pieces: Vec<&[u8]> = long.chunks(7).collect();
        assert_eq!(split(&pieces, 50), ["too long", "{1}"]);
        assert_eq!(split(&[&long], 50), ["too long", "{1}"]);
    }

    #[test]
    fn a_long_line_leaves_no_large_buffer_behind() {
        let mut splitter = Splitter::new(64 << 20);
        splitter.buffer.extend_from_slice(&vec![b'['; 8 << 20]);
        assert!(splitter.next(false).is_none());
        splitter.buffer.extend_from_slice(b"\n{");
        assert!(matches!(splitter.next(false), Some(Event::Line(line)) if line.len() == 8 << 20));
        assert!(splitter.buffer.capacity() <= KEPT, "{}", splitter.buffer.capacity());
    }
}
