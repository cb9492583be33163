//! Nothing that we have started may outlive us, not even when we are killed with SIGKILL and can do nothing any more. So
//! a second process knows which groups there are, and ends them when the pipe from us closes.
//!
//! PR_SET_PDEATHSIG would not do: it goes by the thread that has started the child, is not passed on to grandchildren
//! (`npx` would die and its server live), and needs code between fork and exec.
//!
//! It is our own program, started as `mcpmeter undertake` with the first child, in a session of its own, deaf to the
//! signals that are meant for us; on its stdin it reads `+GROUP` and `-GROUP`, a line each. A group is taken from its
//! list before the leader is reaped, so that it never holds a number that can be given to somebody else. If it is itself
//! killed, that is seen when it is next told something, and another takes over.

use process_wrap::std::{ChildWrapper, CommandWrap, ProcessSession};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::{
    collections::BTreeSet,
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};
use tracing::warn;

/// How long what is left may take to end in order.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often is looked what has ended meanwhile: sooner than a number can come round again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Our side.
#[derive(Debug)]
pub(crate) struct Undertaker {
    program: PathBuf,
    on_duty: Mutex<OnDuty>,
}

/// The process, and what it knows.
#[derive(Debug)]
struct OnDuty {
    child: Box<dyn ChildWrapper>,
    stdin: ChildStdin,
    groups: BTreeSet<u32>,
}

impl Undertaker {
    /// Starts it from our own program, also when an update has put another into its place since we were started.
    pub(crate) fn start_own() -> io::Result<Self> {
        let program = std::env::current_exe()?;
        Self::start(if program.is_file() { &program } else { Path::new("/proc/self/exe") })
    }

    /// Starts it; `program` is ours.
    fn start(program: &Path) -> io::Result<Self> {
        let on_duty = Mutex::new(OnDuty::start(program)?);
        Ok(Self { program: program.to_owned(), on_duty })
    }

    /// A group begins.
    pub(crate) fn begin(&self, group: u32) {
        let mut on_duty = self.lock();
        on_duty.groups.insert(group);
        self.tell(&mut on_duty, &format!("+{group}\n"));
    }

    /// A group has ended. To be said before its leader is reaped.
    pub(crate) fn end(&self, group: u32) {
        let mut on_duty = self.lock();
        on_duty.groups.remove(&group);
        self.tell(&mut on_duty, &format!("-{group}\n"));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OnDuty> {
        self.on_duty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, on_duty: &mut OnDuty, line: &str) {
        if on_duty.stdin.write_all(line.as_bytes()).is_ok() {
            return;
        }
        if let Err(error) = on_duty.relieve(&self.program) {
            warn!(%error, "servers may outlive this process if it is killed: its undertaker is gone");
        }
    }
}

impl OnDuty {
    fn start(program: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        // It must hold no folder that somebody wants to unmount.
        command.arg("undertake").env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Of the library only the session is wanted; it would wait for the whole group.
        let mut child = CommandWrap::from(command).wrap(ProcessSession).spawn()?.into_inner();
        let stdin = child.stdin().take().ok_or_else(|| io::Error::other("it has no stdin"))?;
        // It ends behind us, or a moment before; whoever is then its parent reaps it.
        Ok(Self { child, stdin, groups: BTreeSet::new() })
    }

    /// Another one takes over, and is told all that there is.
    fn relieve(&mut self, program: &Path) -> io::Result<()> {
        let next = Self { groups: std::mem::take(&mut self.groups), ..Self::start(program)? };
        let mut gone = std::mem::replace(self, next);
        // It has closed its stdin, so it is dead or useless; and must not stay a zombie.
        let _ = gone.child.start_kill();
        let _ = gone.child.wait();
        let all: String = self.groups.iter().map(|group| format!("+{group}\n")).collect();
        self.stdin.write_all(all.as_bytes())
    }
}

/// Its side: reads until the pipe closes, then ends what is left.
pub(crate) fn undertake() -> io::Result<()> {
    let deaf = Arc::<AtomicBool>::default();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&deaf))?;
    }
    end_groups(read_groups(io::stdin().lock()));
    Ok(())
}

fn read_groups(lines: impl BufRead) -> BTreeSet<i32> {
    let mut groups = BTreeSet::new();
    // An error is an end, too.
    for line in lines.lines().map_while(Result::ok) {
        let (begins, number) = (line.starts_with('+'), line.get(1..).and_then(|rest| rest.parse().ok()));
        match number {
            Some(group) if begins => groups.insert(group),
            Some(group) => groups.remove(&group),
            None => false,
        };
    }
    groups
}

/// In order, and what does not end, by force. A group that is empty once is never signalled again: its number is free.
fn end_groups(groups: BTreeSet<i32>) {
    // 0 and 1 are never groups of ours; to signal 0 would be to signal ourselves.
    let mut left: Vec<Pid> =
        groups.into_iter().filter(|group| *group > 1).filter_map(Pid::from_raw).collect();
    left.retain(|group| kill_process_group(*group, Signal::TERM).is_ok());
    let deadline = Instant::now() + PATIENCE;
    while !left.is_empty() && Instant::now() < deadline {
        thread::sleep(LOOK_AGAIN);
        left.retain(|group| test_kill_process_group(*group).is_ok());
    }
    for group in left {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_begun_and_not_ended_is_left() {
        let told = b"+5\n+7\n-5\n+9\nnonsense\n-\n-9\n+5\n";
        assert_eq!(read_groups(&told[..]).into_iter().collect::<Vec<_>>(), [5, 7]);
    }
}
