//! Makes load: sends the calls of one workload to one contender for a while and notes how long each took. Knows nothing of
//! what it loads. Runs on one thread, so `Rc` and `RefCell` are enough.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::connection::{Answered, CallError, Connection, Prepared, Target};
use crate::template::CallId;
use crate::ticker::Ticker;
use crate::workload::{Pace, Workload};

/// Calls of an open loop in flight at once; more wait, and their waiting is part of their latency.
const OPEN_LOOP_CONNECTIONS: usize = 1_024;

/// Connections an open loop has before its first call, so that connecting is not what is measured.
const OPEN_LOOP_WARM_CONNECTIONS: usize = 8;

/// How long after its window a load may wait for answers still missing.
const GRACE: Duration = Duration::from_secs(20);

/// The ids of a run, none of them given twice.
#[derive(Debug, Default)]
pub(crate) struct Ids(Cell<u64>);

impl Ids {
    fn next(&self) -> CallId {
        let n = self.0.get();
        self.0.set(n + 1);
        CallId::nth(n)
    }
}

/// What one window of load gave.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Per answered call, in nanoseconds: until the answer was complete.
    pub(crate) latencies_ns: Vec<u64>,
    /// Per answered call, in nanoseconds: until the first byte of the body.
    pub(crate) first_ns: Vec<u64>,
    /// From the first call's start to the last answer.
    pub(crate) elapsed: Duration,
    /// The calls that went wrong; a connection is given up at its first.
    pub(crate) failures: Vec<CallError>,
}

impl Load {
    /// Calls answered, rightly.
    pub(crate) fn calls(&self) -> usize {
        self.latencies_ns.len()
    }

    fn note(&mut self, since: Instant, answered: Result<Answered, CallError>) -> bool {
        let nanoseconds = |until: Instant| {
            u64::try_from((until - since).as_nanos()).expect("a call takes less than five hundred years")
        };
        match answered {
            Ok(answered) => {
                self.first_ns.push(nanoseconds(answered.first));
                self.latencies_ns.push(nanoseconds(answered.complete));
                true
            }
            Err(error) => {
                self.failures.push(error);
                false
            }
        }
    }

    fn absorb(&mut self, other: Self) {
        self.latencies_ns.extend(other.latencies_ns);
        self.first_ns.extend(other.first_ns);
        self.failures.extend(other.failures);
    }
}

/// A load did not end.
#[derive(Debug, thiserror::Error)]
#[error("answers were still missing {} s after the end of a window", GRACE.as_secs())]
pub(crate) struct Stuck;

/// Loads `target` for `duration`. Must run inside a `LocalSet`.
pub(crate) async fn apply_load(
    target: &Target,
    workload: &Workload,
    ids: &Rc<Ids>,
    duration: Duration,
) -> Result<Load, Stuck> {
    let prepared = Rc::new(Prepared::new(workload.exchange));
    let start = Instant::now();
    let load = async {
        match workload.pace {
            Pace::Closed { connections } => {
                run_closed(target, &prepared, ids, connections, None, start + duration).await
            }
            Pace::Sessions { connections, sessions } => {
                let turns = Rc::new(Turns { sessions, next: Cell::default() });
                run_closed(target, &prepared, ids, connections, Some(turns), start + duration).await
            }
            Pace::Open { per_second } => {
                let pool = Pool::new(target.clone(), Rc::clone(ids), true);
                run_open(pool, &prepared, per_second, duration).await
            }
            Pace::Connecting { per_second } => {
                let pool = Pool::new(target.clone(), Rc::clone(ids), false);
                run_open(pool, &prepared, per_second, duration).await
            }
        }
    };
    let mut load = tokio::time::timeout(duration + GRACE, load).await.map_err(|_| Stuck)?;
    load.elapsed = start.elapsed();
    Ok(load)
}

async fn run_closed(
    target: &Target,
    prepared: &Rc<Prepared>,
    ids: &Rc<Ids>,
    connections: usize,
    turns: Option<Rc<Turns>>,
    deadline: Instant,
) -> Load {
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let (target, prepared, ids) = (target.clone(), Rc::clone(prepared), Rc::clone(ids));
        workers.spawn_local(repeat_calls(target, prepared, ids, turns.clone(), deadline));
    }
    let mut load = Load::default();
    while let Some(worker) = workers.join_next().await {
        load.absorb(worker.expect("a worker does not panic"));
    }
    load
}

async fn repeat_calls(
    target: Target,
    prepared: Rc<Prepared>,
    ids: Rc<Ids>,
    turns: Option<Rc<Turns>>,
    deadline: Instant,
) -> Load {
    let mut load = Load::default();
    let mut connection = match Connection::open(&target, ids.next()).await {
        Ok(connection) => connection,
        Err(error) => {
            load.failures.push(error.into());
            return load;
        }
    };
    loop {
        if let Some(turns) = &turns {
            connection.enter_session(turns.take());
        }
        let since = Instant::now();
        if since >= deadline || !load.note(since, connection.call(&prepared, ids.next()).await) {
            return load;
        }
    }
}

/// The sessions that calls take turns in, over all connections.
struct Turns {
    sessions: u64,
    next: Cell<u64>,
}

impl Turns {
    fn take(&self) -> CallId {
        let session = self.next.get();
        self.next.set((session + 1) % self.sessions);
        CallId::nth(session)
    }
}

async fn run_open(pool: Pool, prepared: &Rc<Prepared>, per_second: u32, duration: Duration) -> Load {
    let mut load = Load::default();
    let pool = Rc::new(pool);
    let opened = pool.open_warm().await;
    let ticker = opened.and_then(|()| Ok(Ticker::start(Duration::from_secs(1) / per_second)?));
    let mut ticker = match ticker {
        Ok(ticker) => ticker,
        Err(error) => {
            load.failures.push(error);
            return load;
        }
    };
    let mut due = (duration.as_secs_f64() * f64::from(per_second)) as usize;
    let mut calls = JoinSet::new();
    while due > 0 {
        let moments = ticker.wait().await.expect("a timer can be read");
        for intended in moments.take(due) {
            due -= 1;
            let (pool, prepared) = (Rc::clone(&pool), Rc::clone(prepared));
            calls.spawn_local(async move { (intended, pool.call(&prepared).await) });
        }
        while let Some(call) = calls.try_join_next() {
            let (intended, answered) = call.expect("a call does not panic");
            load.note(intended, answered);
        }
    }
    while let Some(call) = calls.join_next().await {
        let (intended, answered) = call.expect("a call does not panic");
        load.note(intended, answered);
    }
    load
}

/// The connections of an open loop: an idle one if there is one, a new one otherwise.
struct Pool {
    /// Whether a connection is kept for another call.
    keeps: bool,
    target: Target,
    ids: Rc<Ids>,
    idle: RefCell<Vec<Connection>>,
    permits: Semaphore,
}

impl Pool {
    fn new(target: Target, ids: Rc<Ids>, keeps: bool) -> Self {
        Self { keeps, target, ids, idle: RefCell::default(), permits: Semaphore::new(OPEN_LOOP_CONNECTIONS) }
    }

    async fn open_warm(&self) -> Result<(), CallError> {
        let warm = if self.keeps { OPEN_LOOP_WARM_CONNECTIONS } else { 0 };
        for _ in 0..warm {
            let connection = Connection::open(&self.target, self.ids.next()).await?;
            self.idle.borrow_mut().push(connection);
        }
        Ok(())
    }

    async fn call(&self, prepared: &Prepared) -> Result<Answered, CallError> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let idle = self.idle.borrow_mut().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::open(&self.target, self.ids.next()).await?,
        };
        let answered = connection.call(prepared, self.ids.next()).await?;
        if self.keeps {
            self.idle.borrow_mut().push(connection);
        }
        Ok(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_has_its_turn_before_one_has_its_second() {
        let turns = Turns { sessions: 3, next: Cell::default() };
        let taken: Vec<_> = (0..4).map(|_| turns.take()).collect();
        assert_eq!(taken, [0, 1, 2, 0].map(CallId::nth));
    }
}
