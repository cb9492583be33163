//! What every call costs its server in CPU and memory, for servers that run on this machine: programs that we run
//! ourselves, and servers that speak HTTP, whose processes are found. Of servers elsewhere nothing is said.
//!
//! `ledger.rs` decides whose the time is when calls overlap; `tree.rs` is the processes of one server; `reading.rs` asks
//! the operating system and `finding.rs` looks for processes. One sampler does for all servers what is slow; calls read
//! CPU clocks, which costs about a microsecond, at most once a millisecond.

mod finding;
mod ledger;
mod reading;
mod tree;

pub(crate) use tree::{Tree, Use};

use mcpmeter_config::{HttpUpstream, ProcessHint};
use mcpmeter_observer::CallId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::Duration,
};

/// How often the threads of servers are looked at whose calls overlap.
const LOOK_AT_THREADS: Duration = Duration::from_millis(50);
/// All servers are looked at once a second.
const LOOKS_AT_THREADS_PER_LOOK: u64 = 20;
/// How many looks pass before a server that is not there is looked for again.
const SEARCH_AGAIN: u32 = 5;

/// All servers that are metered, for the sampler. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Meters(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Routes to one server share its processes: their calls overlap there.
    found: HashMap<ProcessHint, Weak<Found>>,
    programs: Vec<Weak<Tree>>,
}

/// A server that speaks HTTP, and the way to find its processes.
struct Found {
    way: ProcessHint,
    tree: Arc<Tree>,
    looks_until_search: Mutex<u32>,
}

/// The meter of one route's server, kept over reloads like its instance.
#[derive(Default)]
pub(crate) struct Meter {
    meters: Meters,
    found: Option<Arc<Found>>,
    /// Those of programs, as long as they run.
    programs: Mutex<Vec<Weak<Tree>>>,
    ended: Mutex<Ended>,
}

/// What programs have come to that run no more.
#[derive(Debug, Default, Clone, Copy)]
struct Ended {
    cpu: Duration,
    unattributed_cpu: Duration,
    programs: u64,
}

impl Meters {
    /// The meter of a server that speaks HTTP.
    pub(crate) fn of_http(&self, upstream: &HttpUpstream, hint: Option<&ProcessHint>) -> Meter {
        let found = finding::way_to(upstream, hint).map(|way| {
            let mut known = lock(&self.0);
            if let Some(found) = known.found.get(&way).and_then(Weak::upgrade) {
                return found;
            }
            let (tree, looks_until_search) = (Arc::default(), Mutex::new(0));
            let found = Arc::new(Found { way: way.clone(), tree, looks_until_search });
            known.found.insert(way, Arc::downgrade(&found));
            found
        });
        Meter { meters: self.clone(), found, ..Meter::default() }
    }

    /// The meter of a server that is a program.
    pub(crate) fn of_programs(&self) -> Meter {
        Meter { meters: self.clone(), ..Meter::default() }
    }

    /// Looks after all servers for as long as the process lives, on a thread of its own: what it does is slow.
    pub(crate) fn start_sampler(&self) -> std::io::Result<()> {
        let known = Arc::downgrade(&self.0);
        let sample = move || {
            for round in 0_u64.. {
                let Some(meters) = known.upgrade().map(Self) else { return };
                if round % LOOKS_AT_THREADS_PER_LOOK == 0 {
                    meters.look();
                } else {
                    meters.look_at_threads();
                }
                drop(meters);
                thread::sleep(LOOK_AT_THREADS);
            }
        };
        thread::Builder::new().name("mcpmeter-meter".to_owned()).spawn(sample).map(drop)
    }

    fn trees(&self) -> Vec<Arc<Tree>> {
        let mut known = lock(&self.0);
        known.found.retain(|_, found| found.strong_count() > 0);
        known.programs.retain(|program| program.strong_count() > 0);
        let found = known.found.values().filter_map(Weak::upgrade).map(|found| Arc::clone(&found.tree));
        found.chain(known.programs.iter().filter_map(Weak::upgrade)).collect()
    }

    /// Looks for processes that have begun or ended.
    fn look(&self) {
        self.trees().iter().for_each(|tree| tree.look());
        let found: Vec<_> = lock(&self.0).found.values().filter_map(Weak::upgrade).collect();
        found.iter().for_each(|found| found.search());
    }

    /// Looks at the threads of those whose calls overlap.
    fn look_at_threads(&self) {
        self.trees().iter().filter(|tree| tree.overlaps()).for_each(|tree| tree.look_at_threads());
    }
}

impl Found {
    /// Looks for the server's processes, if they are not there.
    fn search(&self) {
        let mut looks = lock(&self.looks_until_search);
        if !self.tree.is_withered() {
            *looks = 0;
        } else if *looks > 0 {
            *looks -= 1;
        } else {
            *looks = SEARCH_AGAIN;
            let roots = finding::find(&self.way);
            if !roots.is_empty() {
                self.tree.plant(roots);
            }
        }
    }
}

impl Meter {
    /// The processes that all calls of the route are metered by, if it is a server that speaks HTTP here.
    pub(crate) fn tree(&self) -> Option<&Arc<Tree>> {
        self.found.as_ref().map(|found| &found.tree)
    }

    /// A program has been started.
    pub(crate) fn track(&self, pid: u32) -> Arc<Tree> {
        let tree = Arc::new(Tree::of(pid));
        lock(&self.programs).push(Arc::downgrade(&tree));
        lock(&self.meters.0).programs.push(Arc::downgrade(&tree));
        tree
    }

    /// A program ends.
    pub(crate) fn note_end(&self, tree: &Tree) {
        if let Some(used) = tree.so_far() {
            let mut ended = lock(&self.ended);
            ended.cpu += used.cpu;
            ended.unattributed_cpu += used.unattributed_cpu;
            ended.programs += 1;
        }
        let is_it = |other: &Weak<Tree>| std::ptr::eq(other.as_ptr(), tree);
        lock(&self.programs).retain(|other| !is_it(other));
    }

    fn trees(&self) -> Vec<Arc<Tree>> {
        let programs: Vec<_> = lock(&self.programs).iter().filter_map(Weak::upgrade).collect();
        self.tree().cloned().into_iter().chain(programs).collect()
    }

    /// A call has ended without anybody who knew its server.
    pub(crate) fn forget(&self, call: CallId) {
        self.trees().iter().for_each(|tree| tree.forget(call));
    }

    /// What the server has come to, all its programs together; `None` if nothing of it runs or has run.
    pub(crate) fn so_far(&self) -> Option<Use> {
        let ended = *lock(&self.ended);
        let uses: Vec<Use> = self.trees().iter().filter_map(|tree| tree.so_far()).collect();
        if uses.is_empty() && ended.programs == 0 {
            return None;
        }
        Some(Use {
            cpu: ended.cpu + uses.iter().map(|one| one.cpu).sum::<Duration>(),
            unattributed_cpu: ended.unattributed_cpu
                + uses.iter().map(|one| one.unattributed_cpu).sum::<Duration>(),
            resident_bytes: uses.iter().map(|one| one.resident_bytes).sum(),
            processes: uses.iter().map(|one| one.processes).sum(),
            restarts: uses.iter().map(|one| one.restarts).sum::<u64>() + ended.programs,
            uptime: uses.iter().map(|one| one.uptime).max().unwrap_or_default(),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
