//! Reads from the kernel what CPU a process tree has used: nanoseconds per living thread from `schedstat`, and, for
//! threads that have ended, the process's own count in `stat`. Reads only; attaches to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// The unit of utime and stime in `/proc/*/stat`: USER_HZ, 100 on every Linux platform Rust runs on but Alpha.
const TICK: Duration = Duration::from_millis(10);

/// A tree is quiet when it used less than this share of one core for `QUIET_TIME`.
const QUIET_SHARE: f64 = 0.02;

/// Longer than any timer a proxy writes its books by, shorter than patience.
const QUIET_TIME: Duration = Duration::from_millis(300);

/// The CPU time of a process tree up to a moment.
#[derive(Debug, Default, Clone)]
pub(crate) struct CpuSample {
    /// By thread id, which no two processes share.
    thread_ns: BTreeMap<u32, u64>,
    /// The threads that carry calls, where a program names them so.
    workers: BTreeSet<u32>,
    user_ticks: u64,
    system_ticks: u64,
}

/// The CPU time between two samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuSpent {
    /// User and kernel together.
    pub(crate) total: Duration,
    /// The part outside the kernel, by the kernel's sampling: right on average, coarse in a short window.
    pub(crate) user: Duration,
    /// The part of threads that carry no calls; none of a program that does not name those that do.
    pub(crate) beside: Option<Duration>,
}

impl CpuSample {
    /// What was used since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> CpuSpent {
        let used = |(thread, now): (&u32, &u64)| {
            now.saturating_sub(earlier.thread_ns.get(thread).copied().unwrap_or(0))
        };
        let by_threads = Duration::from_nanos(self.thread_ns.iter().map(used).sum());
        let user_ticks = self.user_ticks.saturating_sub(earlier.user_ticks);
        let ticks = user_ticks + self.system_ticks.saturating_sub(earlier.system_ticks);
        let by_ticks = TICK * u32::try_from(ticks).expect("a window is shorter than a year");
        // Threads that ended in between are missing in the first; rounding is at most a tick a process and kind.
        let total = if by_ticks > by_threads + 4 * TICK { by_ticks } else { by_threads };
        let user = total.mul_f64(if ticks == 0 { 0.0 } else { user_ticks as f64 / ticks as f64 });
        let beside =
            self.thread_ns.iter().filter(|(thread, _)| !self.workers.contains(thread)).map(used).sum();
        let beside = (!self.workers.is_empty()).then(|| Duration::from_nanos(beside));
        CpuSpent { total, user, beside }
    }
}

/// Samples the process `root` and all its descendants.
pub(crate) fn sample_tree(root: u32) -> io::Result<CpuSample> {
    let mut sample = CpuSample::default();
    for process in list_tree(root)? {
        match add_process(&mut sample, process) {
            Err(error) if process != root && error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(sample)
}

/// Waits until the tree is quiet, so that work put off (rows still to be written) is counted with the calls that caused
/// it. Returns the sample, and whether it was quiet within `patience`.
pub(crate) async fn sample_when_quiet(root: u32, patience: Duration) -> io::Result<(CpuSample, bool)> {
    let start = Instant::now();
    let mut earlier = sample_tree(root)?;
    loop {
        tokio::time::sleep(QUIET_TIME).await;
        let now = sample_tree(root)?;
        let quiet = now.since(&earlier).total < QUIET_TIME.mul_f64(QUIET_SHARE);
        if quiet || start.elapsed() > patience {
            return Ok((now, quiet));
        }
        earlier = now;
    }
}

fn add_process(sample: &mut CpuSample, process: u32) -> io::Result<()> {
    let stat = Stat::read(process)?;
    sample.user_ticks += stat.user_ticks;
    sample.system_ticks += stat.system_ticks;
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        let entry = entry?;
        let thread = entry.file_name().to_str().and_then(|name| name.parse().ok()).ok_or_else(malformed)?;
        // A thread may end between the listing and the reading; then `stat` has its time.
        let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
        let nanoseconds =
            text.split(' ').next().and_then(|field| field.parse().ok()).ok_or_else(malformed)?;
        sample.thread_ns.insert(thread, nanoseconds);
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with("worker-")) {
            sample.workers.insert(thread);
        }
    }
    Ok(())
}

/// The process `root` and all its descendants.
pub(crate) fn list_tree(root: u32) -> io::Result<Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Ok(stat) = Stat::read(process) {
            children.entry(stat.parent).or_default().push(process);
        }
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(process) = tree.get(next) {
        tree.extend(children.remove(process).unwrap_or_default());
        next += 1;
    }
    Ok(tree)
}

/// What matters of `/proc/<pid>/stat`.
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    fn read(process: u32) -> io::Result<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat"))?).ok_or_else(malformed)
    }

    /// Fields are counted after the name, which stands in parentheses and may hold anything; proc(5).
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            user_ticks: fields.get(11)?.parse().ok()?,
            system_ticks: fields.get(12)?.parse().ok()?,
        })
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a file in /proc does not read as proc(5) says")
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    fn burn(time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            black_box(start);
        }
    }

    #[test]
    fn a_name_with_a_parenthesis_does_not_shift_the_fields() {
        let stat = Stat::parse("7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 11 13 0 0 20 0").unwrap();
        assert_eq!((stat.parent, stat.user_ticks, stat.system_ticks), (3, 11, 13));
    }

    fn sample(thread_ms: &[(u32, u64)], user_ticks: u64, system_ticks: u64) -> CpuSample {
        let thread_ns = thread_ms.iter().map(|(thread, ms)| (*thread, ms * 1_000_000)).collect();
        CpuSample { thread_ns, user_ticks, system_ticks, ..CpuSample::default() }
    }

    #[test]
    fn living_threads_are_counted_finely() {
        let spent = sample(&[(1, 150), (2, 33)], 15, 3).since(&sample(&[(1, 100)], 8, 2));
        assert_eq!(spent.total, Duration::from_millis(83));
        assert_eq!(spent.user, Duration::from_millis(83).mul_f64(7.0 / 8.0));
    }

    #[test]
    fn time_of_threads_that_ended_is_not_lost() {
        let spent = sample(&[(1, 110)], 50, 0).since(&sample(&[(1, 100), (2, 40)], 14, 0));
        assert_eq!(spent.total, Duration::from_millis(360));
    }

    #[test]
    fn our_own_time_is_counted() {
        let before = sample_tree(std::process::id()).unwrap();
        burn(Duration::from_millis(100));
        let spent = sample_tree(std::process::id()).unwrap().since(&before);
        // Other work may take most of the CPU while the clock runs.
        assert!(spent.total > Duration::from_millis(10), "{spent:?}");
    }

    #[test]
    fn time_of_children_is_counted() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo; read x'; true"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let tree = list_tree(shell.id()).unwrap();
        let spent = sample_tree(shell.id()).unwrap().since(&CpuSample::default());
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(tree.len(), 2);
        assert!(spent.total > Duration::from_millis(20), "{spent:?}");
    }
}
