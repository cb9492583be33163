//! What goes on beside the traffic while the proxy runs: time limits of calls, changes of the configuration.

use crate::{
    admin::Entrance,
    admission::{self, Admission},
    client_ip::AddressPolicy,
    clock::Clock,
    key_ring::KeyRing,
    lifecycle::Stopping,
    process_meter::Use,
    quota::Looker,
    refusals::Refusals,
    reload::{self, ConfigOrigin, Reloader},
    route::Servers,
    router::Routes,
    signal::{Signal, Signals},
    tasks::Tasks,
    tls::Certificate,
};
use arc_swap::ArcSwap;
use mcpmeter_config::{Config, StoreUrl};
use mcpmeter_journal::{Journal, KeyStore, ProcessSample};
use mcpmeter_observer::{CallRecord, Instance, Tick};
use std::{sync::Arc, time::Duration};

/// How often calls are looked for whose time has run out.
const EXPIRY: Duration = Duration::from_secs(1);

/// How long callers wait at a start until issuers have said their keys.
const KEYS_AT_START: Duration = Duration::from_secs(2);

/// How often it is written down what the servers' processes use.
const SAMPLES: Duration = Duration::from_secs(60);

/// What several parts share while the proxy runs.
pub(crate) struct Running {
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    pub(crate) journal: Journal,
    pub(crate) clock: Clock,
    pub(crate) stopping: Stopping,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) entrance: Entrance,
    pub(crate) addresses: Arc<ArcSwap<AddressPolicy>>,
    /// What all servers have in common.
    pub(crate) servers: Servers,
    /// Callers that are not let in.
    pub(crate) refusals: Arc<Refusals>,
    /// What the others may do.
    pub(crate) admission: Arc<ArcSwap<Admission>>,
}

impl Running {
    pub(crate) fn reloader(&self, origin: ConfigOrigin, current: Config) -> Reloader {
        Reloader {
            seen: origin.seen,
            origin,
            current,
            routes: Arc::clone(&self.routes),
            addresses: Arc::clone(&self.addresses),
            servers: self.servers.clone(),
            admission: Arc::clone(&self.admission),
            journal: self.journal.clone(),
            clock: self.clock,
            certificate: self.certificate.clone(),
            entrance: self.entrance.clone(),
        }
    }

    /// What there is to do while traffic flows: look after time limits and the configuration, until a signal
    /// ends it.
    pub(crate) async fn tend(&self, signals: &mut Signals, reloader: &mut Reloader) {
        let mut expiry = tokio::time::interval(EXPIRY);
        let mut look = tokio::time::interval(reload::LOOK);
        let mut samples = tokio::time::interval(SAMPLES);
        let reading = Tasks::default();
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => return,
                    // Without a file it can only mean that the terminal is gone.
                    Signal::Reload if reloader.origin.text.is_some() => return,
                    Signal::Reload => {
                        reloader.reload();
                        self.read_issuers_keys(&reading);
                    }
                },
                _ = look.tick() => if reloader.reload_if_changed() {
                    self.read_issuers_keys(&reading);
                },
                _ = expiry.tick() => {
                    self.end_expired_calls();
                    self.record_refusals(false);
                }
                _ = samples.tick() => self.take_samples(),
            }
        }
    }

    /// Reads the keys of issuers that nobody has read yet, so that the first caller is known like all others.
    fn read_issuers_keys(&self, reading: &Tasks) {
        for authenticator in self.routes.load().lacking_keys() {
            reading.spawn(async move { authenticator.read_keys().await });
        }
    }

    /// The same at a start. An issuer that takes long is not waited for.
    pub(crate) async fn begin_with_issuers_keys(&self) {
        let reading = Tasks::default();
        self.read_issuers_keys(&reading);
        reading.wait(KEYS_AT_START).await;
    }

    /// Keeps current what is known of callers: their keys, and what they have used of their quotas.
    pub(crate) fn look_after_callers(
        &self,
        store: &StoreUrl,
        key_store: KeyStore,
        control: &Tasks,
        ends: &Stopping,
    ) {
        let looker = Looker::new(store, self.journal.clone(), self.clock);
        let (admission, quotas_end) = (Arc::clone(&self.admission), ends.clone());
        control.spawn(async move {
            Box::pin(admission::tend(looker, move || admission.load_full(), quotas_end.drained())).await;
        });
        let (keys, routes) = (Arc::clone(&self.servers.keys), Arc::clone(&self.routes));
        let ends = ends.clone();
        control.spawn(async move { keep_keys(&keys, key_store, &routes, &ends).await });
    }

    /// What the servers' processes have come to, for the books.
    pub(crate) fn take_samples(&self) {
        let at = self.clock.timestamp();
        let sample = |(instance_id, used): (Arc<str>, Use)| ProcessSample {
            instance_id: instance_id.to_string(),
            at,
            cpu_seconds_total: used.cpu.as_secs_f64(),
            resident_bytes: used.resident_bytes,
            processes: used.processes,
            restarts: used.restarts,
            uptime_seconds: used.uptime.as_secs_f64(),
            unattributed_cpu_seconds: used.unattributed_cpu.as_secs_f64(),
        };
        self.journal.sample(self.routes.load().uses().into_iter().map(sample).collect());
    }

    fn end_expired_calls(&self) {
        self.accept_from_all(Instance::poll_expired);
    }

    /// Of refusals that flood, the number.
    fn record_refusals(&self, is_last: bool) {
        let counted = self.refusals.take_counted(self.clock.tick(), self.clock.timestamp(), is_last);
        counted.into_iter().for_each(|record| self.journal.accept(Box::new(record)));
    }

    /// What still waits between exchanges will not be answered any more.
    pub(crate) fn close_instances(&self) {
        self.accept_from_all(Instance::close);
        self.record_refusals(true);
    }

    fn accept_from_all(&self, take: impl Fn(&Instance, Tick) -> Vec<Box<CallRecord>>) {
        let routes = self.routes.load();
        for instance in routes.instances() {
            for record in take(instance, self.clock.tick()) {
                // Which process worked on it, nobody knows any more.
                routes.meters_of(instance).for_each(|meter| meter.forget(record.id));
                self.journal.accept(record);
            }
        }
    }

    /// Calls of legacy clients that wait for their answers.
    pub(crate) fn open_calls(&self) -> usize {
        self.routes.load().instances().map(|instance| instance.open_calls()).sum()
    }
}

/// Keeps the keys of callers current, from when a route first wants them.
async fn keep_keys(keys: &KeyRing, store: KeyStore, routes: &ArcSwap<Routes>, ends: &Stopping) {
    while !routes.load().want_keys() {
        tokio::select! {
            () = tokio::time::sleep(reload::LOOK) => {}
            () = ends.drained() => return,
        }
    }
    Box::pin(keys.keep_current(store, ends.drained())).await;
}
