//! Says what a run was made on: the machine, what else it was doing, and when. Reads only.

use std::fs;
use std::time::{Duration, SystemTime};

/// What stands above every table of figures.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The processor, as the kernel names it.
    pub(crate) cpu: String,
    /// Cores we may use.
    pub(crate) cores: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The date and time of the description, UTC.
    pub(crate) date: String,
}

/// Describes this machine.
pub(crate) fn describe_machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Machine {
        cpu: model.map_or("unknown processor", |(_, name)| name).into(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: read("/proc/sys/kernel/osrelease").trim().into(),
        date: httpdate::fmt_http_date(SystemTime::now()),
    }
}

/// CPU time of all cores together since boot, idle time left out.
pub(crate) fn busy_time() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .skip(1)
        .flat_map(str::parse)
        .collect();
    // user, nice, system, (idle, iowait), irq, softirq, steal; guest time is part of user. proc(5).
    let busy: u64 =
        ticks.iter().enumerate().filter(|(field, _)| ![3, 4].contains(field)).take(6).map(|(_, t)| t).sum();
    Duration::from_millis(busy * 10)
}

/// CPU time of the calling thread.
pub(crate) fn own_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or_default())
}
