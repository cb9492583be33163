//! The callers: MCP clients that call without end and note whose answer they have received to the last byte. They
//! are the oracle's ears, so they never guess: what they have not heard the end of may be stored or not.

use crate::PATIENCE;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

/// What the callers know. A call is a number, its JSON-RPC id.
#[derive(Default)]
pub(crate) struct Notes {
    /// Every number below has perhaps been sent, and no other.
    next: AtomicU64,
    heard: Mutex<BTreeSet<u64>>,
    /// Answers that are not what the server says.
    wrong: Mutex<Vec<String>>,
}

impl Notes {
    /// A number nobody has used.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// How many numbers have been given out.
    pub(crate) fn sent(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The calls whose answers have been received whole.
    pub(crate) fn heard(&self) -> BTreeSet<u64> {
        self.heard.lock().expect("not poisoned").clone()
    }

    /// How many.
    pub(crate) fn heard_count(&self) -> u64 {
        self.heard.lock().expect("not poisoned").len() as u64
    }

    /// Answers that were not right.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().expect("not poisoned").clone()
    }

    /// Notes the answer to a call.
    fn note(&self, number: u64, status: u16, answer: &[u8]) {
        let start = format!(r#"{{"jsonrpc":"2.0","id":{number},"#);
        if status == 200 && answer.starts_with(start.as_bytes()) {
            self.heard.lock().expect("not poisoned").insert(number);
        } else {
            let text = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
            self.wrong.lock().expect("not poisoned").push(format!("call {number}: {status} {text}"));
        }
    }
}

/// Where the program listens now; `None` while it does not run.
pub(crate) type Address = watch::Receiver<Option<SocketAddr>>;

/// Some callers at work; dropped, they stop at once.
pub(crate) struct Traffic {
    stopping: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

impl Traffic {
    /// So many callers, each pausing so long between two calls, and asking for one kind of answer (`upstream`).
    pub(crate) fn start(
        notes: &Arc<Notes>,
        address: &Address,
        callers: usize,
        pause: Duration,
        asking_for: &'static str,
    ) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (notes, address, stopping) = (Arc::clone(notes), address.clone(), Arc::clone(&stopping));
            tasks.spawn(async move {
                while !stopping.load(Ordering::Relaxed) {
                    call_until_cut(&notes, &address, &stopping, pause, asking_for).await;
                    sleep(Duration::from_millis(2)).await;
                }
            });
        }
        Self { stopping, callers: tasks }
    }

    /// Lets every caller hear the end of its last call.
    pub(crate) async fn stop(mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let finish = async { while self.callers.join_next().await.is_some() {} };
        timeout(PATIENCE, finish).await.expect("every call ends");
    }
}

/// Calls over one connection, until that breaks.
async fn call_until_cut(
    notes: &Notes,
    address: &Address,
    stopping: &AtomicBool,
    pause: Duration,
    asking_for: &str,
) {
    let Some(address) = *address.borrow() else { return };
    let Ok(mut caller) = Caller::connect(address).await else { return };
    while !stopping.load(Ordering::Relaxed) {
        if caller.call(notes, asking_for).await.is_err() {
            return;
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

/// One connection of a client.
pub(crate) struct Caller {
    sender: http1::SendRequest<Full<Bytes>>,
    _connection: JoinSet<()>,
}

impl Caller {
    /// Connects to the proxy.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        Ok(Self { sender, _connection: tasks })
    }

    /// Makes the next call, with `t_<number>` as the tool's name, and notes it if its answer came to the end.
    pub(crate) async fn call(&mut self, notes: &Notes, asking_for: &str) -> Result<u64, hyper::Error> {
        let number = notes.number();
        self.call_tool(notes, number, &format!("t_{number}"), asking_for).await?;
        Ok(number)
    }

    /// The same with any name for the tool, as it stands in JSON.
    pub(crate) async fn call_tool(
        &mut self,
        notes: &Notes,
        number: u64,
        tool: &str,
        asking_for: &str,
    ) -> Result<(), hyper::Error> {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"answer":"{asking_for}"}}}}}}"#
        )
        .replace(r#""answer":"""#, "");
        let request = Request::post("/a/mcp")
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(Full::from(body))
            .expect("a valid request");
        // The answer is read before the connection knows that it is ready for the next request.
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status().as_u16();
        let answer = response.into_body().collect().await?.to_bytes();
        notes.note(number, status, &answer);
        Ok(())
    }
}
