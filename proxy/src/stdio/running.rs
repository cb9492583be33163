//! The life of one program, from its start to its reaping: what it says goes to its conversation, and it ends when it is
//! told to, when nobody has used it for long, or when it breaks a limit.

use super::{
    child::Child,
    failure,
    host::Host,
    process::{Event, Exit, Launch, Listener, Process},
};
use crate::{occupancy::Place, process_meter::Meter};
use bytes::Bytes;
use mcpmeter_config::Command;
use mcpmeter_observer::Failure;
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

/// How much may wait for one slow client beside the longest message.
const SLACK: usize = 8 << 20;
const MIB: usize = 1 << 20;
const LOOK_AT_MEMORY: Duration = Duration::from_secs(1);
/// What is further away than can matter.
const FAR: Duration = Duration::from_secs(366 * 86_400);

/// How a program is to be run.
pub(super) struct Plan {
    /// The route, for the log.
    pub(super) name: Arc<str>,
    pub(super) command: Arc<Command>,
    /// It is shared by several clients.
    pub(super) remaps: bool,
    /// Its room among the route's processes.
    pub(super) place: Place,
    /// What the route's programs cost.
    pub(super) meter: Arc<Meter>,
    /// Told when it has ended.
    pub(super) on_end: Box<dyn FnOnce() + Send + Sync>,
}

/// Starts a program.
pub(super) async fn start(host: &Host, plan: Plan) -> Result<Arc<Child>, Failure> {
    let (started, child) = oneshot::channel();
    let own = host.clone();
    // Whoever has it started is the most likely to wait for what it says.
    let runtime = Handle::current();
    let task = async move {
        let launch = Launch::of(&plan.command);
        match Process::spawn(&launch, own.undertaker()) {
            Ok(mut process) => {
                let max_waiting = plan.command.max_message_mib as usize * MIB + SLACK;
                let processes = plan.meter.track(process.pid());
                let child = Child::new(process.writer(), plan.remaps, max_waiting, Arc::clone(&processes));
                let child = Arc::new(child);
                let hearer = Arc::clone(&child);
                let hear = Box::new(move |line: &Bytes| hearer.hear(line));
                process.listen(Some(Listener { runtime, hear }));
                if started.send(Ok(Arc::clone(&child))).is_err() {
                    // Whoever wanted it has left.
                    child.stop();
                }
                run(process, &child, &plan, &own).await;
                plan.meter.note_end(&processes);
            }
            Err(error) => {
                let failure = failure::not_started(&error);
                warn!(route = %plan.name, error = %failure.message, "a server could not be started");
                let _ = started.send(Err(failure));
            }
        }
        (plan.on_end)();
        drop(plan.place);
    };
    let spawned = host.spawn(task).map_err(|error| failure::no_thread(&error));
    spawned?;
    child.await.unwrap_or_else(|_| Err(failure::stopping()))
}

async fn run(mut process: Process, child: &Child, plan: &Plan, host: &Host) {
    let _end = EndGuard(child);
    let pid = process.pid();
    info!(route = %plan.name, pid, "server started");
    let start_limit = Duration::from_millis(plan.command.start_timeout_ms);
    let mut deadline = Instant::now() + start_limit;
    let mut is_killed = false;
    let mut noise = 0_u64;
    let mut ending: Option<Failure> = None;
    let exit = loop {
        let is_ending = ending.is_some();
        tokio::select! {
            biased;
            event = process.next() => match event {
                Event::Line(line) => child.hear(&line),
                Event::Noise => noise += 1,
                Event::TooLong => {
                    let failure = failure::too_long(plan.command.max_message_mib);
                    ending = Some(cut(&process, child, plan, failure));
                }
                Event::Exited(exit) => break exit,
            },
            () = host.killed(), if !is_killed => {
                is_killed = true;
                process.kill();
            }
            () = child.stopped(), if !is_ending => {
                process.stop();
                ending = Some(child.why_stopped());
            }
            () = host.stopped(), if !is_ending => {
                process.stop();
                ending = Some(failure::stopping());
            }
            () = idle(child, &plan.command), if !is_ending => {
                debug!(route = %plan.name, pid, "idle for too long");
                child.stop();
            }
            () = grown_too_large(child, plan.command.max_memory_mib), if !is_ending => {
                let failure = failure::too_large(plan.command.max_memory_mib.unwrap_or_default());
                ending = Some(cut(&process, child, plan, failure));
            }
            () = sleep_until(deadline), if !is_ending && !child.has_spoken() => {
                // Whoever was to ask it may have left.
                deadline = Instant::now() + start_limit;
                if child.is_owed() {
                    let failure = failure::slow_start(start_limit);
                    ending = Some(cut(&process, child, plan, failure));
                }
            }
        }
    };
    tell_end(plan, pid, &exit, noise, ending.is_some(), child);
    child.end(ending.unwrap_or_else(|| failure::exited(&exit)));
}

/// It has broken a limit: it ends at once, and whoever waits is told why.
fn cut(process: &Process, child: &Child, plan: &Plan, failure: Failure) -> Failure {
    warn!(route = %plan.name, pid = process.pid(), "{}", failure.message);
    child.end(failure.clone());
    process.kill();
    failure
}

/// Whoever waits is told of the end, whatever becomes of the task.
struct EndGuard<'a>(&'a Child);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.end(failure::stopping());
    }
}

/// Ready when nobody has used it for as long as is allowed.
async fn idle(child: &Child, command: &Command) {
    let patience = match command.idle_timeout_ms {
        0 => FAR,
        patience => Duration::from_millis(patience),
    };
    loop {
        let now = std::time::Instant::now();
        let at = child.idle_at(patience).unwrap_or(now + patience);
        if at <= now {
            return;
        }
        tokio::time::sleep(at - now).await;
    }
}

/// Ready when the program with all its children has more memory than is allowed.
async fn grown_too_large(child: &Child, limit: Option<u64>) {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        tokio::time::sleep(LOOK_AT_MEMORY).await;
        if child.processes.resident_bytes().is_some_and(|bytes| bytes > limit << 20) {
            return;
        }
    }
}

fn tell_end(plan: &Plan, pid: u32, exit: &Exit, noise: u64, wanted: bool, child: &Child) {
    let dropped = child.dropped();
    if noise > 0 || dropped.late > 0 || dropped.stray > 0 {
        let (late, stray) = (dropped.late, dropped.stray);
        info!(route = %plan.name, pid, noise, late, stray, "lines of the server that were no message, or nobody's");
    }
    if wanted {
        info!(route = %plan.name, pid, "server stopped: it {exit}");
    } else {
        let last = exit.stderr.last().map_or("", String::as_str);
        warn!(route = %plan.name, pid, stderr = %last, "the server {exit}");
    }
}
