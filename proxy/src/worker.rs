//! The threads that carry traffic. By default one per core, each with its own runtime, its own listening
//! socket and its own upstream connections, so that an exchange never crosses a core (ARCHITECTURE.md has the
//! figures); or, with `proxy.runtime = "shared"`, one runtime that all cores share.

use crate::{
    client_ip::{AddressPolicy, Origin},
    connection::{self, Protocols},
    departure::Socket,
    forward::{Caller, Carrier},
    lifecycle::Kind,
    outgoing::Outgoing,
    patience::HeadWatch,
    room::{Room, Seat},
    tls::Certificate,
    upstream::set_options,
};
use arc_swap::ArcSwap;
use mcpmeter_config::Runtime;
use std::{
    io,
    net::TcpListener,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    net::{TcpListener as AsyncListener, TcpStream},
    runtime::{Builder, Runtime as TokioRuntime},
};
use tracing::{debug, warn};

/// How long accepting pauses when the process has no file descriptor left.
const BREATHE: Duration = Duration::from_millis(50);
/// How often idle upstream connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a stopping worker waits for the tasks it has already told to end.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// One accept loop with everything its connections need.
pub(crate) struct Worker {
    pub(crate) listener: TcpListener,
    pub(crate) carrier: Arc<Carrier>,
    pub(crate) protocols: Arc<Protocols>,
    pub(crate) certificate: Option<Certificate>,
    /// What is configured about addresses, which a reload may change.
    pub(crate) addresses: Arc<ArcSwap<AddressPolicy>>,
    /// For connections, shared by all workers.
    pub(crate) room: Room,
    /// `proxy.request_head_timeout_ms`.
    pub(crate) patience: Duration,
}

/// How many listening sockets, and thereby runtimes, there are to be.
pub(crate) fn count(proxy: &mcpmeter_config::Proxy) -> usize {
    match proxy.runtime {
        Runtime::PerCore => threads(proxy),
        Runtime::Shared => 1,
    }
}

fn threads(proxy: &mcpmeter_config::Proxy) -> usize {
    match proxy.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

impl Worker {
    /// Starts the worker on a thread of its own; the thread ends when everything it carried has ended.
    pub(crate) fn start(self, number: usize, proxy: &mcpmeter_config::Proxy) -> io::Result<JoinHandle<()>> {
        let runtime = build_runtime(number, proxy)?;
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            runtime.block_on(self.run());
        })
    }

    async fn run(self) {
        let Self { listener, carrier, protocols, certificate, addresses, room, patience } = self;
        let listener = match AsyncListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "cannot listen"),
        };
        let connections =
            Connections { carrier: Arc::clone(&carrier), protocols, certificate, addresses, patience };
        let sweeping = Arc::clone(&carrier);
        carrier.tasks.spawn(async move { sweep_pool(&sweeping).await });
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = carrier.stopping.drained() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let seat = tokio::select! {
                        seat = room.wait_for_seat() => seat,
                        () = carrier.stopping.drained() => Seat::default(),
                    };
                    connections.begin(stream, seat);
                }
                Err(error) => pause_accepting(&error).await,
            }
        }
        // What the kernel has accepted for us already was promised to be served.
        while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
            connections.begin(stream, Seat::default());
        }
        drop(listener);
        carrier.stopping.aborted().await;
        carrier.pool.close();
        carrier.tasks.wait(LAST_TASKS).await;
        // Programs are listened to here until they have ended.
        carrier.stopping.dismissed().await;
    }
}

/// Closes upstream connections that nobody has needed for a while, until the worker stops.
async fn sweep_pool(carrier: &Carrier) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            _ = sweep.tick() => carrier.pool.close_idle(),
            () = carrier.stopping.drained() => return,
        }
    }
}

/// Only a lack of descriptors or memory makes accepting fail for longer than one connection.
async fn pause_accepting(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        warn!(%error, "cannot accept a connection; trying again");
        tokio::time::sleep(BREATHE).await;
    }
}

struct Connections {
    carrier: Arc<Carrier>,
    protocols: Arc<Protocols>,
    certificate: Option<Certificate>,
    addresses: Arc<ArcSwap<AddressPolicy>>,
    patience: Duration,
}

impl Connections {
    /// Serves an accepted connection in a task of its own.
    fn begin(&self, stream: TcpStream, seat: Seat) {
        set_options(&stream);
        let Ok(peer) = stream.peer_addr().map(|peer| peer.ip()) else { return };
        let origin = Origin::new(Some(peer), Arc::clone(&self.addresses));
        let (carrier, protocols) = (Arc::clone(&self.carrier), Arc::clone(&self.protocols));
        let ongoing = carrier.activity.begin(Kind::Connection);
        let mut caller = Caller { peer, origin, client_certificate: None, watch: HeadWatch::new() };
        let patience = self.patience;
        let socket = Socket::new(stream);
        let stream =
            Outgoing::new(Arc::clone(&socket), Arc::clone(&carrier.activity), Arc::clone(&caller.watch));
        match self.certificate.clone() {
            None => self.carrier.tasks.spawn(async move {
                if let Some(protocol) = protocols.choose(&stream, &carrier, &caller, patience).await {
                    connection::serve((stream, socket), protocol, carrier, caller, patience).await;
                }
                drop((ongoing, seat));
            }),
            Some(certificate) => self.carrier.tasks.spawn(async move {
                match certificate.accept(stream, patience).await {
                    Ok((stream, shown)) => {
                        if let Some(shown) = &shown {
                            debug!(client.certificate = %shown, "a client has shown its certificate");
                        }
                        caller.client_certificate = shown.map(Arc::new);
                        let ends = (stream, socket);
                        Box::pin(connection::serve(ends, protocols.any(), carrier, caller, patience)).await;
                    }
                    // The client's affair, and said to it by TLS.
                    Err(error) => debug!(%error, "a TLS handshake has failed"),
                }
                drop((ongoing, seat));
            }),
        }
    }
}

fn build_runtime(number: usize, proxy: &mcpmeter_config::Proxy) -> io::Result<TokioRuntime> {
    let mut builder = match proxy.runtime {
        Runtime::PerCore => Builder::new_current_thread(),
        Runtime::Shared => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads(proxy));
            builder
        }
    };
    builder.thread_name(format!("worker-{number}")).enable_all().build()
}
