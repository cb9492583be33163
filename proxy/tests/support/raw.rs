//! Both ends of the wire by hand: they send the bytes that a test gives them, keep every byte they get, and
//! know no more of HTTP than where a message ends. Neither ever answers, retries or closes by itself.

use crate::{
    message::{Message, call, post},
    support::{Mcpmeter, PATIENCE},
};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

/// How a peer ended its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// In order, with a FIN (or a TLS close).
    Closed,
    /// With a reset.
    Reset,
}

/// One end of a connection.
pub(crate) struct Wire<S = TcpStream> {
    stream: S,
    got: Vec<u8>,
    /// How much of `got` the test has looked at.
    at: usize,
    end: Option<End>,
}

impl Wire {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("accepted");
        stream.set_nodelay(true).expect("a socket");
        Self::over(stream)
    }

    /// Connects with the smallest receive buffer there is, so that the peer soon notices that nobody reads.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a socket");
        Self::over(socket.connect(address).await.expect("accepted"))
    }

    /// The socket, for TLS to go over it.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Ends with a reset instead of a FIN.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Over any stream, for instance one of TLS.
    pub(crate) const fn over(stream: S) -> Self {
        Self { stream, got: Vec::new(), at: 0, end: None }
    }

    /// Sends these bytes and no others.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the peer takes it");
    }

    /// The same to a peer that may have gone.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let sent = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, sent).await.expect("the peer reads")
    }

    /// Ends the sending side only.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.expect("open");
    }

    /// Closes and waits until the peer has closed, too: it will use this connection no more.
    pub(crate) async fn close(mut self) {
        // The peer may have closed first.
        let _ = self.stream.shutdown().await;
        self.gone().await;
    }

    /// Everything that has arrived so far.
    pub(crate) fn got(&self) -> &[u8] {
        &self.got
    }

    /// Waits for more bytes; `false` at the peer's end.
    async fn read_more(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.got)).await;
        let read = read.unwrap_or_else(|_| panic!("nothing more came behind {}", self.tail()));
        match read {
            Ok(0) => self.end = Some(End::Closed),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.end = Some(End::Closed),
            Err(_) => self.end = Some(End::Reset),
            Ok(_) => return true,
        }
        false
    }

    fn tail(&self) -> String {
        let from = self.got.len().saturating_sub(300);
        String::from_utf8_lossy(&self.got[from..]).into_owned()
    }

    /// Waits for these bytes; gives everything up to their end that had not been looked at.
    pub(crate) async fn read_until(&mut self, wanted: impl AsRef<[u8]>) -> Vec<u8> {
        let wanted = wanted.as_ref();
        let mut from = self.at;
        loop {
            if let Some(found) = self.got[from..].windows(wanted.len()).position(|bytes| bytes == wanted) {
                return self.take(from + found + wanted.len());
            }
            from = self.at.max(self.got.len().saturating_sub(wanted.len()));
            let words = String::from_utf8_lossy(wanted).into_owned();
            assert!(self.read_more().await, "the end came instead of {words:?}, behind {}", self.tail());
        }
    }

    fn take(&mut self, to: usize) -> Vec<u8> {
        let taken = self.got[self.at..to].to_vec();
        self.at = to;
        taken
    }

    /// This many bytes; fewer if the peer ends before.
    pub(crate) async fn read_up_to(&mut self, count: usize) -> Vec<u8> {
        while self.got.len() < self.at + count && self.read_more().await {}
        self.take(self.got.len().min(self.at + count))
    }

    /// Reads this many bytes without keeping them.
    pub(crate) async fn skip(&mut self, count: usize) {
        let mut left = count - count.min(self.got.len() - self.at);
        self.at = (self.at + count).min(self.got.len());
        let mut scratch = vec![0; 64 << 10];
        while left > 0 {
            let room = scratch.len().min(left);
            let read = timeout(PATIENCE, self.stream.read(&mut scratch[..room])).await;
            let bytes = read.expect("more bytes come").expect("the peer goes on");
            assert!(bytes > 0, "the end came {left} bytes too early");
            left -= bytes;
        }
    }

    /// Sends as much of these bytes as the socket takes at once; waits until it takes any.
    pub(crate) async fn send_some(&mut self, bytes: &[u8]) -> usize {
        self.stream.write(bytes).await.expect("the peer takes it")
    }

    /// Everything up to the peer's end, and how that came.
    pub(crate) async fn read_to_end(&mut self) -> (Vec<u8>, End) {
        while self.read_more().await {}
        let rest = self.take(self.got.len());
        (rest, self.end.expect("seen"))
    }

    /// Waits until the peer has gone.
    pub(crate) async fn gone(&mut self) -> End {
        self.read_to_end().await.1
    }

    /// A head of a message, up to and with its empty line.
    pub(crate) async fn read_head(&mut self) -> Message {
        Message { head: self.read_until("\r\n\r\n").await, body: Vec::new(), complete: false }
    }

    /// A whole request.
    pub(crate) async fn read_request(&mut self) -> Message {
        let message = self.read_head().await;
        let bodiless =
            message.header("content-length").is_none() && message.header("transfer-encoding").is_none();
        self.read_body(message, bodiless).await
    }

    /// The next request, however long that takes; `None` if the peer ends instead.
    pub(crate) async fn next_request(&mut self) -> Option<Message> {
        if self.got.len() == self.at && !matches!(self.stream.read_buf(&mut self.got).await, Ok(1..)) {
            return None;
        }
        Some(self.read_request().await)
    }

    /// A whole response.
    pub(crate) async fn read_response(&mut self) -> Message {
        let message = self.read_head().await;
        let bodiless = matches!(message.status(), 100..200 | 204 | 304);
        self.read_body(message, bodiless).await
    }

    /// A whole response, if the peer gives one before it ends; and how it ended otherwise.
    pub(crate) async fn read_to_answer(&mut self) -> (Option<Message>, Option<End>) {
        while !self.got[self.at..].windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            if !self.read_more().await {
                return (None, self.end);
            }
        }
        (Some(self.read_response().await), None)
    }

    /// The body behind a head, or what there is of it if the peer ends too early.
    pub(crate) async fn read_body(&mut self, mut message: Message, bodiless: bool) -> Message {
        if bodiless {
            message.complete = true;
        } else if message.header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            while let Some(chunk) = self.read_chunk().await {
                message.complete = chunk.is_empty();
                message.body.extend(chunk);
                if message.complete {
                    break;
                }
            }
        } else if let Some(length) = message.header("content-length") {
            let length: usize = length.parse().expect("a number");
            message.body = self.read_up_to(length).await;
            message.complete = message.body.len() == length;
        } else {
            let (body, end) = self.read_to_end().await;
            (message.body, message.complete) = (body, end == End::Closed);
        }
        message
    }

    /// The data of the next chunk, empty for the last one (without trailers); `None` if the peer ends within.
    pub(crate) async fn read_chunk(&mut self) -> Option<Vec<u8>> {
        while !self.got[self.at..].contains(&b'\n') {
            if !self.read_more().await {
                return None;
            }
        }
        let line = self.read_until("\r\n").await;
        let digits = String::from_utf8(line).expect("a chunk's size");
        let size = usize::from_str_radix(digits.trim(), 16).expect("a chunk's size");
        let mut data = self.read_up_to(size + 2).await;
        (data.len() == size + 2).then(|| {
            data.truncate(size);
            data
        })
    }
}

/// A server's port, at which the test accepts and answers.
pub(crate) struct Upstream {
    listener: TcpListener,
    /// The same socket, for a look without waiting.
    look: std::net::TcpListener,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Upstream {
    /// Listens on a free port.
    pub(crate) fn bind() -> Self {
        let look = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        look.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(look.try_clone().expect("a socket")).expect("a socket");
        Self { address: look.local_addr().expect("bound"), listener, look }
    }

    /// The table of a route to it.
    pub(crate) fn route(&self, name: &str) -> String {
        format!("[[route]]\nname = \"{name}\"\nupstream = \"http://{}\"\n", self.address)
    }

    /// The next connection; waits for it.
    pub(crate) async fn accept(&self) -> Wire {
        timeout(PATIENCE, self.next()).await.expect("somebody connects")
    }

    /// The next connection, however long that takes.
    pub(crate) async fn next(&self) -> Wire {
        let (stream, _) = self.listener.accept().await.expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Wire::over(stream)
    }

    /// Whether no connection waits that has not been accepted.
    pub(crate) fn is_untouched(&self) -> bool {
        matches!(self.look.accept(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A call on its way to the route `a`: the client has sent it and the upstream has read it.
pub(crate) async fn begin_call(proxy: &Mcpmeter, upstream: &Upstream, id: u64) -> (Wire, Wire) {
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(id, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    (client, server)
}
