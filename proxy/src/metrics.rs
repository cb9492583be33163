//! What Prometheus is told. Counting happens on the journal's writer thread, once per record, so that the
//! request path pays nothing for it; everything else is read when it is asked for.

mod bodies;
mod certificates;
mod servers;

use crate::{
    admission::Admission,
    lag::Lag,
    lifecycle::{Activity, Kind},
    printable::{is_printable, printable},
    router::Routes,
    running::Running,
    tls::Certificates,
};
use arc_swap::ArcSwap;
use mcpmeter_journal::{Accounts, Journal, LossReason};
use mcpmeter_observer::{CallRecord, Origin, Status};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    collections::HashSet,
    sync::{Arc, atomic::AtomicU64},
};

/// The most tool names that become a label: they come from the callers, and each is a time series for ever.
const MAX_TOOLS: usize = 500;
/// What stands in the place of a tool that came too late.
const OTHER_TOOLS: &str = "__other__";
/// The bucket bounds of the OpenTelemetry conventions for MCP, in seconds.
const BOUNDS: [f64; 14] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    server: Arc<str>,
    tool: Arc<str>,
    status: &'static str,
    origin: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    server: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

/// What is counted per call.
pub(crate) struct CallMetrics {
    calls: Family<CallLabels, Counter>,
    durations: Family<ServerLabels, Histogram>,
    bytes: Family<DirectionLabels, Counter>,
    tools: HashSet<(Arc<str>, Arc<str>)>,
}

impl CallMetrics {
    /// Counters that `registry` shows.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            calls: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
            bytes: Family::default(),
            tools: HashSet::new(),
        };
        registry.register("calls", "Finished calls", metrics.calls.clone());
        registry.register_with_unit(
            "call_duration",
            "Answer complete minus request complete",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register("message_bytes", "JSON-RPC bytes of calls", metrics.bytes.clone());
        metrics
    }

    /// Counts finished calls.
    pub(crate) fn count(&mut self, records: &[CallRecord]) {
        for record in records {
            let server = Arc::clone(&record.mcp_server_instance_id);
            let labels = CallLabels {
                tool: self.tool_label(record),
                server: Arc::clone(&server),
                status: record.status.as_str(),
                origin: record.origin.map_or("", Origin::as_str),
            };
            self.calls.get_or_create(&labels).inc();
            let seconds = record.duration_us as f64 / 1e6;
            self.durations.get_or_create(&ServerLabels { server }).observe(seconds);
            self.bytes.get_or_create(&DirectionLabels { direction: "in" }).inc_by(record.input_bytes);
            self.bytes.get_or_create(&DirectionLabels { direction: "out" }).inc_by(record.output_bytes);
        }
    }

    /// A tool becomes a label when it has succeeded once: a caller can invent names, but not tools.
    fn tool_label(&mut self, record: &CallRecord) -> Arc<str> {
        let Some(tool) = &record.tool_name else { return "".into() };
        let key = (Arc::clone(&record.mcp_server_instance_id), Arc::clone(tool));
        if self.tools.contains(&key) {
            return label_of(tool);
        }
        if record.status == Status::Ok && self.tools.len() < MAX_TOOLS {
            self.tools.insert(key);
            return label_of(tool);
        }
        OTHER_TOOLS.into()
    }
}

/// The name as a label: whoever reads `/metrics` on a terminal sees a name, and nothing else.
fn label_of(tool: &Arc<str>) -> Arc<str> {
    if is_printable(tool) { Arc::clone(tool) } else { printable(tool).into() }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// Everything that `/metrics` shows.
pub(crate) struct Exposition {
    registry: Registry,
    journal: Journal,
    lag: Arc<Lag>,
    activity: Vec<Arc<Activity>>,
    routes: Arc<ArcSwap<Routes>>,
    certificates: Certificates,
    admission: Arc<ArcSwap<Admission>>,
}

impl Exposition {
    pub(crate) fn new(
        mut registry: Registry,
        running: &Running,
        lag: Arc<Lag>,
        activity: Vec<Arc<Activity>>,
    ) -> Self {
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The running program", build);
        Self {
            registry,
            journal: running.journal.clone(),
            lag,
            activity,
            routes: Arc::clone(&running.routes),
            certificates: running.servers.certificates.clone(),
            admission: Arc::clone(&running.admission),
        }
    }

    /// The metrics in the OpenMetrics text format.
    pub(crate) fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        // What is read now is registered now; the end marker belongs behind both parts.
        encode(&mut text, &self.registry)?;
        let counted = text.strip_suffix("# EOF\n").unwrap_or(&text).to_owned();
        let mut now = String::new();
        encode(&mut now, &self.read_now())?;
        Ok(counted + &now)
    }

    fn read_now(&self) -> Registry {
        let mut registry = Registry::with_prefix("mcpmeter");
        let mut gauges = Gauges { registry: &mut registry };
        let sum =
            |kind| self.activity.iter().map(|activity| activity.count(kind)).sum::<i64>().unsigned_abs();
        gauges.show("connections", "Client connections", sum(Kind::Connection));
        gauges.show("in_flight", "Exchanges that owe an answer", sum(Kind::Exchange));
        gauges.show("streams", "Open GET streams", sum(Kind::Stream));
        let help = "Of requests that are read before they may go on, beyond the first 64 KiB of each";
        gauges.show("held_body_bytes", help, self.admission.load().held_bytes());
        let (accounts, health) = (self.journal.accounts(), self.journal.health());
        gauges.show("log_queue_records", "Finished calls that are not durable yet", accounts.queued);
        gauges.show("log_outbox_records", "Durable calls that PostgreSQL does not have yet", accounts.outbox);
        gauges.show(
            "log_recovered_records",
            "Calls found in the queue and the outbox at start",
            accounts.recovered,
        );
        gauges.show(
            "log_default_partition_rows",
            "Rows in PostgreSQL's default partition, up to 1000; any keeps a day from having its partition",
            health.default_partition_rows,
        );
        self.lag.show(&accounts, &mut gauges);
        show_totals(&mut registry, &accounts);
        show_count(
            &mut registry,
            "log_duplicates",
            "Calls that the store had already, by their key",
            health.duplicates,
        );
        let set_aside = self.journal.set_aside_files();
        show_count(&mut registry, "log_set_aside_files", "Damaged files that were put aside", set_aside);
        let help = "Samples of processes that will never be stored";
        show_count(&mut registry, "lost_process_samples", help, self.journal.lost_samples());
        bodies::show(&mut registry, &self.journal);
        certificates::show(&mut registry, &self.certificates);
        let routes = self.routes.load();
        servers::show_traffic(&mut registry, &routes);
        servers::show_processes(&mut registry, &routes);
        registry
    }
}

/// Takes gauges that were read just now.
pub(crate) struct Gauges<'a> {
    registry: &'a mut Registry,
}

impl Gauges<'_> {
    /// A whole number.
    pub(crate) fn show(&mut self, name: &str, help: &str, value: u64) {
        let gauge = Gauge::<i64>::default();
        gauge.set(signed(value));
        self.registry.register(name, help, gauge);
    }

    /// A time in seconds; the unit is added to the name.
    pub(crate) fn show_seconds(&mut self, name: &str, help: &str, seconds: f64) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(seconds);
        self.registry.register_with_unit(name, help, Unit::Seconds, gauge);
    }
}

fn show_totals(registry: &mut Registry, accounts: &Accounts) {
    show_count(registry, "log_finished", "Calls handed to the journal", accounts.finished);
    show_count(registry, "log_stored", "Calls in the store", accounts.stored);
    let lost = Family::<ReasonLabels, Counter>::default();
    for reason in LossReason::ALL {
        lost.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc_by(accounts.lost(reason));
    }
    registry.register("log_lost", "Calls that will never be stored", lost);
}

/// A counter that was read just now.
fn show_count(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
