//! One connection of the play, seen from one end. It reads all the time, unless it is told not to, so that neither
//! side ever waits for the script; it sends the bytes it is given and no others.

use crate::{
    PATIENCE,
    inbox::{End, Inbox},
};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{Notify, watch},
    task::JoinSet,
    time::timeout,
};

/// The smallest receive buffer there is, so that the peer soon notices that nobody reads.
const NARROW: u32 = 4096;

/// One end of a connection.
pub(crate) struct Link {
    /// Gone once the script has closed it.
    stream: Mutex<Option<Arc<TcpStream>>>,
    inbox: Arc<Mutex<Inbox>>,
    reads: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Link {
    /// Connects as a client. `narrow` is for one that will not read.
    pub(crate) async fn connect(address: SocketAddr, narrow: bool, news: &Arc<Notify>) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if narrow {
            socket.set_recv_buffer_size(NARROW).expect("a socket");
        }
        let stream = timeout(PATIENCE, socket.connect(address)).await.expect("in time").expect("accepted");
        let link = Self::over(stream, true, news);
        link.reads.send_replace(!narrow);
        link
    }

    /// Over a socket; `news` is notified of whatever arrives.
    pub(crate) fn over(stream: TcpStream, is_client: bool, news: &Arc<Notify>) -> Self {
        stream.set_nodelay(true).expect("a socket");
        let stream = Arc::new(stream);
        let inbox = Arc::new(Mutex::new(Inbox::new(is_client)));
        let (reads, may_read) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(read_on(Arc::clone(&stream), Arc::clone(&inbox), may_read, Arc::clone(news)));
        Self { stream: Mutex::new(Some(stream)), inbox, reads, tasks: Mutex::new(tasks) }
    }

    /// What has arrived.
    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("not poisoned")
    }

    /// Whether it takes what arrives.
    pub(crate) fn set_reads(&self, reads: bool) {
        self.reads.send_replace(reads);
    }

    fn stream(&self) -> Arc<TcpStream> {
        let stream = self.stream.lock().expect("not poisoned");
        Arc::clone(stream.as_ref().expect("not closed by the script"))
    }

    /// Sends these bytes. That the other side no longer takes them shows in what it does not receive.
    pub(crate) async fn send(&self, bytes: &[u8]) {
        self.inbox().sends(bytes);
        let sent = timeout(PATIENCE, send_all(&self.stream(), bytes)).await;
        assert!(sent.is_ok(), "the peer does not read");
    }

    /// Sends them without waiting until they are taken.
    pub(crate) fn pour(&self, bytes: Vec<u8>) {
        let stream = self.stream();
        self.tasks.lock().expect("not poisoned").spawn(async move { send_all(&stream, &bytes).await });
    }

    /// Ends the sending side only.
    pub(crate) fn finish(&self) {
        let shut = socket2::SockRef::from(&*self.stream()).shutdown(std::net::Shutdown::Write);
        shut.expect("open");
    }

    /// Closes both directions; with a reset if so wanted.
    pub(crate) async fn close(&self, reset: bool) {
        let Some(stream) = self.stream.lock().expect("not poisoned").take() else { return };
        if reset {
            socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).expect("a socket");
        }
        // The tasks hold the socket, too, and only the last one closes it.
        let mut tasks = std::mem::take(&mut *self.tasks.lock().expect("not poisoned"));
        tasks.shutdown().await;
        drop(stream);
    }
}

async fn send_all(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.writable().await.and_then(|()| stream.try_write(bytes)) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn read_on(
    stream: Arc<TcpStream>,
    inbox: Arc<Mutex<Inbox>>,
    mut may_read: watch::Receiver<bool>,
    news: Arc<Notify>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if may_read.wait_for(|reads| *reads).await.is_err() {
            return;
        }
        // Acknowledging lazily, as most peers do, is what makes a sender that waits for it slow; the kernel forgets.
        let lazy = socket2::SockRef::from(&*stream).set_tcp_quickack(false);
        let read = lazy.and(stream.readable().await).and_then(|()| stream.try_read(&mut buffer));
        {
            let mut inbox = inbox.lock().expect("not poisoned");
            match read {
                Ok(0) => inbox.finish(End::Closed),
                Ok(count) => inbox.feed(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => inbox.finish(End::Reset),
            }
            if inbox.end.is_some() {
                news.notify_one();
                return;
            }
        }
        news.notify_one();
    }
}
