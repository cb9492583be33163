//! `mcpmeter stdio` in a folder of its own, and a client on its pipes that says exactly what a test wants.

use crate::support::{PATIENCE, program, sqlite_rows};
use mcpmeter_journal::{CallFilter, Reader};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The folder that state is kept in; what killed programs left in it goes with it.
pub(crate) struct State {
    folder: TempDir,
}

impl State {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Where the stores are.
    pub(crate) fn stores(&self) -> PathBuf {
        self.folder.path().join("mcpmeter")
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What a program has to be told to keep its state here.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        let folder = self.folder.path().display().to_string();
        [("XDG_STATE_HOME", folder.clone()), ("MCPMETER_STORE__QUEUE_DIRECTORY", folder)]
    }

    /// The same while the store may still be in the making.
    pub(crate) async fn rows_so_far(&self, name: &str) -> Vec<Value> {
        let Ok(reader) = Reader::sqlite(&self.stores().join(format!("stdio-{name}.db"))) else {
            return Vec::new();
        };
        let rows = reader.calls(&CallFilter::default(), None, 1_000_000).await.unwrap_or_default();
        rows.iter().rev().map(|row| serde_json::to_value(row).expect("JSON")).collect()
    }

    /// The rows of a store, oldest first.
    pub(crate) async fn rows(&self, name: &str) -> Vec<Value> {
        sqlite_rows(&self.stores().join(format!("stdio-{name}.db"))).await
    }
}

/// The program between a test and its server.
pub(crate) struct Piped {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<String>,
    complaints: Receiver<String>,
}

/// `mcpmeter stdio` with these arguments, not started yet.
pub(crate) fn stdio(state: &State, arguments: &[&str]) -> Command {
    let mut command = program();
    command.arg("stdio").args(arguments).envs(state.variables());
    command
}

impl Piped {
    pub(crate) fn start(state: &State, arguments: &[&str]) -> Self {
        Self::spawn(&mut stdio(state, arguments))
    }

    /// Any program, to compare with.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let said = lines_of(child.stdout.take().expect("piped"));
        let complaints = lines_of(child.stderr.take().expect("piped"));
        Self { stdin: child.stdin.take(), child, said, complaints }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says a line.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("open");
        stdin.write_all(line.as_bytes()).and_then(|()| stdin.write_all(b"\n")).expect("it listens");
    }

    /// Asks for something.
    pub(crate) fn ask(&mut self, id: u64, method: &str, params: &Value) {
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
    }

    /// The next line; `None` when there are no more.
    pub(crate) fn hear(&self) -> Option<String> {
        match self.said.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it says nothing"),
        }
    }

    /// The answer with this id; what else is said before it is left out.
    pub(crate) fn answer(&self, id: u64) -> Value {
        loop {
            let line = self.hear().unwrap_or_else(|| panic!("no answer to {id}"));
            let message: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }

    /// Opens a session as 2025-11-25 has it.
    pub(crate) fn initialize(&mut self) -> Value {
        let params = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "piped", "version": "2" },
        });
        self.ask(0, "initialize", &params);
        let answer = self.answer(0);
        self.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        answer
    }

    /// Calls a tool and waits for the answer.
    pub(crate) fn call(&mut self, id: u64, tool: &str, arguments: &Value) -> Value {
        self.ask(id, "tools/call", &json!({ "name": tool, "arguments": arguments }));
        self.answer(id)
    }

    /// Closes its stdin.
    pub(crate) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end, without saying that there is nothing more to come; gives the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// All it has complained about, once it has ended.
    pub(crate) fn complaints(&self) -> String {
        self.complaints.iter().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

/// Processes whose command line holds the words.
pub(crate) fn processes_with(words: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("Linux").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(words) && *pid != std::process::id()
    };
    pids.filter(has).collect()
}
