//! A small upstream that answers every request by itself, for tests that are about something else than the wire.

use crate::raw::{Message, Upstream, Wire, json_answer, result};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

type Answer = Arc<dyn Fn(&Message) -> String + Send + Sync>;

/// The upstream; it ends when dropped.
pub(crate) struct Serving {
    upstream: Arc<Upstream>,
    received: Arc<Mutex<Vec<Message>>>,
    _tasks: JoinSet<()>,
}

impl Serving {
    /// Answers every call with an empty result for its id.
    pub(crate) fn results() -> Self {
        Self::with(|request| {
            let call: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
            json_answer(&result(call["id"].as_u64().unwrap_or_default()))
        })
    }

    /// Answers every request with what the function says.
    pub(crate) fn with(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        let upstream = Arc::new(Upstream::bind());
        let received = Arc::<Mutex<Vec<Message>>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_all(Arc::clone(&upstream), Arc::new(answer), Arc::clone(&received)));
        Self { upstream, received, _tasks: tasks }
    }

    /// The table of a route to it.
    pub(crate) fn route(&self, name: &str) -> String {
        self.upstream.route(name)
    }

    /// Every request so far.
    pub(crate) fn received(&self) -> Vec<Message> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept_all(upstream: Arc<Upstream>, answer: Answer, received: Arc<Mutex<Vec<Message>>>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = upstream.next().await;
        connections.spawn(answer_all(stream, Arc::clone(&answer), Arc::clone(&received)));
    }
}

async fn answer_all(mut stream: Wire, answer: Answer, received: Arc<Mutex<Vec<Message>>>) {
    while let Some(request) = stream.next_request().await {
        let answer = answer(&request);
        received.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        if stream.try_send(answer).await.is_err() {
            return;
        }
    }
}
