//! What the operating system says about a process, read at the least cost there is. Linux only; elsewhere everything is
//! unknown.

use nix::{
    time::{ClockId, clock_getcpuclockid},
    unistd::Pid,
};
use std::{fs, sync::OnceLock, time::Duration};

/// A process, with its CPU clock. One whose number has been given to another process later is not recognised here:
/// whoever keeps it looks at `started`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) pid: i32,
    /// In ticks since the machine has started; tells two processes of one number apart.
    pub(super) started: u64,
    clock: ClockId,
    /// CPU time of children that have ended and were waited for, when it was last looked at.
    pub(super) of_children: Duration,
    /// Its own, when it was last read.
    pub(super) own: Duration,
}

impl Member {
    /// `None` if there is no such process any more.
    pub(super) fn look(pid: i32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        let clock = clock_getcpuclockid(Pid::from_raw(pid)).ok()?;
        let own = clock.now().ok()?.into();
        Some(Self { pid, started: stat.started, clock, of_children: stat.of_children, own })
    }

    /// Reads its own CPU time, to the nanosecond; `false` if it has ended.
    pub(super) fn read(&mut self) -> bool {
        match self.clock.now() {
            Ok(now) => {
                self.own = now.into();
                true
            }
            Err(_) => false,
        }
    }
}

/// Parts of `/proc/PID/stat` (proc_pid_stat(5)).
struct Stat {
    of_children: Duration,
    started: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // A name may contain anything, parentheses too; the first field behind it is the third.
        let fields: Vec<u64> =
            text.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self { of_children: from_ticks(field(16)? + field(17)?), started: field(22)? })
    }
}

fn from_ticks(ticks: u64) -> Duration {
    static PER_SECOND: OnceLock<u64> = OnceLock::new();
    let per_second = PER_SECOND.get_or_init(rustix::param::clock_ticks_per_second);
    Duration::from_micros(ticks * 1_000_000 / (*per_second).max(1))
}

/// The children of a process, of all its threads.
pub(super) fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Its resident memory in bytes.
pub(super) fn resident_bytes(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The CPU time of each of its threads, in nanoseconds.
pub(super) fn threads(pid: i32) -> Vec<(i32, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| {
            let thread = task.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((thread, text.split_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_to_less_than_a_tick() {
        let own = std::process::id().cast_signed();
        let mut member = Member::look(own).expect("we are here");
        let before = member.own;
        let mut sum = 0_u64;
        while member.own - before < Duration::from_millis(3) {
            sum = (0..10_000).fold(sum, u64::wrapping_add);
            assert!(member.read());
        }
        assert!(member.own - before < Duration::from_secs(1), "{sum}");
        assert!(resident_bytes(own).is_some_and(|bytes| bytes > 1 << 20));
        assert!(!threads(own).is_empty() && Member::look(i32::MAX).is_none());
    }

    #[test]
    fn children_are_found_and_their_time_stays_with_their_parent() {
        let script = "python3 -c 'x = sum(range(3_000_000))'; echo done; read line";
        let mut shell = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("sh is there");
        let pid = shell.id().cast_signed();
        assert!(children(std::process::id().cast_signed()).contains(&pid));
        let mut said = [0; 5];
        std::io::Read::read_exact(shell.stdout.as_mut().expect("piped"), &mut said).expect("it says so");
        let of_children = Member::look(pid).expect("it waits").of_children;
        assert!(of_children >= Duration::from_millis(10), "{of_children:?}");
        drop(shell.stdin.take());
        shell.wait().expect("it ends");
    }
}
