//! What the processes of metered instances used: one sample per instance and minute or so, on its way through the
//! writer into the SQLite file, and from there, where PostgreSQL is configured, into the table of the same name.
//!
//! ```text
//! Journal::sample ──▶ channel ──▶ writer ──▶ mcp_process_sample          without PostgreSQL
//!                                       └──▶ process_sample_outbox ──▶ PostgreSQL (`shipper::samples`)
//! ```
//!
//! Samples are no calls: where there is no room for them (the channel, a disk that takes nothing, an outbox at its
//! quota, a PostgreSQL that is away for long) they are dropped, and counted, and never in the way of a call. One that
//! is written twice, or told to PostgreSQL twice, is there once: instance, instant and outbox are its key.

use crate::{columns::Kind, inscribe::Target, journal::Shared, value::Value};
use mcpmeter_observer::Timestamp;
use rusqlite::{Transaction, params_from_iter};
use std::{
    borrow::Cow,
    collections::VecDeque,
    ops::RangeInclusive,
    sync::{LazyLock, mpsc::Receiver},
};
use uuid::Uuid;

/// Samples that may be on their way to the writer: beyond that the newest are dropped.
pub(crate) const PLACES: usize = 4_096;
/// Samples that the writer holds while the disk takes nothing: beyond that the oldest are dropped.
const MOST_WAITING: usize = 4_096;
/// Samples that wait for PostgreSQL, 10 MB of them: a week of ten instances. Beyond that the oldest are dropped.
const MOST_IN_OUTBOX: u64 = 100_000;
/// Bytes of one in the file, roughly.
const BYTES: u64 = 128;
/// The share of the outbox's quota that samples may take.
const SHARE: u64 = 8;

/// From 1970 to 9999, in microseconds: a clock that is further off says nothing.
const INSTANTS: RangeInclusive<i64> = 0..=253_402_300_799_999_999;

/// The table where they are kept, in SQLite as in PostgreSQL.
pub(crate) const TABLE: &str = "mcp_process_sample";
/// The SQLite table where they wait for PostgreSQL, oldest first by `seq`.
pub(crate) const OUTBOX: &str = "process_sample_outbox";

/// The columns of these tables, in their order.
pub(crate) const COLUMNS: [(&str, Kind); 9] = [
    ("instance_id", Kind::Text),
    ("at", Kind::Timestamp),
    ("spool_id", Kind::Uuid),
    ("cpu_seconds_total", Kind::Double),
    ("resident_bytes", Kind::BigInt),
    ("processes", Kind::Integer),
    ("restarts", Kind::BigInt),
    ("uptime_seconds", Kind::Double),
    ("unattributed_cpu_seconds", Kind::Double),
];

/// The names of the columns, separated by commas.
pub(crate) static NAMES: LazyLock<String> = LazyLock::new(|| COLUMNS.map(|(name, _)| name).join(", "));

/// What the processes of one instance used, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessSample {
    /// The MCP server instance.
    pub instance_id: String,
    /// When it was looked at.
    pub at: Timestamp,
    /// CPU time of the process tree, in seconds; a counter.
    pub cpu_seconds_total: f64,
    /// Resident set of the process tree.
    pub resident_bytes: u64,
    /// Processes of the tree; 0 while there is none.
    pub processes: u32,
    /// How often the process was started again; a counter.
    pub restarts: u64,
    /// How long the process has been running, in seconds.
    pub uptime_seconds: f64,
    /// The part of `cpu_seconds_total` that belongs to no call; a counter.
    pub unattributed_cpu_seconds: f64,
}

/// A sample that was read back.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSample {
    /// The outbox of the proxy that took it: several proxies may serve one instance, each with its own processes.
    pub spool_id: Uuid,
    /// The sample.
    pub sample: ProcessSample,
}

impl ProcessSample {
    /// Whether both stores can hold it.
    pub(crate) fn is_storable(&self) -> bool {
        let numbers = [self.cpu_seconds_total, self.uptime_seconds, self.unattributed_cpu_seconds];
        numbers.iter().all(|number| number.is_finite())
            && INSTANTS.contains(&self.at.0)
            && !self.instance_id.contains('\0')
    }

    /// What SQLite is given, without the outbox's identity, which the file knows.
    fn values(&self) -> [Value<'_>; COLUMNS.len() - 1] {
        let whole = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        [
            Value::Text(Cow::Borrowed(&self.instance_id)),
            Value::Time(self.at),
            Value::Float(self.cpu_seconds_total),
            whole(self.resident_bytes),
            Value::Int(i32::try_from(self.processes).unwrap_or(i32::MAX).into()),
            whole(self.restarts),
            Value::Float(self.uptime_seconds),
            Value::Float(self.unattributed_cpu_seconds),
        ]
    }
}

impl StoredSample {
    /// The sample of a row; `None` if its values are of other kinds than those of the columns.
    pub(crate) fn from_values(values: &[Value<'_>]) -> Option<Self> {
        let [
            Value::Text(instance_id),
            Value::Time(at),
            Value::Uuid(spool_id),
            Value::Float(cpu_seconds_total),
            Value::Int(resident_bytes),
            Value::Int(processes),
            Value::Int(restarts),
            Value::Float(uptime_seconds),
            Value::Float(unattributed_cpu_seconds),
        ] = values
        else {
            return None;
        };
        let sample = ProcessSample {
            instance_id: instance_id.as_ref().to_owned(),
            at: *at,
            cpu_seconds_total: *cpu_seconds_total,
            resident_bytes: u64::try_from(*resident_bytes).unwrap_or(0),
            processes: u32::try_from(*processes).unwrap_or(0),
            restarts: u64::try_from(*restarts).unwrap_or(0),
            uptime_seconds: *uptime_seconds,
            unattributed_cpu_seconds: *unattributed_cpu_seconds,
        };
        Some(Self { spool_id: *spool_id, sample })
    }
}

/// The tables in the SQLite file.
pub(crate) fn sqlite_tables() -> String {
    let columns = COLUMNS.map(|(name, kind)| format!("{name} {} not null", kind.sqlite_name())).join(", ");
    format!(
        "create table if not exists {TABLE} (
           {columns}, primary key (instance_id, at, spool_id)) strict, without rowid;
         create index if not exists {TABLE}_at on {TABLE} (at);
         create table if not exists {OUTBOX} (seq integer primary key autoincrement, {columns}) strict;\n"
    )
}

/// The writer's side: what has come and is not durable yet.
pub(crate) struct Samples {
    received: Receiver<ProcessSample>,
    waiting: VecDeque<ProcessSample>,
}

/// What becomes of the samples that were written when that is durable.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    taken: usize,
    dropped: u64,
}

impl Samples {
    pub(crate) const fn new(received: Receiver<ProcessSample>) -> Self {
        Self { received, waiting: VecDeque::new() }
    }

    /// Takes what has come.
    pub(crate) fn take(&mut self, shared: &Shared) {
        self.waiting.extend(self.received.try_iter());
        let too_many = self.waiting.len().saturating_sub(MOST_WAITING);
        self.waiting.drain(..too_many);
        shared.lose_samples(too_many as u64);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that they will take in the file, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        self.waiting.len() as u64 * BYTES
    }

    /// Writes what waits, or drops it if the outbox is full. `max_bytes` is the outbox's quota.
    pub(crate) fn write(
        &self,
        transaction: &Transaction<'_>,
        target: Target,
        refuse: bool,
        max_bytes: Option<u64>,
    ) -> rusqlite::Result<Written> {
        let taken = self.waiting.len();
        if refuse || taken == 0 {
            return Ok(Written { taken, dropped: taken as u64 });
        }
        let table = if target == Target::Outbox { OUTBOX } else { TABLE };
        let names = &*NAMES;
        let mut insert = transaction.prepare_cached(&format!(
            "insert or ignore into {table} ({names})
             values (?1, ?2, (select value from meta where key = 'spool_id'), ?3, ?4, ?5, ?6, ?7, ?8)"
        ))?;
        for sample in &self.waiting {
            insert.execute(params_from_iter(sample.values()))?;
        }
        let dropped = if target == Target::Outbox { drop_oldest(transaction, max_bytes)? } else { 0 };
        Ok(Written { taken, dropped })
    }

    /// What was written is durable.
    pub(crate) fn settle(&mut self, written: Written, shared: &Shared) {
        self.waiting.drain(..written.taken.min(self.waiting.len()));
        shared.lose_samples(written.dropped);
    }
}

/// Makes room in the outbox of samples, and says how many had to go.
fn drop_oldest(transaction: &Transaction<'_>, max_bytes: Option<u64>) -> rusqlite::Result<u64> {
    let most = max_bytes.map_or(MOST_IN_OUTBOX, |bytes| (bytes / SHARE / BYTES).min(MOST_IN_OUTBOX));
    let delete = format!("delete from {OUTBOX} where seq <= (select max(seq) from {OUTBOX}) - ?1");
    let dropped = transaction.prepare_cached(&delete)?.execute([i64::try_from(most).unwrap_or(i64::MAX)])?;
    Ok(dropped as u64)
}
