//! The server as its client sees it: what is on its way to it, the session it has opened, and the stream on which it speaks
//! by itself.

use super::{
    Options, Said,
    ask::{self, Answers},
    events::Mark,
    line::Line,
};
use crate::{
    clock::Clock,
    pipe::recorder::Recorder,
    tasks::Tasks,
    upstream::{Connector, Lease, Pool},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, uri::PathAndQuery};
use hyper::body::Incoming;
use mcpmeter_observer::IdToken;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long later lines wait for `initialize`.
const OPENING: Duration = Duration::from_secs(30);
/// The longest pause before the server's own stream is opened again.
const MAX_PAUSE: Duration = Duration::from_secs(30);
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// The server, for all that goes on with it.
pub(super) struct Server {
    pub(super) host: HeaderValue,
    pub(super) headers: HeaderMap,
    pub(super) connector: Connector,
    pub(super) pool: Pool,
    pub(super) recorder: Recorder,
    say: mpsc::Sender<Said>,
    state: Mutex<State>,
    /// Connections, and the server's own stream.
    pub(super) tasks: Tasks,
    /// Requests on their way.
    asks: Tasks,
    lost: CancellationToken,
    over: CancellationToken,
}

/// What changes while it goes on.
pub(super) struct State {
    pub(super) target: PathAndQuery,
    pub(super) session: Option<HeaderValue>,
    /// What `initialize` has agreed on.
    pub(super) version: Option<HeaderValue>,
    listens: bool,
    /// An `initialize` on its way: cancelled when it is answered.
    opening: Option<CancellationToken>,
    /// Requests of 2026-07-28, whose cancellation is the end of their exchange.
    open: HashMap<IdToken, CancellationToken>,
}

/// An answer that has begun.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
    /// The request named a session.
    pub(super) in_session: bool,
}

impl Server {
    pub(super) fn new(
        options: Options,
        connector: Connector,
        clock: Clock,
        recorder: Recorder,
        say: mpsc::Sender<Said>,
    ) -> Self {
        let Options { url, headers } = options;
        // What was parsed as an authority is a header's value.
        let host =
            HeaderValue::try_from(url.upstream.authority).unwrap_or(HeaderValue::from_static("localhost"));
        let state = State {
            target: url.target,
            session: None,
            version: None,
            listens: false,
            opening: None,
            open: HashMap::new(),
        };
        Self {
            host,
            headers,
            connector,
            pool: Pool::new(clock),
            recorder,
            say,
            state: Mutex::new(state),
            tasks: Tasks::default(),
            asks: Tasks::default(),
            lost: CancellationToken::new(),
            over: CancellationToken::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a line with requests and forwards what is answered. Told when the line has been sent.
    pub(super) fn ask(self: &Arc<Self>, line: Line) -> oneshot::Receiver<()> {
        let (taken, told) = oneshot::channel();
        let cancelled = CancellationToken::new();
        let open = line.asked.first().filter(|_| line.is_modern()).map(|asked| asked.id.clone());
        if let Some(id) = &open {
            self.state().open.insert(id.clone(), cancelled.clone());
        }
        let opening = line.is_method("initialize").then(CancellationToken::new);
        if opening.is_some() {
            self.state().opening.clone_from(&opening);
        }
        let server = Arc::clone(self);
        self.asks.spawn(async move {
            let _opened = opening.map(CancellationToken::drop_guard);
            let asked = Box::pin(ask::ask(&server, &line, taken));
            tokio::select! {
                () = asked => {}
                // The connection goes with the future, which is how a server is told.
                () = cancelled.cancelled() => {}
                () = server.over.cancelled() => {}
            }
            if let Some(id) = open {
                server.state().open.remove(&id);
            }
        });
        told
    }

    /// Waits until an `initialize` that is on its way is answered: only then the session is known that later lines are
    /// part of. Clients have to wait as well, but not all do.
    pub(super) async fn opened(&self) {
        let opening = self.state().opening.take();
        if let Some(opening) = opening {
            let _ = timeout(OPENING, opening.cancelled()).await;
        }
    }

    /// Sends a line without requests; done when the server has accepted it.
    pub(super) fn tell(self: &Arc<Self>, line: Line) -> oneshot::Receiver<()> {
        let (accepted, told) = oneshot::channel();
        let cancelled = line.cancels.as_ref().and_then(|id| self.state().open.remove(id));
        if let Some(cancelled) = cancelled {
            cancelled.cancel();
            return told;
        }
        let server = Arc::clone(self);
        self.asks.spawn(async move {
            let is_opening = line.is_method("notifications/initialized");
            tokio::select! {
                () = Box::pin(ask::tell(&server, &line)) => {}
                () = server.over.cancelled() => return,
            }
            // Nobody may be waiting any more.
            let _ = accepted.send(());
            if is_opening && !line.is_modern() && !std::mem::replace(&mut server.state().listens, true) {
                server.listen();
            }
        });
        told
    }

    /// Opens the stream for what the server has to say by itself, and again whenever it ends. A server may have none.
    fn listen(self: &Arc<Self>) {
        let server = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                () = Box::pin(server.keep_listening()) => {}
                () = server.over.cancelled() => {}
            }
        });
    }

    async fn keep_listening(&self) {
        let (mut mark, mut answers, mut pause) = (Mark::default(), Answers::of_none(), Duration::ZERO);
        loop {
            let before = mark.events;
            match self.resume(&mark).await {
                Ok(answer) if ask::is_stream(&answer.response) => {
                    let _ = ask::follow(self, answer, &mut mark, &mut answers).await;
                }
                Ok(answer) if answer.response.status().is_client_error() => {
                    if answer.response.status() == StatusCode::NOT_FOUND && answer.in_session {
                        self.lose();
                    }
                    return;
                }
                Ok(_) | Err(_) => {}
            }
            pause = if mark.events > before { Duration::ZERO } else { (pause * 2).min(MAX_PAUSE) };
            sleep(pause.max(mark.retry())).await;
        }
    }

    /// The server has opened a session, in the answer to `initialize`.
    pub(super) fn note_session(&self, headers: &HeaderMap) {
        if let Some(id) = headers.get(SESSION_ID) {
            self.state().session = Some(id.clone());
        }
    }

    /// What `initialize` has agreed on.
    pub(super) fn note_version(&self, version: &str) {
        self.state().version = HeaderValue::try_from(version).ok();
    }

    /// The session is gone.
    pub(super) fn lose(&self) {
        self.lost.cancel();
    }

    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Says a line to the client. One that the server has not said is not shown to the books.
    pub(super) async fn say(&self, line: Bytes, by_server: bool) {
        // Without a client there is nobody to say it to.
        let _ = self.say.send(Said { line, by_server }).await;
    }

    /// Closes connections that wait for nothing, until it is dropped.
    pub(super) async fn close_idle(&self) {
        let mut look = interval(Duration::from_secs(1));
        loop {
            look.tick().await;
            self.pool.close_idle();
        }
    }

    /// Waits until nothing is on its way any more.
    pub(super) async fn wait_for_answers(&self, limit: Duration) {
        self.asks.wait(limit).await;
    }

    /// Ends everything, and the session with it.
    pub(super) async fn say_goodbye(&self, limit: Duration) {
        self.over.cancel();
        self.asks.wait(limit).await;
        let headers = self.session_headers();
        if headers.contains_key(SESSION_ID) && !self.lost.is_cancelled() {
            // The server may not take it (405), or not be there any more.
            let _ = timeout(limit, self.send(Method::DELETE, headers, Bytes::new(), None)).await;
        }
        self.pool.close();
    }
}
