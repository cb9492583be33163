//! A case: one play, performed directly and through the program, compared, and the rows that came of it.

use crate::{
    permitted::{self, Route},
    program::{Left, Program},
    script::{Act, Actor, Line},
    stage::{Stage, Way},
    transcript::Transcript,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;

/// The path under which a route by prefix serves its clients.
const PREFIX: &str = "/a";
/// The name of a route by host.
const HOST: &str = "tools.example";

/// A play and the route that it goes through.
pub(crate) struct Case {
    lines: Vec<Line>,
    route_keys: String,
    proxy_keys: String,
    by_host: bool,
    is_down: bool,
}

/// What came of a case.
pub(crate) struct Outcome {
    /// What was seen without the program; empty if the play was not performed so.
    pub(crate) direct: Transcript,
    /// What was seen through it.
    pub(crate) proxied: Transcript,
    /// What it wrote down, oldest first.
    pub(crate) rows: Vec<Value>,
    /// All that it wrote or showed anywhere.
    pub(crate) left: Vec<u8>,
    /// By how much its memory grew at most since [`crate::script::note_memory`].
    pub(crate) growth: u64,
}

impl Case {
    /// A play on a route by prefix, with every switch as it is by default.
    pub(crate) fn new(lines: impl IntoIterator<Item = Line>) -> Self {
        let lines = lines.into_iter().collect();
        Self { lines, route_keys: String::new(), proxy_keys: String::new(), by_host: false, is_down: false }
    }

    /// With further keys of its route.
    pub(crate) fn with_route(mut self, keys: &str) -> Self {
        self.route_keys.push_str(&format!("{keys}\n"));
        self
    }

    /// With further keys of `[proxy]`.
    pub(crate) fn with_proxy(mut self, keys: &str) -> Self {
        self.proxy_keys.push_str(&format!("{keys}\n"));
        self
    }

    /// On a route by host name, where nothing is rewritten.
    pub(crate) const fn by_host(mut self) -> Self {
        self.by_host = true;
        self
    }

    /// With a server that does not listen until its line comes.
    pub(crate) const fn with_server_down(mut self) -> Self {
        self.is_down = true;
        self
    }

    /// Performs it both ways; what arrives has to be the same.
    pub(crate) async fn run(self) -> Outcome {
        let (socket, upstream) = bind();
        let own = upstream.to_string();
        let way = Way { address: upstream, host: own.clone(), prefix: "", upstream: own.clone() };
        let direct = self.perform(&socket, way, None).await.0;
        let mut outcome = self.run_through(&socket, upstream).await;
        let prefix = if self.by_host { "" } else { PREFIX };
        let route = Route { prefix: Some(prefix), upstream: own };
        permitted::assert_same(&direct, &outcome.proxied, &route);
        outcome.direct = direct;
        outcome
    }

    /// Performs it through the program only: for what exists only there, such as its own answers.
    pub(crate) async fn run_proxied(self) -> Outcome {
        let (socket, upstream) = bind();
        self.run_through(&socket, upstream).await
    }

    async fn run_through(&self, socket: &Socket, upstream: SocketAddr) -> Outcome {
        let upstream = upstream.to_string();
        let by_host = if self.by_host { format!("host = \"{HOST}\"\n") } else { String::new() };
        let route = format!(
            "[[route]]\nname = \"a\"\nupstream = \"http://{upstream}\"\n{by_host}{}",
            self.route_keys
        );
        let program = Program::start(&self.proxy_keys, &route).await;
        let (host, prefix) =
            if self.by_host { (HOST.to_owned(), "") } else { (program.address.to_string(), PREFIX) };
        let way = Way { address: program.address, host, prefix, upstream };
        let (proxied, resident) = self.perform(socket, way, Some(&program)).await;
        let growth = resident.map_or(0, |before| program.memory("VmHWM:").saturating_sub(before));
        let Left { mut rows, everything } = program.stop().await;
        // Those of one exchange began at once.
        let text = |row: &Value, key: &str| row[key].as_str().map(str::to_owned);
        rows.sort_by_key(|row| {
            (text(row, "created_at"), row["batch_index"].as_u64(), text(row, "completed_at"))
        });
        Outcome { direct: Transcript::default(), proxied, rows, left: everything, growth }
    }

    /// Performs the lines one after the other; also gives what was resident when that was noted.
    async fn perform(
        &self,
        socket: &Socket,
        way: Way,
        program: Option<&Program>,
    ) -> (Transcript, Option<u64>) {
        let mut stage = Stage::open(way);
        if !self.is_down {
            stage.listen(socket);
        }
        let mut resident = None;
        for line in &self.lines {
            match (&line.actor, &line.act, program) {
                (Actor::Stage, Act::Pause(time), Some(_)) => tokio::time::sleep(*time).await,
                (Actor::Stage, Act::AwaitRows(count), Some(program)) => program.await_rows(*count).await,
                (Actor::Stage, Act::NoteMemory, Some(program)) => resident = Some(program.memory("VmRSS:")),
                (Actor::Stage, Act::Listen, _) => stage.listen(socket),
                (Actor::Stage, _, _) => {}
                _ => stage.perform(line).await,
            }
        }
        (stage.close().await, resident)
    }
}

/// A socket that has its port and does not listen yet: until it does, whoever connects is refused.
pub(crate) fn bind() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().ok().and_then(|bound| bound.as_socket()).expect("bound");
    (socket, address)
}

impl Outcome {
    /// Whether these words are anywhere in what the program wrote or showed.
    pub(crate) fn has_kept(&self, words: &str) -> bool {
        memchr::memmem::find(&self.left, words.as_bytes()).is_some()
    }

    /// There are exactly these rows, in this order; of each, what is named is as it is named.
    pub(crate) fn assert_rows(&self, expected: &Value) {
        let expected = expected.as_array().expect("an array of rows");
        let brief = |row: &Value| {
            let shown = ["method", "tool_name", "rpc_id", "status", "status_detail", "match"];
            shown.map(|key| row[key].to_string()).join(" ")
        };
        let all: Vec<_> = self.rows.iter().map(brief).collect();
        assert_eq!(self.rows.len(), expected.len(), "rows: {all:#?}");
        for (row, expected) in self.rows.iter().zip(expected) {
            let wrong: Vec<_> = expected
                .as_object()
                .expect("columns")
                .iter()
                .filter(|(column, value)| row.get(column) != Some(value))
                .map(|(column, value)| format!("{column}: {} instead of {value}", row[column]))
                .collect();
            assert!(wrong.is_empty(), "{}: {wrong:#?}", brief(row));
        }
    }
}
