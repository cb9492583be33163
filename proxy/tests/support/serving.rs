//! A small upstream that answers every request by itself, for tests that are about something else than the
//! wire.

use crate::{
    message::{Message, json_answer, result},
    raw::{Upstream, Wire},
};
use std::sync::Arc;
use tokio::task::JoinSet;

type Answer = Arc<dyn Fn(&Message) -> String + Send + Sync>;

/// The upstream; it ends when dropped.
pub(crate) struct Serving {
    upstream: Arc<Upstream>,
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
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_all(Arc::clone(&upstream), Arc::new(answer)));
        Self { upstream, _tasks: tasks }
    }

    /// The table of a route to it.
    pub(crate) fn route(&self, name: &str) -> String {
        self.upstream.route(name)
    }
}

async fn accept_all(upstream: Arc<Upstream>, answer: Answer) {
    let mut connections = JoinSet::new();
    loop {
        let stream = upstream.next().await;
        connections.spawn(answer_all(stream, Arc::clone(&answer)));
    }
}

async fn answer_all(mut stream: Wire, answer: Answer) {
    while let Some(request) = stream.next_request().await {
        let answer = answer(&request);
        if stream.try_send(answer).await.is_err() {
            return;
        }
    }
}
