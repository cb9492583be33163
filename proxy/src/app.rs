//! The one place where everything is wired: [`App::build`] takes what can fail (sockets, files), [`App::run`]
//! starts the parts and stops them again in an order that loses nothing.

use crate::{
    admin::{Access, Admin, Entrance},
    admission::Admission,
    bodies,
    client_ip::AddressPolicy,
    clock::Clock,
    files::{self, BadFiles},
    key_ring::{BadStore, key_store},
    lag::Lag,
    lifecycle::{Activity, Stopping},
    listener::{self, BindError},
    live::Live,
    metrics::{CallMetrics, Exposition},
    pulse::Pulse,
    refusals::Refusals,
    reload::ConfigOrigin,
    route::Servers,
    router::Routes,
    running::Running,
    signal::Signals,
    tasks::Tasks,
    tls::{Certificate, TlsError},
    worker,
    workers::Workers,
};
use arc_swap::ArcSwap;
use mcpmeter_config::{Config, StoreUrl};
use mcpmeter_journal::{self as journal, BadPostgresUrl, Journal, KeyStore, OpenError, Opened};
use prometheus_client::registry::Registry;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tracing::{info, warn};

/// How long the control tasks may take to end once they have been told to.
const LAST_TASKS: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

/// Why the proxy does not start. The configuration was valid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A port is taken, or may not be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store's file is in use or unusable.
    #[error("cannot open the store")]
    Store(#[from] OpenError),
    /// The database's URL cannot be used.
    #[error("cannot use store.url")]
    StoreUrl(#[from] BadPostgresUrl),
    /// The keys of callers cannot be asked for.
    #[error("cannot use store.url")]
    Keys(#[from] BadStore),
    /// Certificates, or keys of any kind.
    #[error(transparent)]
    Files(#[from] BadFiles),
    /// The same, if they have changed since they were examined.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A route or a thread.
    #[error("cannot start")]
    Io(#[from] io::Error),
}

/// The proxy, ready to run: everything that can be refused has been granted.
pub(crate) struct App {
    config: Config,
    origin: ConfigOrigin,
    clock: Clock,
    stopping: Stopping,
    live: Live,
    registry: Registry,
    refusals: Arc<Refusals>,
    key_store: KeyStore,
    opened: Opened,
    servers: Servers,
    activity: Arc<OnceLock<Vec<Arc<Activity>>>>,
    routes: Arc<ArcSwap<Routes>>,
    certificate: Option<Certificate>,
    entrance: Entrance,
    proxy_listeners: Vec<TcpListener>,
    admin_listener: TcpListener,
}

impl App {
    /// Binds the sockets and opens the store.
    pub(crate) fn build(config: Config, origin: ConfigOrigin) -> Result<Self, StartError> {
        files::examine(&config)?;
        let servers = Servers::default();
        let routes = Routes::build(&config, &Routes::default(), &servers)?;
        let serve = |section, files: &Option<mcpmeter_config::Tls>| {
            files.as_ref().map(|files| servers.certificates.serve(section, files)).transpose()
        };
        let certificate = serve("proxy.tls", &config.proxy.tls)?;
        let admin_certificate = serve("admin.tls", &config.admin.tls)?;
        let proxy_listeners =
            listener::bind(config.proxy.listen, worker::count(&config.proxy), "proxy.listen")?;
        let admin_listener = listener::bind(config.admin.listen, 1, "admin.listen")?.remove(0);
        let live = Live::new();
        let mut registry = Registry::with_prefix("mcpmeter");
        let access = Arc::new(Access::new(&config.admin, admin_listener.local_addr()?, &mut registry));
        let mut metrics = CallMetrics::register(&mut registry);
        let refusals = Arc::<Refusals>::default();
        refusals.register(&mut registry);
        let announcer = live.clone();
        let on_taken: journal::OnTaken = Box::new(move |records| {
            metrics.count(records);
            announcer.announce(records);
        });
        let key_store = key_store(&config.store.url)?;
        let opened = journal::open(journal_options(&config)?, on_taken)?;
        opened.journal.seal_bodies_with(bodies::keys(&config.record));
        Ok(Self {
            key_store,
            opened,
            routes: Arc::new(ArcSwap::from_pointee(routes)),
            servers,
            activity: Arc::default(),
            clock: Clock::start(),
            stopping: Stopping::default(),
            config,
            origin,
            live,
            registry,
            refusals,
            certificate,
            entrance: Entrance { access, certificate: admin_certificate },
            proxy_listeners,
            admin_listener,
        })
    }

    /// The address for MCP clients; the port is known even if it was to be any.
    pub(crate) fn proxy_address(&self) -> io::Result<SocketAddr> {
        self.proxy_listeners[0].local_addr()
    }

    /// The address for people and monitoring.
    pub(crate) fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin_listener.local_addr()
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// What is going on, for whoever shows it.
    pub(crate) fn pulse(&self) -> Pulse {
        Pulse { journal: self.opened.journal.clone(), activity: Arc::clone(&self.activity) }
    }

    /// The calls as they happen.
    pub(crate) fn live(&self) -> Live {
        self.live.clone()
    }

    /// Runs until it is told to stop, and then until everything is written down.
    pub(crate) fn run(self) -> Result<(), StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ended = runtime.block_on(self.run_parts());
        // A read that hangs on a stalled disk must not hold the end up.
        runtime.shutdown_background();
        ended
    }

    async fn run_parts(self) -> Result<(), StartError> {
        let mut signals = Signals::listen()?;
        info!(proxy.address = %self.proxy_address()?, admin.address = %self.admin_address()?, "listening");
        let Opened { journal, writer, shipper, keeper } = self.opened;
        let running = Running {
            routes: self.routes,
            journal,
            clock: self.clock,
            stopping: self.stopping,
            certificate: self.certificate,
            entrance: self.entrance.clone(),
            addresses: Arc::new(ArcSwap::from_pointee(AddressPolicy::of(&self.config))),
            servers: self.servers,
            refusals: self.refusals,
            admission: Arc::new(ArcSwap::from_pointee(Admission::build(&self.config, None, self.clock))),
        };
        running.begin_with_issuers_keys().await;
        let workers = Workers::start(self.proxy_listeners, &running, &self.config.proxy)?;
        let _ = self.activity.set(workers.activity.clone());
        running.servers.meters.start_sampler()?;

        let control = Tasks::default();
        let lag = Arc::new(Lag::new(outbox(&self.config)));
        let exposition = Exposition::new(self.registry, &running, Arc::clone(&lag), workers.activity.clone());
        let admin = Arc::new(Admin {
            exposition,
            journal: running.journal.clone(),
            live: self.live,
            stopping: running.stopping.clone(),
            entrance: self.entrance,
        });
        control.spawn(admin.serve(self.admin_listener, control.clone()));
        let shipping = Stopping::default();
        let flush = Duration::from_millis(self.config.store.flush_timeout_ms);
        let (keeping, watching) = (shipping.clone(), shipping.clone());
        running.look_after_callers(&self.config.store.url, self.key_store, &control, &shipping);
        control.spawn(async move { Box::pin(keeper.run(keeping.drained())).await });
        control.spawn(async move { lag.watch(watching.drained()).await });
        if let Some(shipper) = shipper {
            let shipping = shipping.clone();
            control.spawn(async move { Box::pin(shipper.run(shipping.drained(), flush)).await });
        }

        let mut reloader = running.reloader(self.origin, self.config);
        running.tend(&mut signals, &mut reloader).await;
        let drain = Duration::from_millis(reloader.current.proxy.drain_timeout_ms);
        workers.stop(&running, drain, &mut signals).await;
        running.take_samples();
        running.servers.programs.stop(signals.next_stop()).await;
        workers.join(&running).await;
        running.close_instances();
        finish_records(writer, &shipping, &control, flush).await;
        log_end(&running.journal);
        Ok(())
    }
}

fn log_end(journal: &Journal) {
    let accounts = journal.accounts();
    let (finished, stored, outbox, lost) =
        (accounts.finished, accounts.stored, accounts.outbox, accounts.lost_total());
    info!(finished, stored, outbox, lost, "stopped");
}

pub(crate) fn journal_options(config: &Config) -> Result<journal::Options, BadPostgresUrl> {
    let (sqlite_file, postgres) = match &config.store.url {
        StoreUrl::Sqlite(file) => (file.clone(), None),
        StoreUrl::Postgres(url) => (config.store.outbox.clone(), Some(url.expose().parse()?)),
    };
    let store = &config.store;
    Ok(journal::Options {
        sqlite_file,
        postgres,
        queue_bytes: store.queue_mib as usize * MIB,
        queue_directory: store.queue_directory.clone(),
        outbox_max_bytes: store.outbox_max_mib.map(|mib| u64::from(mib) * MIB as u64),
        retention: journal::Retention {
            days: store.retention_days,
            compress_after_days: store.compress_after_days,
            sqlite_max_bytes: u64::from(store.sqlite_max_mib) * MIB as u64,
            body_days: config.record.bodies_retention_days,
        },
        migrate: store.migrate,
    })
}

/// Where calls wait for PostgreSQL, and how many bytes they may take there if that is configured.
fn outbox(config: &Config) -> Option<(PathBuf, Option<u64>)> {
    let max_bytes = config.store.outbox_max_mib.map(|mib| u64::from(mib) * MIB as u64);
    match config.store.url {
        StoreUrl::Sqlite(_) => None,
        StoreUrl::Postgres(_) => Some((config.store.outbox.clone(), max_bytes)),
    }
}

/// Everything accepted becomes durable, then as much as possible is shipped, then the file is closed.
pub(crate) async fn finish_records(
    writer: journal::WriterHandle,
    shipping: &Stopping,
    control: &Tasks,
    flush: Duration,
) {
    let writer = match tokio::task::spawn_blocking(move || (writer.flush(), writer)).await {
        Ok((_, writer)) => writer,
        Err(error) => return warn!(%error, "the journal could not be flushed"),
    };
    shipping.drain();
    control.wait(flush + LAST_TASKS).await;
    match tokio::task::spawn_blocking(|| writer.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(unwritten)) => tracing::error!(error = %unwritten, "the disk did not take all calls"),
        Err(error) => warn!(%error, "the journal could not be closed"),
    }
}
