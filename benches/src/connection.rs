//! One client connection: writes a call, reads its answer strictly and compares it byte for byte. It never reconnects,
//! never retries and never forgives: whatever a contender does wrong is an error here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio_rustls::rustls::ClientConfig;

use crate::dechunk::{ChunkError, Dechunk};
use crate::exchange::{Exchange, PROTOCOL_VERSION};
use crate::stream::Stream;
use crate::template::{CallId, Mismatch, Template};

/// Large enough that a small answer takes one read and a big one few, small enough to stay in the cache.
const BUFFER_BYTES: usize = 64 * 1024;

/// Where a contender listens.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its address on the loopback.
    pub(crate) address: SocketAddr,
    /// The path of the MCP endpoint there.
    pub(crate) path: &'static str,
    /// Header lines by which the caller says who it is, each with its line break.
    pub(crate) credentials: String,
    /// How to speak TLS, where it does.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// An exchange with everything that does not depend on the call rendered.
#[derive(Debug)]
pub(crate) struct Prepared {
    request: Template,
    answer: Template,
    content_type: &'static str,
}

impl Prepared {
    /// Renders once what every call of a window shares.
    pub(crate) fn new(exchange: Exchange) -> Self {
        Self {
            request: exchange.request(),
            answer: exchange.answer_body(),
            content_type: exchange.answer().content_type(),
        }
    }
}

/// When the parts of an answer came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    /// The first byte of the body: of an event stream, its first event.
    pub(crate) first: Instant,
    /// The last byte.
    pub(crate) complete: Instant,
}

/// Why a call counts as failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The other side closed before the answer was complete.
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// Not HTTP/1.1.
    #[error("the answer's head is not HTTP")]
    Head(#[from] httparse::Error),
    /// The head does not fit the buffer.
    #[error("the answer's head is longer than {BUFFER_BYTES} bytes")]
    HeadTooLong,
    /// Any status but 200.
    #[error("the status is {0}")]
    Status(u16),
    /// Not the media type the upstream sent.
    #[error("the content type is {0:?}")]
    ContentType(String),
    /// Neither a length nor chunks, so the end would be the end of the connection.
    #[error("the answer has neither a length nor chunks")]
    Unframed,
    /// The chunks are malformed.
    #[error("the answer's chunks are malformed")]
    Chunks(#[from] ChunkError),
    /// The body is not what the upstream sent.
    #[error("the answer is wrong")]
    Body(#[from] Mismatch),
    /// Bytes after the answer's end.
    #[error("{0} bytes follow the answer")]
    Surplus(usize),
}

/// A connection and the session it speaks in.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    head: Vec<u8>,
    /// Where the session's digits begin in `head`.
    session_at: usize,
    request: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Connection {
    /// Connects; `session` becomes the `Mcp-Session-Id` of every call.
    pub(crate) async fn open(target: &Target, session: CallId) -> io::Result<Self> {
        let stream = Stream::connect(target).await?;
        let Target { address, path, credentials, .. } = target;
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: mcpmeter-bench\r\n\
             Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
             MCP-Protocol-Version: {PROTOCOL_VERSION}\r\nMcp-Session-Id: 6d63706d-6574-6572-0000-00"
        );
        let session_at = head.len();
        head += &format!("{}\r\n{credentials}Content-Length: ", "0".repeat(CallId::DIGITS));
        let mut connection = Self {
            stream,
            head: head.into_bytes(),
            session_at,
            request: Vec::new(),
            buffer: vec![0; BUFFER_BYTES].into(),
        };
        connection.enter_session(session);
        Ok(connection)
    }

    /// Lets the next calls speak in another session.
    pub(crate) fn enter_session(&mut self, session: CallId) {
        self.head[self.session_at..][..CallId::DIGITS].copy_from_slice(&session.digits());
    }

    /// Makes one call and waits for the whole of its answer.
    pub(crate) async fn call(&mut self, prepared: &Prepared, id: CallId) -> Result<Answered, CallError> {
        self.request.clear();
        self.request.extend_from_slice(&self.head);
        self.request.extend_from_slice(prepared.request.len().to_string().as_bytes());
        self.request.extend_from_slice(b"\r\n\r\n");
        prepared.request.render(&id.digits(), &mut self.request);
        self.stream.write_all(&self.request).await?;
        self.read_answer(prepared, id).await
    }

    async fn read_answer(&mut self, prepared: &Prepared, id: CallId) -> Result<Answered, CallError> {
        let (mut start, mut end, mut framing) = self.read_head(prepared.content_type).await?;
        let mut comparison = prepared.answer.compare(id);
        let mut first = None;
        loop {
            let body = &self.buffer[start..end];
            let taken = framing.take(body, |data| {
                first.get_or_insert_with(Instant::now);
                comparison.feed(data).map_err(CallError::from)
            })?;
            if framing.is_done() {
                let complete = Instant::now();
                comparison.finish()?;
                let surplus = body.len() - taken;
                return if surplus > 0 {
                    Err(CallError::Surplus(surplus))
                } else {
                    Ok(Answered { first: first.unwrap_or(complete), complete })
                };
            }
            (start, end) = (0, self.stream.read(&mut self.buffer).await?);
            if end == 0 {
                return Err(CallError::Closed);
            }
        }
    }

    /// Reads until the head is complete; what is left of the buffer is the beginning of the body.
    async fn read_head(&mut self, content_type: &str) -> Result<(usize, usize, Framing), CallError> {
        let mut filled = 0;
        loop {
            let room = &mut self.buffer[filled..];
            if room.is_empty() {
                return Err(CallError::HeadTooLong);
            }
            filled += match self.stream.read(room).await? {
                0 => return Err(CallError::Closed),
                length => length,
            };
            if let Some((length, framing)) = parse_head(&self.buffer[..filled], content_type)? {
                return Ok((length, filled, framing));
            }
        }
    }
}

fn parse_head(bytes: &[u8], content_type: &str) -> Result<Option<(usize, Framing)>, CallError> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes)? else { return Ok(None) };
    match response.code {
        Some(200) => {}
        status => return Err(CallError::Status(status.unwrap_or_default())),
    }
    let find = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let found = find("content-type").map_or(&b""[..], |header| header.value);
    if found != content_type.as_bytes() {
        return Err(CallError::ContentType(String::from_utf8_lossy(found).into_owned()));
    }
    let framing = match (find("content-length"), find("transfer-encoding")) {
        (Some(length), None) => {
            std::str::from_utf8(length.value).ok().and_then(|text| text.parse().ok()).map(Framing::Length)
        }
        (None, Some(coding)) if coding.value == b"chunked" => Some(Framing::Chunks(Dechunk::default())),
        _ => None,
    };
    Ok(Some((length, framing.ok_or(CallError::Unframed)?)))
}

/// How the end of a body is found.
#[derive(Debug)]
enum Framing {
    /// Bytes that are still to come.
    Length(usize),
    Chunks(Dechunk),
}

impl Framing {
    /// Hands the body's bytes to `accept` and says how many of `bytes` were the body's.
    fn take(
        &mut self,
        bytes: &[u8],
        mut accept: impl FnMut(&[u8]) -> Result<(), CallError>,
    ) -> Result<usize, CallError> {
        match self {
            Self::Length(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                if taken > 0 {
                    accept(&bytes[..taken])?;
                }
                Ok(taken)
            }
            Self::Chunks(chunks) => chunks.take(bytes, accept),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunks(chunks) => chunks.is_done(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one call with `reply`, in which `{body}` is the right body and `{length}` its length.
    async fn call_answered_with(reply: &str) -> Result<Answered, CallError> {
        let (id, prepared) = (CallId::nth(1), Prepared::new(Exchange::Small));
        let mut body = Vec::new();
        prepared.answer.render(&id.digits(), &mut body);
        let body = String::from_utf8(body).unwrap();
        let reply = reply.replace("{length}", &body.len().to_string()).replace("{body}", &body);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target {
            address: listener.local_addr().unwrap(),
            path: "/mcp",
            credentials: String::new(),
            tls: None,
        };
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; BUFFER_BYTES];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(reply.as_bytes()).await.unwrap();
        };
        let call =
            async { Connection::open(&target, CallId::nth(0)).await.unwrap().call(&prepared, id).await };
        tokio::join!(serve, call).1
    }

    type IsExpected = fn(&CallError) -> bool;

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

    #[tokio::test]
    async fn a_right_answer_is_accepted_by_length_and_in_chunks() {
        call_answered_with(&format!("{HEAD}Content-Length: {{length}}\r\n\r\n{{body}}")).await.unwrap();
        let length = format!("{:x}", Exchange::Small.answer_body().len());
        let chunks = format!("{length}\r\n{{body}}\r\n0\r\n\r\n");
        call_answered_with(&format!("{HEAD}transfer-encoding: chunked\r\n\r\n{chunks}")).await.unwrap();
    }

    #[tokio::test]
    async fn another_session_changes_its_own_header_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let credentials = "X-User: u_1\r\n".to_owned();
        let target = Target { address: listener.local_addr().unwrap(), path: "/mcp", credentials, tls: None };
        let mut connection = Connection::open(&target, CallId::nth(1)).await.unwrap();
        let before = String::from_utf8(connection.head.clone()).unwrap();
        connection.enter_session(CallId::nth(2));
        let after = String::from_utf8(connection.head).unwrap();
        assert!(before.contains("-001000000001\r\nX-User: u_1\r\nContent-Length: "), "{before}");
        assert_eq!(before.replace("-001000000001\r\n", "-001000000002\r\n"), after);
    }

    #[tokio::test]
    async fn every_other_answer_is_refused() {
        let framed = format!("{HEAD}content-length: {{length}}\r\n\r\n");
        let cases: [(String, IsExpected); 9] = [
            ("nonsense\r\n\r\n".into(), |error| matches!(error, CallError::Head(_))),
            ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n".into(), |error| {
                matches!(error, CallError::Status(502))
            }),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{".into(), |error| {
                matches!(error, CallError::ContentType(_))
            }),
            (format!("{HEAD}\r\n{{body}}"), |error| matches!(error, CallError::Unframed)),
            (format!("{framed}{{body}}!"), |error| matches!(error, CallError::Surplus(1))),
            (format!("{framed}{{"), |error| matches!(error, CallError::Closed)),
            (format!("{framed}!{{body}}"), |error| matches!(error, CallError::Body(Mismatch::Bytes(_)))),
            (format!("{HEAD}content-length: 1\r\n\r\n{{"), |error| {
                matches!(error, CallError::Body(Mismatch::TooShort))
            }),
            (format!("{HEAD}content-length: 34\r\n\r\n{{\"jsonrpc\":\"2.0\",\"id\":1000000007,"), |error| {
                matches!(error, CallError::Body(Mismatch::Id(_)))
            }),
        ];
        for (reply, is_expected) in cases {
            let error = call_answered_with(&reply).await.unwrap_err();
            assert!(is_expected(&error), "{reply}: {error:?}");
        }
    }
}
