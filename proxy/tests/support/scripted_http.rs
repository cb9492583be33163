//! An HTTP server that answers as a test's script says, and remembers what it was asked. hyper's.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, task::JoinSet};

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// When it was complete.
    pub(crate) at: Instant,
}

impl Seen {
    /// A header's value; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The method of the message.
    pub(crate) fn asks(&self, method: &str) -> bool {
        self.body["method"] == method
    }
}

/// What is answered.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    pieces: VecDeque<Bytes>,
    hangs: bool,
    pause: Duration,
}

impl Reply {
    pub(crate) fn json(body: &Value) -> Self {
        Self::of(200, "application/json", body.to_string())
    }

    pub(crate) fn sse(events: &str) -> Self {
        Self::of(200, "text/event-stream", events.to_owned())
    }

    pub(crate) fn of(status: u16, content_type: &str, body: String) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self { status, headers, pieces: [Bytes::from(body)].into(), hangs: false, pause: Duration::ZERO }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), pieces: VecDeque::new(), hangs: false, pause: Duration::ZERO }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Answered that much later.
    pub(crate) fn after(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// The body never ends.
    pub(crate) fn hanging(self) -> Self {
        Self { hangs: true, ..self }
    }
}

/// A running server; it ends when dropped.
pub(crate) struct ScriptedHttp {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    cut: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl ScriptedHttp {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (seen, cut) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicUsize>::default());
        let (script, kept, counted) = (Arc::new(script), Arc::clone(&seen), Arc::clone(&cut));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen, cut) = (Arc::clone(&script), Arc::clone(&kept), Arc::clone(&counted));
                let service = service_fn(move |request| {
                    let (script, seen, cut) = (Arc::clone(&script), Arc::clone(&seen), Arc::clone(&cut));
                    async move { answer(request, &*script, &seen, cut).await }
                });
                connections.spawn(async move {
                    // A peer that hangs up is its own business.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, seen, cut, _tasks: tasks }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("whole").clone()
    }

    /// Answers without an end that their client has given up.
    pub(crate) fn cut(&self) -> usize {
        self.cut.load(Ordering::SeqCst)
    }
}

async fn answer(
    request: Request<Incoming>,
    script: &(impl Fn(&Seen) -> Reply + ?Sized),
    seen: &Mutex<Vec<Seen>>,
    cut: Arc<AtomicUsize>,
) -> Result<Response<Pieces>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let target = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let request = Seen { method: head.method, target, headers: head.headers, body, at: Instant::now() };
    let reply = script(&request);
    // From here on it counts if it is cut, and it may be as soon as it is seen.
    let body = Pieces { pieces: reply.pieces, cut: reply.hangs.then_some(cut) };
    seen.lock().expect("whole").push(request);
    tokio::time::sleep(reply.pause).await;
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).expect("a status");
    for (name, value) in reply.headers {
        response.headers_mut().append(name, value.parse().expect("a value"));
    }
    Ok(response)
}

/// A body that may never end.
struct Pieces {
    pieces: VecDeque<Bytes>,
    cut: Option<Arc<AtomicUsize>>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            // Nobody has to be woken for what never comes: the connection's end drops this.
            None if self.cut.is_some() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if let Some(cut) = &self.cut {
            cut.fetch_add(1, Ordering::SeqCst);
        }
    }
}
