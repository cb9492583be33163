//! The scripted server: accepts whoever comes, and hands out requests to the exchanges of the play that take them. A
//! request that nobody takes stays, and is counted: it should never have been sent.

use crate::{inbox::Ending, link::Link, stage::Party};
use socket2::Socket;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};

/// Connections that may wait to be accepted; more than any play has.
const BACKLOG: i32 = 1024;

/// The server's end of the play.
#[derive(Default)]
pub(crate) struct Server {
    accepted: Arc<Mutex<Vec<Accepted>>>,
    accepting: JoinSet<()>,
}

struct Accepted {
    link: Arc<Link>,
    /// How many of its requests have been taken.
    taken: usize,
}

impl Server {
    /// Listens on a socket that is bound, and accepts.
    pub(crate) fn listen(&mut self, socket: &Socket, news: &Arc<Notify>) {
        socket.listen(BACKLOG).expect("bound");
        let listener = socket.try_clone().map(Into::into).and_then(TcpListener::from_std).expect("a socket");
        self.accepting.spawn(accept_all(listener, Arc::clone(&self.accepted), Arc::clone(news)));
    }

    /// The oldest request that nobody has taken yet and that contains the bytes.
    pub(crate) fn take(&self, bytes: &[u8], whole: bool) -> Option<Party> {
        self.accepted().iter_mut().find_map(|accepted| {
            let message = accepted.link.inbox().messages.get(accepted.taken)?.clone();
            let contains = |part: &[u8]| memchr::memmem::find(part, bytes).is_some();
            let is_there = message.ending == Ending::Complete || !whole;
            if !is_there || !(contains(&message.head) || contains(&message.body)) {
                return None;
            }
            accepted.taken += 1;
            Some(Party { link: Arc::clone(&accepted.link), message: accepted.taken - 1, seen: 0 })
        })
    }

    /// Requests that came and that nobody has taken.
    pub(crate) fn untaken(&self) -> usize {
        let left = |accepted: &Accepted| accepted.link.inbox().messages.len() - accepted.taken;
        self.accepted().iter().map(left).sum()
    }

    fn accepted(&self) -> MutexGuard<'_, Vec<Accepted>> {
        self.accepted.lock().expect("not poisoned")
    }
}

async fn accept_all(listener: TcpListener, accepted: Arc<Mutex<Vec<Accepted>>>, news: Arc<Notify>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a socket");
        let link = Arc::new(Link::over(stream, false, &news));
        accepted.lock().expect("not poisoned").push(Accepted { link, taken: 0 });
        news.notify_one();
    }
}
