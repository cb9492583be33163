//! An answer that has only so much time (`total_timeout_ms`, `stream_timeout_ms`). Its clock runs in a task of its own: a
//! client that takes nothing, so that nobody asks for more of the answer, cannot hold it open.

use crate::{
    answer::{BrokenOff, Carried},
    patience::HeadWatch,
    tasks::Tasks,
    time_limit::Deadline,
};
use bytes::Bytes;
use http_body::Frame;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};
use tokio::sync::oneshot;

/// An answer that is cut when its time is over.
pub(crate) struct Timed {
    shared: Arc<Mutex<State>>,
    /// Stops the clock.
    _dropped: oneshot::Sender<()>,
}

struct State {
    carried: Carried,
    is_cut: bool,
    /// Who waits for more of it.
    reader: Option<Waker>,
}

impl Timed {
    pub(crate) fn begin(carried: Carried, deadline: Deadline, tasks: &Tasks, watch: &Arc<HeadWatch>) -> Self {
        let shared = Arc::new(Mutex::new(State { carried, is_cut: false, reader: None }));
        let (sender, dropped) = oneshot::channel();
        let (cut, watch) = (Arc::clone(&shared), Arc::clone(watch));
        tasks.spawn(async move {
            tokio::select! {
                failure = deadline.passed() => {
                    let mut state = lock(&cut);
                    state.is_cut = true;
                    state.carried.cut(failure);
                    watch.note_cut();
                    if let Some(reader) = state.reader.take() {
                        reader.wake();
                    }
                }
                _ = dropped => {}
            }
        });
        Self { shared, _dropped: sender }
    }

    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut state = lock(&self.shared);
        if state.is_cut {
            return Poll::Ready(Some(Err(BrokenOff::OutOfTime)));
        }
        state.reader.get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        state.carried.poll_frame(cx)
    }

    /// What can be told of the answer as it is now.
    pub(crate) fn look<T>(&self, what: impl FnOnce(&Carried) -> T) -> T {
        what(&lock(&self.shared).carried)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
