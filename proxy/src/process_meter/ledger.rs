//! Whose the CPU time of a process is, when calls overlap. Pure: readings and instants are arguments.
//!
//! * A call that was alone on the process for its whole life has all that the process used meanwhile.
//! * Where calls overlap and the process works on one thread (Node, asyncio), it works on one call after the other: what
//!   it has used since the last call ended belongs to the call that ends now.
//! * Where it works on several threads, what it uses is divided equally among the calls that are open. (`shares` grows by
//!   the use divided by the number of open calls; a call's part is the difference over its life.)
//! * What is used while no call is open is nobody's: collecting garbage is not a call's work.
//!
//! So the sum over all calls and what is nobody's is what the process has used, whatever is decided on the way.

use mcpmeter_observer::CallId;
use std::collections::BTreeMap;

/// Calls that are remembered. More than that at once are not metered.
const MAX_OPEN: usize = 65_536;

/// CPU time in nanoseconds.
pub(super) type Nanos = f64;

/// The open calls of a process, and what it has used.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The reading up to which everything is divided.
    divided: Nanos,
    /// What each open call would have by equal shares since the beginning.
    shares: Nanos,
    /// The part of `shares` since the last call ended, and the use that it divides.
    fresh_shares: Nanos,
    fresh_use: Nanos,
    open: BTreeMap<CallId, Open>,
    /// Those that began since the last call ended.
    fresh: Vec<CallId>,
    /// Used while no call was open.
    nobodys: Nanos,
}

#[derive(Debug)]
struct Open {
    shares_before: Nanos,
    overlapped: bool,
}

/// A call's part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub(super) nanos: Nanos,
    /// Other calls were open meanwhile.
    pub(super) shared: bool,
}

impl Ledger {
    /// A process that had used so much before anybody looked.
    pub(super) fn starting_at(used: Nanos) -> Self {
        Self { divided: used, ..Self::default() }
    }

    pub(super) fn nobodys(&self) -> Nanos {
        self.nobodys
    }

    /// Several calls are open.
    pub(super) fn overlaps(&self) -> bool {
        self.open.len() > 1
    }

    pub(super) fn begin(&mut self, call: CallId, used: Nanos) {
        self.divide(used);
        if self.open.len() >= MAX_OPEN {
            return;
        }
        if let Some(first) = self.open.values_mut().next().filter(|first| !first.overlapped) {
            // It was alone up to now; of several, all have overlapped already.
            first.overlapped = true;
        }
        let overlapped = !self.open.is_empty();
        self.open.insert(call, Open { shares_before: self.shares + self.fresh_shares, overlapped });
        self.fresh.push(call);
    }

    /// The part of a call that ends; `None` if it was not seen to begin.
    pub(super) fn end(&mut self, call: CallId, used: Nanos, one_thread: bool) -> Option<Part> {
        self.divide(used);
        let open = self.open.remove(&call)?;
        let mut nanos = (self.shares - open.shares_before).max(0.0);
        if one_thread {
            nanos += self.fresh_use;
            // What the others had of it by equal shares is not theirs.
            for began in &self.fresh {
                if let Some(other) = self.open.get_mut(began) {
                    other.shares_before = self.shares;
                }
            }
        } else {
            self.shares += self.fresh_shares;
            nanos = self.shares - open.shares_before;
        }
        (self.fresh_shares, self.fresh_use) = (0.0, 0.0);
        self.fresh.clear();
        Some(Part { nanos, shared: open.overlapped })
    }

    /// Accounts for what was used since the last reading.
    pub(super) fn divide(&mut self, used: Nanos) {
        let fresh = (used - self.divided).max(0.0);
        self.divided = self.divided.max(used);
        if self.open.is_empty() {
            self.nobodys += fresh;
        } else {
            self.fresh_use += fresh;
            self.fresh_shares += fresh / self.open.len() as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpmeter_observer::Timestamp;

    fn call(number: i64) -> CallId {
        CallId::new(Timestamp(number * 1_000), 0)
    }

    #[test]
    fn a_call_that_is_alone_has_everything() {
        let mut ledger = Ledger::starting_at(100.0);
        ledger.begin(call(1), 110.0);
        assert_eq!(ledger.end(call(1), 150.0, true), Some(Part { nanos: 40.0, shared: false }));
        ledger.begin(call(2), 155.0);
        assert_eq!(ledger.end(call(2), 160.0, false), Some(Part { nanos: 5.0, shared: false }));
        assert_eq!(ledger.nobodys(), 15.0);
        assert_eq!(ledger.end(call(2), 170.0, false), None);
    }

    #[test]
    fn on_one_thread_the_call_that_ends_has_done_the_work() {
        let mut ledger = Ledger::default();
        (1..=4).for_each(|number| ledger.begin(call(number), 0.0));
        for number in 1..=4 {
            let part = ledger.end(call(number), 50.0 * number as f64, true).expect("open");
            assert_eq!(part, Part { nanos: 50.0, shared: true });
        }
    }

    #[test]
    fn on_several_threads_it_is_divided_equally() {
        let mut ledger = Ledger::default();
        (1..=4).for_each(|number| ledger.begin(call(number), 0.0));
        assert_eq!(ledger.end(call(1), 200.0, false).map(|part| part.nanos), Some(50.0));
        ledger.begin(call(5), 230.0);
        // 30 for three, 80 for four.
        assert_eq!(ledger.end(call(2), 310.0, false).map(|part| part.nanos), Some(80.0));
        assert_eq!(ledger.end(call(5), 310.0, false).map(|part| part.nanos), Some(20.0));
    }

    #[test]
    fn a_reading_that_falls_is_none() {
        let mut ledger = Ledger::starting_at(100.0);
        ledger.begin(call(1), 90.0);
        assert_eq!(ledger.end(call(1), 95.0, false).map(|part| part.nanos), Some(0.0));
    }

    #[test]
    fn the_sum_is_always_what_was_used() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut ledger = Ledger::starting_at(7.0);
            let (mut used, mut given, mut open, mut next) = (7.0, 0.0, Vec::new(), 0);
            for _ in 0..500 {
                used += f64::from(random.u32(..1000));
                if random.bool() && open.len() < 9 {
                    next += 1;
                    ledger.begin(call(next), used);
                    open.push(call(next));
                } else if !open.is_empty() {
                    let ended = open.swap_remove(random.usize(..open.len()));
                    given += ledger.end(ended, used, random.bool()).expect("open").nanos;
                }
            }
            for ended in open {
                given += ledger.end(ended, used, random.bool()).expect("open").nanos;
            }
            ledger.divide(used);
            let difference = (given + ledger.nobodys() - (used - 7.0)).abs();
            assert!(difference < 1e-3, "seed {seed}: {difference}");
        }
    }
}
