//! Between the client's pipe and a program's: bytes go on as they were read, in whatever pieces, the same in both
//! directions. Never holds a line back, and never adds one.

use super::{
    Between, Ended, GRACE,
    child::{self, Child},
    client::{self, Input, Output},
    recorder::Recorder,
    tend,
};
use crate::signal::Signals;
use mcpmeter_observer::{Failure, PipeEnd, Status, StatusDetail};
use std::{io, process::ExitStatus, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{ChildStdin, ChildStdout},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long the pipe of a program that has ended is read on, in case that something it had started holds it open.
const REST: Duration = Duration::from_secs(1);
/// How long a client may take for what a program said last before it ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Forwards until the program has ended. It is told to when the client is gone, or when we are.
pub(super) async fn run(mut child: Child, between: Between) -> Ended {
    let Between { input, output, recorder, mut signals } = between;
    let Some((to_child, from_child)) = child.take_pipes() else { unreachable!("both were asked for") };
    let deaf = CancellationToken::new();
    let up = speak(input, to_child, &recorder, &deaf);
    let down = listen(from_child, output, &recorder);
    tokio::pin!(up, down);
    let (mut up_over, mut down_over) = (false, false);
    let mut stop = Stop::default();
    let upkeep = tend(&recorder);
    tokio::pin!(upkeep);
    loop {
        tokio::select! {
            () = &mut up, if !up_over => {
                up_over = true;
                stop.begin(PipeEnd::ClientLeft, &deaf);
            }
            heard = &mut down, if !down_over => {
                down_over = true;
                if heard.is_err() {
                    stop.begin(PipeEnd::ClientLeft, &deaf);
                }
            }
            () = next_stop(&mut signals) => stop.begin(PipeEnd::Stopped, &deaf),
            // Whoever has said all and still listens gets what is being worked on, as without us.
            () = stop.due() => if stop.may_wait() && recorder.is_owed() && client::is_listening() {
                stop.wait_on();
            } else {
                stop.escalate(&child);
            },
            () = child.ended() => break,
            () = &mut upkeep => {}
        }
    }
    if !down_over && timeout(REST, &mut down).await.is_err() {
        child.kill();
        let _ = timeout(LAST_WORDS, &mut down).await;
    }
    // What else it had started goes with it.
    let exited = child.reap().await;
    let crashed = !stop.asked && exited.as_ref().is_ok_and(|status| !status.success());
    ended(exited, if crashed { None } else { stop.why })
}

/// SIGHUP, too: there is nothing to reload.
async fn next_stop(signals: &mut Signals) {
    signals.next().await;
}

/// From the client to the program, until the client has said everything. A program that reads no more is no reason to
/// end: then the client is told that nobody listens.
async fn speak(mut input: Input, mut to_child: ChildStdin, recorder: &Recorder, deaf: &CancellationToken) {
    let mut buffer = client::buffer();
    let forward = async {
        loop {
            let bytes = input.read(&mut buffer).await;
            if bytes == 0 {
                return true;
            }
            recorder.hear_client(&buffer[..bytes]);
            if to_child.write_all(&buffer[..bytes]).await.is_err() {
                return false;
            }
        }
    };
    let left = tokio::select! {
        left = forward => left,
        () = deaf.cancelled() => true,
    };
    if left {
        recorder.tell(|pipe, now| pipe.handle_client_end(now));
        return;
    }
    drop(input);
    client::stop_listening();
    std::future::pending().await
}

/// From the program to the client, until the program has said everything; fails if the client is gone.
async fn listen(mut from_child: ChildStdout, mut output: Output, recorder: &Recorder) -> io::Result<()> {
    let mut buffer = client::buffer();
    loop {
        let bytes = from_child.read(&mut buffer).await.unwrap_or(0);
        if bytes == 0 {
            break;
        }
        recorder.hear_server(&buffer[..bytes]);
        output.write_all(&buffer[..bytes]).await?;
    }
    drop(output);
    client::hang_up();
    Ok(())
}

/// The steps of an end: its input is closed, then it is asked, then it is made to.
#[derive(Default)]
struct Stop {
    why: Option<PipeEnd>,
    due: Option<Instant>,
    asked: bool,
    /// Somebody does not want to wait.
    is_hurried: bool,
}

impl Stop {
    /// The first reason counts.
    fn begin(&mut self, why: PipeEnd, deaf: &CancellationToken) {
        deaf.cancel();
        match (&self.why, &why) {
            (None, _) => {
                self.is_hurried = matches!(why, PipeEnd::Stopped);
                self.why = Some(why);
                self.due = Some(Instant::now() + GRACE);
            }
            (Some(PipeEnd::ClientLeft), PipeEnd::Stopped) if !self.asked => {
                self.is_hurried = true;
                self.due = Some(Instant::now());
            }
            _ => {}
        }
    }

    /// Nothing but the end of what the client says has begun it.
    const fn may_wait(&self) -> bool {
        !self.asked && !self.is_hurried
    }

    fn wait_on(&mut self) {
        self.due = Some(Instant::now() + GRACE);
    }

    /// When the next step is due.
    async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    fn escalate(&mut self, child: &Child) {
        if std::mem::replace(&mut self.asked, true) {
            child.kill();
            self.due = None;
        } else {
            child.terminate();
            self.due = Some(Instant::now() + GRACE);
        }
    }
}

fn ended(exited: io::Result<ExitStatus>, stopped: Option<PipeEnd>) -> Ended {
    let code = exited.as_ref().map_or(1, |status| child::code_of(*status));
    let calls = stopped.unwrap_or_else(|| {
        let (message, context) = match exited {
            Ok(status) => {
                (format!("the server's process {}", child::describe(status)), Some(child::context_of(status)))
            }
            Err(error) => (error.to_string(), None),
        };
        PipeEnd::Failed(Failure {
            status: Status::UpstreamError,
            detail: StatusDetail::Aborted,
            code: "process_exited",
            message,
            http_status: None,
            context,
        })
    });
    Ended { calls, code }
}
