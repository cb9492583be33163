//! A tap on the line between the proxy and a server: it copies bytes both ways, and remembers them, so that a
//! test can count a message's bytes without asking the proxy. Never alters one, and closes what its peers close.

use serde_json::{Deserializer, Value};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

type Recording = Arc<Mutex<Vec<u8>>>;

/// A tapped line to one server.
pub(crate) struct WireTap {
    /// Where to connect instead of the server's own port.
    pub(crate) port: u16,
    lines: Arc<Mutex<Vec<Line>>>,
    _tasks: JoinSet<()>,
}

/// What was said on one connection.
#[derive(Clone, Default)]
struct Line {
    to_server: Recording,
    from_server: Recording,
}

impl WireTap {
    /// Listens on a free port for a server that listens on loopback.
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let lines = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, Arc::clone(&lines)));
        Self { port, lines, _tasks: tasks }
    }

    /// The bytes of every `tools/list` and `tools/call` that went to the server, by its id as it was written.
    pub(crate) fn calls(&self) -> BTreeMap<String, usize> {
        let is_call =
            |message: &Value| message["method"].as_str().is_some_and(|name| name.starts_with("tools/"));
        self.messages(|line| &line.to_server, is_call)
    }

    /// The bytes of every answer that came from the server, by its id.
    pub(crate) fn answers(&self) -> BTreeMap<String, usize> {
        let is_answer = |message: &Value| message.get("result").or(message.get("error")).is_some();
        self.messages(|line| &line.from_server, is_answer)
    }

    /// The methods of all requests and notifications that went to the server.
    pub(crate) fn methods(&self) -> Vec<String> {
        let lines = self.lines.lock().expect("not poisoned").clone();
        let said = lines.iter().map(|line| line.to_server.lock().expect("not poisoned").clone());
        let messages = said.flat_map(|recording| messages_in(&recording));
        messages.filter_map(|(message, _)| message["method"].as_str().map(str::to_owned)).collect()
    }

    fn messages(&self, side: fn(&Line) -> &Recording, wanted: fn(&Value) -> bool) -> BTreeMap<String, usize> {
        let lines = self.lines.lock().expect("not poisoned").clone();
        let mut found = BTreeMap::new();
        for line in lines {
            let recording = side(&line).lock().expect("not poisoned").clone();
            let wanted = messages_in(&recording).into_iter().filter(|(message, _)| wanted(message));
            for (message, bytes) in wanted {
                let again = found.insert(message["id"].to_string(), bytes);
                assert!(again.is_none(), "a conversation uses an id once: {message}");
            }
        }
        found
    }
}

/// JSON-RPC messages and their bytes. All SDKs write a message in one piece and on one line: as a body, which
/// begins behind the empty line after the headers, or behind an SSE event's `data:`.
fn messages_in(recording: &[u8]) -> Vec<(Value, usize)> {
    let mut messages = Vec::new();
    let mut at = 0;
    while let Some(brace) = recording[at..].iter().position(|byte| *byte == b'{') {
        at += brace;
        let before = &recording[..at];
        if before.ends_with(b"\n") || before.ends_with(b"data: ") {
            let mut values = Deserializer::from_slice(&recording[at..]).into_iter::<Value>();
            if let Some(Ok(message)) = values.next() {
                messages.push((message, values.byte_offset()));
                at += values.byte_offset();
                continue;
            }
        }
        at += 1;
    }
    messages
}

async fn accept(listener: TcpListener, server: u16, lines: Arc<Mutex<Vec<Line>>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let line = Line::default();
        lines.lock().expect("not poisoned").push(line.clone());
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
            for stream in [&client, &server] {
                stream.set_nodelay(true).expect("a fresh socket takes options");
            }
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            // Whoever closes first closes both: HTTP peers do not half-close.
            tokio::select! {
                () = copy(from_client, to_server, line.to_server) => {}
                () = copy(from_server, to_client, line.from_server) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Remembers before it hands on: what a peer has seen is in the recording.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, recording: Recording) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        recording.lock().expect("not poisoned").extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
