//! The network between mcpmeter and PostgreSQL: a relay that can be cut, slowed to a byte a second, or stalled so
//! that nothing moves and nobody is told.

use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::{Duration, sleep},
};

/// How the link is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Everything passes.
    Up,
    /// Every connection is broken, and every new one.
    Cut,
    /// One byte a second passes in each direction.
    Slow,
    /// Connections stay, and are made, but nothing passes.
    Stalled,
}

/// The relay; it ends when dropped.
pub(crate) struct Link {
    /// Where its near end listens.
    pub(crate) port: u16,
    state: watch::Sender<State>,
    _tasks: JoinSet<()>,
}

impl Link {
    /// A link to a port of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let near = listener.local_addr().expect("bound").port();
        let state = watch::Sender::new(State::Up);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, SocketAddr::from(([127, 0, 0, 1], port)), state.subscribe()));
        Self { port: near, state, _tasks: tasks }
    }

    /// Changes it at once, also for what is under way.
    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn accept(listener: TcpListener, far: SocketAddr, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        connections.spawn(relay(near, far, state.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Both directions, until one ends or the link is cut; then both ends see the connection close.
async fn relay(near: TcpStream, far: SocketAddr, mut state: watch::Receiver<State>) {
    if *state.borrow() == State::Cut {
        return;
    }
    let Ok(far) = TcpStream::connect(far).await else { return };
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let (there, back) = (state.clone(), state.clone());
    // However it ends is what the link is for.
    tokio::select! {
        _ = pump(near_read, far_write, there) => {}
        _ = pump(far_read, near_write, back) => {}
        _ = state.wait_for(|state| *state == State::Cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let now = *state.borrow_and_update();
            match now {
                State::Up => {
                    to.write_all(rest).await?;
                    rest = &[];
                }
                State::Slow => {
                    to.write_all(&rest[..1]).await?;
                    rest = &rest[1..];
                    tokio::select! {
                        () = sleep(Duration::from_secs(1)) => {}
                        _ = state.changed() => {}
                    }
                }
                State::Stalled | State::Cut => drop(state.changed().await),
            }
        }
    }
}
