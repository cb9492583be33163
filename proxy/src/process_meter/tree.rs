//! The processes of one server, as one: everything that its first process has started. Read at the beginnings and ends of
//! calls, at most once a millisecond, and looked through for new processes by the sampler.

use super::{
    ledger::{Ledger, Part},
    reading::{self, Member},
};
use mcpmeter_observer::{CallId, CallRecord};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Calls that follow each other faster share a reading.
const READ_AGAIN: Duration = Duration::from_millis(1);
/// How old a reading of memory may be.
const MEMORY_AGAIN: Duration = Duration::from_millis(20);
/// A thread that does this part of the work does it alone.
const NEARLY_ALL: f64 = 0.85;
/// Less than this says nothing about who does the work.
const ENOUGH: Duration = Duration::from_millis(5);

/// The processes of one server.
#[derive(Debug, Default)]
pub(crate) struct Tree(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    members: Vec<Member>,
    roots: Vec<i32>,
    /// Of members that have ended since the last look, and of earlier ones that nobody's parent has counted.
    of_ended: Duration,
    /// The highest total so far: it never falls.
    total: Duration,
    read_at: Option<Instant>,
    resident: Option<u64>,
    resident_at: Option<Instant>,
    works_on_several_threads: bool,
    threads: HashMap<i32, u64>,
    restarts: u64,
    since: Option<Instant>,
}

/// What a tree has come to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Use {
    pub(crate) cpu: Duration,
    pub(crate) unattributed_cpu: Duration,
    pub(crate) resident_bytes: u64,
    pub(crate) processes: u32,
    pub(crate) restarts: u64,
    pub(crate) uptime: Duration,
}

impl Tree {
    /// Everything that this process has started, and itself.
    pub(crate) fn of(root: u32) -> Self {
        let tree = Self::default();
        tree.plant(vec![root.cast_signed()]);
        tree
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it is these processes and their children. What others have used stays.
    pub(super) fn plant(&self, roots: Vec<i32>) {
        let mut state = self.lock();
        state.restarts += u64::from(!state.roots.is_empty());
        state.roots = roots;
        state.since = Some(Instant::now());
        state.threads.clear();
        state.look();
        // What it has used before anybody looked is nobody's.
        let before = state.total.as_nanos() as f64;
        if state.restarts == 0 {
            state.ledger = Ledger::starting_at(before);
        }
    }

    /// Its first processes have gone, or there never were any.
    pub(super) fn is_withered(&self) -> bool {
        let state = self.lock();
        !state.roots.iter().any(|root| state.members.iter().any(|member| member.pid == *root))
    }

    /// Looks for processes that have begun or ended.
    pub(super) fn look(&self) {
        self.lock().look();
    }

    /// Calls overlap, so it matters how many threads do the work.
    pub(super) fn overlaps(&self) -> bool {
        self.lock().ledger.overlaps()
    }

    /// Learns how many threads do the work.
    pub(super) fn look_at_threads(&self) {
        self.lock().look_at_threads();
    }

    /// A call begins.
    pub(crate) fn begin(&self, call: CallId) {
        let mut state = self.lock();
        let used = state.used(Instant::now());
        state.ledger.begin(call, used);
    }

    /// A call has ended: its record gets what it has used.
    pub(crate) fn end(&self, record: &mut CallRecord) {
        let (mut state, now) = (self.lock(), Instant::now());
        let used = state.used(now);
        let one_thread = !state.works_on_several_threads;
        let part = state.ledger.end(record.id, used, one_thread);
        // Of a server that is not there, nothing is known.
        let Some(Part { nanos, shared }) = part.filter(|_| !state.members.is_empty()) else { return };
        let cpu_ms = nanos / 1e6;
        record.cpu_ms = Some(cpu_ms);
        record.cpu_shared = Some(shared);
        record.cpu_percent = (record.duration_us > 0).then(|| cpu_ms * 100_000.0 / record.duration_us as f64);
        record.memory_bytes = state.resident(now);
    }

    /// A call has ended elsewhere.
    pub(crate) fn forget(&self, call: CallId) {
        let mut state = self.lock();
        let used = state.used(Instant::now());
        let _ = state.ledger.end(call, used, false);
    }

    /// Its memory, as it was last read.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        self.lock().resident(Instant::now())
    }

    /// What it has come to; `None` if there is no such process.
    pub(crate) fn so_far(&self) -> Option<Use> {
        let (mut state, now) = (self.lock(), Instant::now());
        if state.members.is_empty() {
            return None;
        }
        let used = state.used(now);
        state.ledger.divide(used);
        Some(Use {
            cpu: state.total,
            unattributed_cpu: Duration::from_nanos(state.ledger.nobodys() as u64),
            resident_bytes: state.resident(now).unwrap_or(0),
            processes: u32::try_from(state.members.len()).unwrap_or(u32::MAX),
            restarts: state.restarts,
            uptime: state.since.map_or(Duration::ZERO, |since| now.duration_since(since)),
        })
    }
}

impl State {
    /// The CPU time so far in nanoseconds, read anew if the last reading is too old.
    fn used(&mut self, now: Instant) -> f64 {
        if self.read_at.is_none_or(|at| now.duration_since(at) >= READ_AGAIN) {
            self.read_at = Some(now);
            self.read();
        }
        self.total.as_nanos() as f64
    }

    fn read(&mut self) {
        let (mut sum, mut of_ended) = (Duration::ZERO, self.of_ended);
        self.members.retain_mut(|member| {
            if member.read() {
                sum += member.own + member.of_children;
                return true;
            }
            // Until its parent is looked at again, only we know of it.
            of_ended += member.own + member.of_children;
            false
        });
        self.of_ended = of_ended;
        self.total = self.total.max(sum + of_ended);
    }

    /// Every member again, from the roots on. The time of one that has ended is now in its parent's; if it had none
    /// of ours, what is known of it is kept.
    fn look(&mut self) {
        self.read();
        let mut found = Vec::new();
        let mut waiting = self.roots.clone();
        while let Some(pid) = waiting.pop() {
            let is_known = found.iter().any(|member: &Member| member.pid == pid);
            if let Some(member) = Member::look(pid).filter(|_| !is_known) {
                waiting.extend(reading::children(pid));
                found.push(member);
            }
        }
        // A process whose parent has ended is nobody's child, and still ours.
        for member in &self.members {
            if found.iter().any(|other| other.pid == member.pid) {
                continue;
            }
            if let Some(again) = Member::look(member.pid).filter(|again| again.started == member.started) {
                found.push(again);
            }
        }
        let sum: Duration = found.iter().map(|member| member.own + member.of_children).sum();
        self.members = found;
        // The total never falls: what is missing from the sum has ended without a parent of ours, or within the tick
        // in which children's times are told.
        self.of_ended = self.total.saturating_sub(sum);
        self.total = self.total.max(sum);
        self.resident_at = None;
    }

    fn resident(&mut self, now: Instant) -> Option<u64> {
        if self.resident_at.is_none_or(|at| now.duration_since(at) >= MEMORY_AGAIN) {
            self.resident_at = Some(now);
            let read: Vec<_> =
                self.members.iter().filter_map(|member| reading::resident_bytes(member.pid)).collect();
            self.resident = (!read.is_empty()).then(|| read.iter().sum());
        }
        self.resident
    }

    fn look_at_threads(&mut self) {
        let threads: HashMap<i32, u64> =
            self.members.iter().flat_map(|member| reading::threads(member.pid)).collect();
        let fresh = threads.iter().map(|(thread, nanos)| {
            nanos.saturating_sub(self.threads.get(thread).copied().unwrap_or_default())
        });
        let (sum, most) = fresh.fold((0, 0), |(sum, most), nanos| (sum + nanos, nanos.max(most)));
        if !self.threads.is_empty() && Duration::from_nanos(sum) < ENOUGH {
            return;
        }
        self.works_on_several_threads = (most as f64) < NEARLY_ALL * sum as f64;
        self.threads = threads;
    }
}
