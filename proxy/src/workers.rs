//! All workers: started together, and stopped together so that no call is cut that could have ended.

use crate::{
    connection::Protocols,
    forward::Carrier,
    lifecycle::{Activity, Kind, wait_until_settled},
    room::Room,
    running::Running,
    signal::Signals,
    tasks::Tasks,
    upstream::Pool,
    worker::Worker,
};
use std::{io, net::TcpListener, sync::Arc, thread::JoinHandle, time::Duration};
use tracing::{info, warn};

/// The threads that carry traffic.
pub(crate) struct Workers {
    threads: Vec<JoinHandle<()>>,
    pub(crate) activity: Vec<Arc<Activity>>,
}

impl Workers {
    /// One worker per listening socket.
    pub(crate) fn start(
        listeners: Vec<TcpListener>,
        running: &Running,
        limits: &mcpmeter_config::Proxy,
    ) -> io::Result<Self> {
        let mut workers = Self { threads: Vec::new(), activity: Vec::new() };
        let room = Room::of(limits.max_connections, "proxy.max_connections");
        for (number, listener) in listeners.into_iter().enumerate() {
            let activity = Arc::<Activity>::default();
            let carrier = Arc::new(Carrier {
                routes: Arc::clone(&running.routes),
                journal: Arc::new(running.journal.clone()),
                clock: running.clock,
                pool: Pool::new(running.clock),
                tasks: Tasks::default(),
                stopping: running.stopping.for_worker(),
                activity: Arc::clone(&activity),
                checks_host: limits.listen.ip().is_loopback(),
                speaks_tls: running.certificate.is_some(),
                refusals: Arc::clone(&running.refusals),
                admission: Arc::clone(&running.admission),
            });
            let protocols = Arc::new(Protocols::new(limits));
            let (certificate, addresses) = (running.certificate.clone(), Arc::clone(&running.addresses));
            let patience = Duration::from_millis(limits.request_head_timeout_ms);
            let room = room.clone();
            let worker = Worker { listener, carrier, protocols, certificate, addresses, room, patience };
            workers.threads.push(worker.start(number, limits)?);
            workers.activity.push(activity);
        }
        Ok(workers)
    }

    fn count(&self, kind: Kind) -> i64 {
        self.activity.iter().map(|activity| activity.count(kind)).sum()
    }

    /// Exchanges that owe an answer.
    fn owed(&self) -> i64 {
        self.count(Kind::Exchange)
    }

    /// Connections whose clients have still to take the end of an answer: its exchange is over when the last byte
    /// is in the connection's buffer.
    fn sending(&self) -> i64 {
        self.count(Kind::Sending)
    }

    /// Stops accepting, lets calls end up to `limit` or a second signal, cuts what is left.
    pub(crate) async fn stop(&self, running: &Running, limit: Duration, signals: &mut Signals) {
        info!(calls = self.owed(), "stopping");
        running.stopping.drain();
        tokio::select! {
            settled = wait_until_settled(limit, || {
                self.owed() > 0 || running.open_calls() > 0 || self.sending() > 0
            }) => if !settled {
                warn!(calls = self.owed(), "not all calls have ended in time; they are cut");
            },
            () = signals.next_stop() => warn!(calls = self.owed(), "told again to stop; open calls are cut"),
        }
        running.stopping.abort();
    }

    /// Waits for the ends of the threads.
    pub(crate) async fn join(self, running: &Running) {
        running.stopping.dismiss();
        let join = || self.threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        match tokio::task::spawn_blocking(join).await {
            Ok(0) => {}
            panicked => warn!(?panicked, "a worker ended with a panic"),
        }
    }
}
