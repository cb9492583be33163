//! The workloads, as data: what is asked, by how many, how fast. Adding one is adding a line to `WORKLOADS`.
//! Nothing here knows how load is made or who is measured.

use crate::exchange::Exchange;

/// One row of the bench: an exchange repeated at a pace.
#[derive(Debug)]
pub(crate) struct Workload {
    /// What `--only` and the tables call it.
    pub(crate) name: &'static str,
    /// One sentence for `--list`.
    pub(crate) about: &'static str,
    /// What is sent and what must come back.
    pub(crate) exchange: Exchange,
    /// When it is sent.
    pub(crate) pace: Pace,
}

/// Who decides when the next call starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each connection sends its next call as soon as the last one is answered.
    Closed {
        /// Connections open during the whole window.
        connections: usize,
    },
    /// The same, but the calls take turns in sessions, of which there are more than connections.
    Sessions {
        /// Connections open during the whole window.
        connections: usize,
        /// Sessions that are in use.
        sessions: u64,
    },
    /// The clock decides; latency counts from the moment a call was due, however late it was sent.
    Open {
        /// Calls due per second, evenly spaced.
        per_second: u32,
    },
    /// The same, each call over a connection of its own, which is closed behind its answer.
    Connecting {
        /// Calls due per second, evenly spaced.
        per_second: u32,
    },
}

/// Every workload, in the order of the tables.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "small-1",
        about: "tools/call, answer of 300 B, 1 connection, closed loop",
        exchange: Exchange::Small,
        pace: Pace::Closed { connections: 1 },
    },
    Workload {
        name: "small-16",
        about: "tools/call, answer of 300 B, 16 connections, closed loop",
        exchange: Exchange::Small,
        pace: Pace::Closed { connections: 16 },
    },
    Workload {
        name: "small-64",
        about: "tools/call, answer of 300 B, 64 connections, closed loop",
        exchange: Exchange::Small,
        pace: Pace::Closed { connections: 64 },
    },
    Workload {
        name: "small-256",
        about: "tools/call, answer of 300 B, 256 connections, closed loop",
        exchange: Exchange::Small,
        pace: Pace::Closed { connections: 256 },
    },
    Workload {
        name: "open",
        about: "tools/call, answer of 300 B, 1,000 calls/s, open loop",
        exchange: Exchange::Small,
        pace: Pace::Open { per_second: 1_000 },
    },
    Workload {
        name: "connect",
        about: "tools/call, answer of 300 B, 1,000 new connections/s, open loop",
        exchange: Exchange::Small,
        pace: Pace::Connecting { per_second: 1_000 },
    },
    Workload {
        name: "list",
        about: "tools/list, answer of 12 KB, 16 connections, closed loop",
        exchange: Exchange::List,
        pace: Pace::Closed { connections: 16 },
    },
    Workload {
        name: "big",
        about: "tools/call, answer of 1 MiB, 8 connections, closed loop",
        exchange: Exchange::Big,
        pace: Pace::Closed { connections: 8 },
    },
    Workload {
        name: "sse",
        about: "tools/call, answered by an event stream: progress, progress, result, 10 ms apart; 100 calls/s, open loop",
        exchange: Exchange::Events,
        pace: Pace::Open { per_second: 100 },
    },
];

/// The workload of that name, for `--only`; the error lists the names there are.
pub(crate) fn find_workload(name: &str) -> Result<&'static Workload, String> {
    WORKLOADS.iter().find(|workload| workload.name == name).ok_or_else(|| {
        let names: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        format!("there are {}", names.join(", "))
    })
}
