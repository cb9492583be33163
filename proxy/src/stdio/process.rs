//! A program that speaks stdio, owned from its start to its reaping, so that none is ever left behind.
//!
//! * It is started without a shell, as the leader of a session of its own: one signal reaches everything it has started
//!   (`npx` is three processes deep), and no terminal's Ctrl-C does.
//! * It ends in steps: stdin closed, 2 s, SIGTERM to the group, 2 s, SIGKILL to the group. When the leader has ended by
//!   itself, what is left of the group is killed too, at the latest a second later.
//! * The group is killed *before* the leader is reaped: until then its number cannot be given to anybody else.
//! * If the proxy itself is killed, the [`Undertaker`] ends what is left.

mod exit;
mod group;
mod launch;
mod lines;
mod stderr;
mod stdin;
#[cfg(test)]
mod tests;
mod undertaker;
mod upkeep;

pub(crate) use exit::Exit;
pub(crate) use launch::{Launch, SpawnError};
pub(crate) use lines::{Event, Listener};
pub(crate) use stdin::LineWriter;
pub(crate) use undertaker::{Undertaker, undertake};

pub(crate) use group::Group;
use lines::Lines;
use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessSession};
use rustix::process::Signal;
use std::{os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::{
    io::unix::AsyncFd,
    process::ChildStdout,
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use upkeep::Upkeep;

/// How long each step of the end is waited for.
const STEP: Duration = Duration::from_secs(2);
/// How long the pipes of a program that has ended may be held open by what it has started.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What its owner wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Run,
    Stop,
    Kill,
}

/// How far its end has come.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Running,
    /// Its stdin is closed.
    Closed(Instant),
    /// It has been sent SIGTERM.
    Terminated(Instant),
    /// It has been sent SIGKILL.
    Killed,
    /// It has ended, and is not reaped yet: what it has said is still read.
    Ended(Instant),
}

/// A running program.
pub(crate) struct Process {
    /// Before the child, so that it is ended before its leader is reaped.
    group: Group,
    child: Box<dyn ChildWrapper>,
    ended: AsyncFd<OwnedFd>,
    lines: Option<Lines>,
    /// Until it is listened to.
    stdout: Option<ChildStdout>,
    max_line: usize,
    stdin: LineWriter,
    stderr: stderr::Tail,
    wish: watch::Sender<Wish>,
    stage: Stage,
    /// Of its pipes.
    upkeep: Upkeep,
}

impl Process {
    /// Starts it. To be called inside a runtime, which reads and writes its pipes.
    pub(crate) fn spawn(launch: &Launch, undertaker: Option<Arc<Undertaker>>) -> Result<Self, SpawnError> {
        let mut command = CommandWrap::from(launch.command());
        command.wrap(ProcessSession);
        // Of the library only the session is wanted; it would wait for the whole group.
        let mut child = command.spawn().map_err(|error| launch.explain(error))?.into_inner();
        let id = child.id().expect("it has not been waited for");
        let group = Group::of(id, undertaker);
        // From here on, whatever fails, its group ends.
        let failed = |error| SpawnError::Failed(launch.words[0].clone(), error);
        let ended = group.watch_leader().map_err(failed)?;
        let piped = "it was started with three pipes";
        let (stdin, stdout) = (child.stdin().take().expect(piped), child.stdout().take().expect(piped));
        let upkeep = Upkeep::new();
        Ok(Self {
            stdin: LineWriter::start(stdin, launch.max_line, &upkeep).map_err(failed)?,
            lines: None,
            stdout: Some(stdout),
            max_line: launch.max_line,
            stderr: stderr::Tail::start(child.stderr().take().expect(piped), id, &upkeep),
            upkeep,
            ended,
            group,
            child,
            wish: watch::Sender::new(Wish::Run),
            stage: Stage::Running,
        })
    }

    /// From now on what it says is heard there. Without, [`Self::next`] tells it.
    pub(crate) fn listen(&mut self, listener: Option<Listener>) {
        let Some(stdout) = self.stdout.take() else { return };
        // Who cannot be heard has closed its stdout, as far as anybody can tell.
        self.lines = Lines::start(stdout, self.max_line, listener, &self.upkeep).ok();
    }

    /// Its process id, which is that of its group and session too.
    pub(crate) const fn pid(&self) -> u32 {
        self.group.number()
    }

    /// Where it is told lines.
    pub(crate) fn writer(&self) -> LineWriter {
        self.stdin.clone()
    }

    /// Begins to end it, in steps. What it still says is still heard.
    pub(crate) fn stop(&self) {
        self.wish.send_if_modified(|wish| {
            *wish < Wish::Stop && {
                *wish = Wish::Stop;
                true
            }
        });
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        self.wish.send_if_modified(|wish| {
            *wish < Wish::Kill && {
                *wish = Wish::Kill;
                true
            }
        });
    }

    /// What happens next. May be given up and asked again; after [`Event::Exited`] nothing happens any more.
    pub(crate) async fn next(&mut self) -> Event {
        self.listen(None);
        let mut wish = self.wish.subscribe();
        loop {
            let wanted = *wish.borrow_and_update();
            self.obey(wanted);
            let has_ended = matches!(self.stage, Stage::Ended(_));
            // Who never stops talking has its time, too.
            if is_due(self.stage) {
                if has_ended {
                    return self.reap().await;
                }
                self.insist();
            }
            tokio::select! {
                biased;
                _ = self.ended.readable(), if !has_ended => {
                    self.stage = Stage::Ended(Instant::now() + LAST_WORDS);
                    if self.lines.is_none() {
                        return self.reap().await;
                    }
                }
                event = next_line(&mut self.lines) => match event {
                    Some(event) => return event,
                    None => {
                        self.lines = None;
                        if has_ended {
                            return self.reap().await;
                        }
                        // Who can answer nothing any more is of no use.
                        self.stop();
                    }
                },
                () = patience(self.stage) => {}
                () = self.stdin.closed(), if matches!(self.stage, Stage::Running) => self.stop(),
                Ok(()) = wish.changed() => {}
            }
        }
    }

    /// Takes the first step of an end that is wanted.
    fn obey(&mut self, wanted: Wish) {
        match (wanted, self.stage) {
            (Wish::Stop, Stage::Running) => {
                self.stdin.close();
                self.stage = Stage::Closed(Instant::now() + STEP);
            }
            (Wish::Kill, Stage::Running | Stage::Closed(_) | Stage::Terminated(_)) => {
                self.stdin.close();
                self.group.signal(Signal::KILL);
                self.stage = Stage::Killed;
            }
            _ => {}
        }
    }

    /// Takes the next step.
    fn insist(&mut self) {
        self.stage = match self.stage {
            Stage::Closed(_) => {
                self.group.signal(Signal::TERM);
                Stage::Terminated(Instant::now() + STEP)
            }
            Stage::Terminated(_) => {
                self.group.signal(Signal::KILL);
                Stage::Killed
            }
            stage => stage,
        };
    }

    /// The leader has ended: so does its group, and nothing of it stays.
    async fn reap(&mut self) -> Event {
        // First, because what is left of the group could hold stderr open.
        self.group.end();
        let until = match self.stage {
            Stage::Ended(until) => until,
            _ => Instant::now() + LAST_WORDS,
        };
        // Who has left the group may hold it still; its words are not the program's.
        let _ = timeout_at(until, self.stderr.over()).await;
        let status = self.child.wait().await.ok();
        Event::Exited(Exit { status, stderr: self.stderr.last_lines() })
    }
}

/// Whether the next step of the end is overdue.
fn is_due(stage: Stage) -> bool {
    match stage {
        Stage::Closed(until) | Stage::Terminated(until) | Stage::Ended(until) => until <= Instant::now(),
        Stage::Running | Stage::Killed => false,
    }
}

async fn next_line(lines: &mut Option<Lines>) -> Option<Event> {
    match lines {
        Some(lines) => lines.next().await,
        None => std::future::pending().await,
    }
}

/// Until the next step of the end is due.
async fn patience(stage: Stage) {
    match stage {
        Stage::Closed(until) | Stage::Terminated(until) | Stage::Ended(until) => sleep_until(until).await,
        Stage::Running | Stage::Killed => std::future::pending().await,
    }
}
