//! A route to `odd_program.py`, and clients that speak to it by hand: one message a connection, or a session.

use crate::{
    message::{Message, call, get_stream, post},
    raw::Wire,
    support::Mcpmeter,
};
use std::path::Path;

pub(crate) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"hand","version":"1"}}}"#;

/// The table of a route named `odd` to the program with these arguments and further keys.
pub(crate) fn odd(arguments: &[&str], keys: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/odd_program.py");
    let mut words = vec!["python3".to_owned(), script.display().to_string()];
    words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    format!("[[route]]\nname = \"odd\"\ncommand = {words:?}\n{keys}\n")
}

/// A session by hand.
pub(crate) struct Session {
    host: std::net::SocketAddr,
    pub(crate) id: String,
}

impl Session {
    /// Begins one; it has to succeed.
    pub(crate) async fn open(mcpmeter: &Mcpmeter) -> Self {
        let answer = ask(mcpmeter.proxy, "/odd/mcp", "", INITIALIZE).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let id = answer.header("mcp-session-id").expect("a session");
        Self { host: mcpmeter.proxy, id }
    }

    /// Tries to begin one.
    pub(crate) async fn try_open(mcpmeter: &Mcpmeter) -> Message {
        ask(mcpmeter.proxy, "/odd/mcp", "", INITIALIZE).await
    }

    /// The header that names it.
    pub(crate) fn header(&self) -> String {
        format!("Mcp-Session-Id: {}\r\n", self.id)
    }

    /// Sends a message and reads the whole answer.
    pub(crate) async fn send(&self, body: &str) -> Message {
        ask(self.host, "/odd/mcp", &self.header(), body).await
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, id: u64, tool: &str) -> Message {
        self.send(&call(id, tool)).await
    }

    /// Sends a message and leaves the answer to the caller.
    pub(crate) async fn begin(&self, body: &str) -> Wire {
        let mut client = Wire::connect(self.host).await;
        client.send(with_header(&post("localhost", "/odd/mcp", body), &self.header())).await;
        client
    }

    /// Opens its stream.
    pub(crate) async fn listen(&self) -> Wire {
        let mut client = Wire::connect(self.host).await;
        client.send(with_header(&get_stream("localhost", "/odd/mcp"), &self.header())).await;
        client
    }

    /// Ends it.
    pub(crate) async fn delete(&self) -> u16 {
        let mut client = Wire::connect(self.host).await;
        let request = format!("DELETE /odd/mcp HTTP/1.1\r\nHost: localhost\r\n{}\r\n", self.header());
        client.send(request).await;
        client.read_response().await.status()
    }
}

/// Sends a message on a connection of its own and reads the whole answer. `headers` are whole lines.
pub(crate) async fn ask(host: std::net::SocketAddr, target: &str, headers: &str, body: &str) -> Message {
    let mut client = Wire::connect(host).await;
    client.send(with_header(&post("localhost", target, body), headers)).await;
    client.read_response().await
}

fn with_header(request: &str, headers: &str) -> String {
    request.replacen("\r\n", &format!("\r\n{headers}"), 1)
}

/// The text that a call was answered with.
pub(crate) fn text_of(answer: &Message) -> String {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    body["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

/// Whether a process is there, and not a zombie.
pub(crate) fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|behind| !behind.is_empty() && !behind.starts_with(" Z"))
}

/// Processes of a session, zombies included.
pub(crate) fn in_session(session: &str) -> usize {
    let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
    let all = std::fs::read_dir("/proc").expect("procfs").flatten().filter_map(stat);
    let is_of = |stat: &String| {
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(3) == Some(session)
    };
    all.filter(is_of).count()
}
