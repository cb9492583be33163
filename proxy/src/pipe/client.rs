//! The client's side: our own stdin and stdout, without a thread that could not be woken.
//!
//! tokio's own stdin blocks a thread in `read`, and a program whose server has ended would not end before its client says
//! something. Pipes and sockets (what clients use: Python pipes, Node socket pairs) are read and written as such; only
//! files and terminals get a thread, which goes with the process. Never buffers what it could hand on.

use bytes::Bytes;
use rustix::{
    event::{PollFd, PollFlags},
    fs::{FileType, Mode, OFlags},
};
use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    thread,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixStream, unix::pipe},
    sync::mpsc,
};

/// Pieces that the thread reads ahead of a file or a terminal.
const AHEAD: usize = 4;
/// Bytes of such a piece.
const PIECE: usize = 64 << 10;

/// What the client says.
pub(crate) enum Input {
    /// A pipe or a socket.
    Ready(Box<dyn AsyncRead + Unpin>),
    /// Anything else, by way of a thread.
    Thread(mpsc::Receiver<Bytes>),
}

/// What the client hears.
pub(crate) enum Output {
    /// A pipe or a socket.
    Ready(Box<dyn AsyncWrite + Unpin>),
    /// Anything else.
    Thread,
}

impl Input {
    pub(crate) fn stdin() -> io::Result<Self> {
        match open_ready(io::stdin().as_fd(), OFlags::RDONLY)? {
            Kind::Pipe(fd) => Ok(Self::Ready(Box::new(pipe::Receiver::from_owned_fd(fd)?))),
            Kind::Socket(socket) => Ok(Self::Ready(Box::new(socket))),
            Kind::Other => Self::read_on_thread(),
        }
    }

    fn read_on_thread() -> io::Result<Self> {
        let (pieces, read) = mpsc::channel(AHEAD);
        thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut stdin = io::stdin().lock();
            let mut buffer = vec![0; PIECE];
            // An error is an end like any other: there is nothing more to come.
            while let Ok(bytes @ 1..) = stdin.read(&mut buffer) {
                if pieces.blocking_send(Bytes::copy_from_slice(&buffer[..bytes])).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self::Thread(read))
    }

    /// Reads what there is; 0 at the end, or when the client is gone. The buffer has to hold [`PIECE`] bytes.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self {
            // A reset socket is a client that has left.
            Self::Ready(ready) => ready.read(buffer).await.unwrap_or(0),
            Self::Thread(pieces) => {
                let piece = pieces.recv().await.unwrap_or_default();
                buffer[..piece.len()].copy_from_slice(&piece);
                piece.len()
            }
        }
    }
}

/// A buffer for [`Input::read`].
pub(crate) fn buffer() -> Vec<u8> {
    vec![0; PIECE]
}

impl Output {
    pub(crate) fn stdout() -> io::Result<Self> {
        Ok(match open_ready(io::stdout().as_fd(), OFlags::WRONLY)? {
            Kind::Pipe(fd) => Self::Ready(Box::new(pipe::Sender::from_owned_fd(fd)?)),
            Kind::Socket(socket) => Self::Ready(Box::new(socket)),
            Kind::Other => Self::Thread,
        })
    }

    /// Writes everything; fails if nobody reads any more.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Ready(ready) => ready.write_all(bytes).await,
            Self::Thread => {
                let bytes = bytes.to_vec();
                let write = move || {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&bytes).and_then(|()| stdout.flush())
                };
                tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
            }
        }
    }
}

/// Closes stdout for the client although the process goes on for a moment, to write down what it knows. What cannot be
/// closed here is closed by the end.
pub(crate) fn hang_up() {
    if let Ok(nothing) = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdout(nothing);
    }
}

/// Whether anybody still reads what is written: a client may close its side and wait for its last answers.
pub(crate) fn is_listening() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1..) | Err(_))
}

/// Closes stdin, so that a client that goes on writing is told that nobody reads.
pub(crate) fn stop_listening() {
    if let Ok(nothing) = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(nothing);
    }
}

/// What a descriptor is, as far as it can be waited for.
enum Kind {
    Pipe(OwnedFd),
    Socket(UnixStream),
    Other,
}

/// Takes a descriptor of ours for one that does not block, if it is a pipe's or a socket's.
fn open_ready(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<Kind> {
    let Ok(stat) = rustix::fs::fstat(fd) else { return Ok(Kind::Other) };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => Kind::Pipe(open_again(fd, access).or_else(|_| fd.try_clone_to_owned())?),
        FileType::Socket => {
            // Whatever its family: it is only read and written.
            let socket = std::os::unix::net::UnixStream::from(fd.try_clone_to_owned()?);
            socket.set_nonblocking(true)?;
            Kind::Socket(UnixStream::from_std(socket)?)
        }
        _ => Kind::Other,
    })
}

/// An own description of the same pipe: whoever else holds the client's (our stderr, and so the child's, may be the same
/// pipe) does not find it turned to non-blocking.
fn open_again(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
