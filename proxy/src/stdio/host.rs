//! The thread that programs live on: they are started, written to where a pipe is full, listened to on stderr, and reaped on
//! one runtime. Their stdout is read by the worker that had them started, which stays until they have ended. Started with
//! the first program.

use super::process::Undertaker;
use std::{
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
};
use tokio::runtime::{Builder, Handle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

/// Where programs run. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Host(Arc<Inner>);

#[derive(Default)]
struct Inner {
    thread: Mutex<Option<(Handle, JoinHandle<()>)>>,
    programs: TaskTracker,
    undertaker: OnceLock<Option<Arc<Undertaker>>>,
    stopping: CancellationToken,
    killing: CancellationToken,
}

impl Host {
    /// Runs a program's task.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let mut thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let (handle, _) = match &mut *thread {
            Some(running) => running,
            none => none.insert(self.start()?),
        };
        self.0.programs.spawn_on(task, handle);
        Ok(())
    }

    fn start(&self) -> io::Result<(Handle, JoinHandle<()>)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let inner = Arc::clone(&self.0);
        let run = move || {
            runtime.block_on(async {
                inner.stopping.cancelled().await;
                inner.programs.wait().await;
            });
        };
        Ok((handle, thread::Builder::new().name("mcpmeter-stdio".to_owned()).spawn(run)?))
    }

    /// Who ends programs if we cannot.
    pub(super) fn undertaker(&self) -> Option<Arc<Undertaker>> {
        let start = || Undertaker::start_own();
        let started = self.0.undertaker.get_or_init(|| match start() {
            Ok(undertaker) => Some(Arc::new(undertaker)),
            Err(error) => {
                warn!(%error, "servers may outlive this process if it is killed: no undertaker can be started");
                None
            }
        });
        started.clone()
    }

    /// All programs are to end, in order.
    pub(super) async fn stopped(&self) {
        self.0.stopping.cancelled().await;
    }

    /// All programs are to end, at once.
    pub(super) async fn killed(&self) {
        self.0.killing.cancelled().await;
    }

    /// Stops all programs and waits for their ends; once `hurry` is ready, without patience.
    pub(crate) async fn stop(&self, hurry: impl Future<Output = ()>) {
        self.0.stopping.cancel();
        self.0.programs.close();
        tokio::select! {
            () = self.0.programs.wait() => {}
            () = hurry => {
                self.0.killing.cancel();
                self.0.programs.wait().await;
            }
        }
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((_, thread)) = thread {
            // Its last task has ended; what is left is its return.
            let _ = thread.join();
        }
    }
}
