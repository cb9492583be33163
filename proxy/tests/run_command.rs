//! `mcpmeter run`: one server without a file, from the greeting to the end.

use crate::{
    message::call,
    piped::{State, processes_with},
    program::{ask, text_of},
    support::{eventually, program},
};
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"hand","version":"1"}}}"#;

fn run(state: &State, arguments: &[&str]) -> Command {
    let mut command = program();
    command.arg("run").args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(arguments).envs(state.variables()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// It runs, and has said where.
struct Running {
    child: Child,
    proxy: SocketAddr,
    stdout: Option<BufReader<ChildStdout>>,
    mark: String,
}

impl Running {
    fn start(state: &State) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/odd_program.py");
        let mark = format!("mark-{}", state.path().display());
        let words = ["--name", "odd", "--", "python3", script.to_str().expect("text"), &mark];
        let mut child = run(state, &words).spawn().expect("it starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        let proxy = loop {
            line.clear();
            assert!(stderr.read_line(&mut line).expect("text") > 0, "it ended before it greeted");
            if let Some(rest) = line.strip_prefix("MCP endpoint   http://") {
                break rest.split('/').next().expect("a host").parse().expect("an address");
            }
        };
        // What it says later must not stop it.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, proxy, stdout, mark }
    }

    async fn open_session(&self) -> String {
        let answer = ask(self.proxy, "/odd/mcp", "", INITIALIZE).await;
        format!("Mcp-Session-Id: {}\r\n", answer.header("mcp-session-id").expect("a session"))
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs").success()
        );
    }

    async fn assert_ends_well(mut self) {
        eventually("it ends", || self.child.try_wait().expect("ours").is_some()).await;
        assert!(self.child.wait().expect("ours").success());
        assert_eq!(processes_with(&self.mark), [0; 0], "nobody is left");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.child.kill();
    }
}

#[tokio::test]
async fn the_first_minute_from_the_greeting_to_ctrl_c() {
    let state = State::new();
    let mut running = Running::start(&state);
    let session = running.open_session().await;
    assert_eq!(text_of(&ask(running.proxy, "/odd/mcp", &session, &call(1, "echo a")).await), "a");
    let mut line = String::new();
    running.stdout.as_mut().expect("piped").read_line(&mut line).expect("text");
    assert!(line.contains("echo a") && line.contains("ok"), "{line}");
    running.signal("INT");
    running.assert_ends_well().await;
    let rows = crate::support::sqlite_rows(&state.stores().join("calls.db")).await;
    assert_eq!((rows.len(), &rows[0]["tool_name"]), (1, &json!("echo a")));
}

#[tokio::test]
async fn it_goes_on_when_nobody_reads_its_lines_and_ends_with_its_terminal() {
    let state = State::new();
    let mut running = Running::start(&state);
    drop(running.stdout.take());
    for round in 0..2 {
        let session = running.open_session().await;
        assert_eq!(text_of(&ask(running.proxy, "/odd/mcp", &session, &call(1, "echo a")).await), "a");
        // Its end is a warning, which goes where the lines went.
        let answer = ask(running.proxy, "/odd/mcp", &session, &call(2, "crash")).await;
        assert_eq!(answer.status(), 502, "{round}");
        assert_eq!(ask(running.proxy, "/odd/mcp", &session, &call(3, "echo")).await.status(), 404);
    }
    running.signal("HUP");
    running.assert_ends_well().await;
}

#[test]
fn a_program_that_is_not_there_is_told_at_once() {
    let state = State::new();
    for (word, words) in [
        ("no-such-program-7", "there is no program `no-such-program-7` on the PATH"),
        ("/no/such/program", "there is no program `/no/such/program`\n"),
    ] {
        let mut child = run(&state, &["--", word]).spawn().expect("it starts");
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        assert_eq!(child.wait().expect("ours").code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_store_that_is_named_needs_no_home() {
    let state = State::new();
    let file = format!("sqlite:{}", state.path().join("own.db").display());
    let mut command = run(&state, &["--store", &file, "--listen", "127.0.0.1:x", "--", "sh"]);
    let mut child = command.env_remove("HOME").env_remove("XDG_STATE_HOME").spawn().expect("it starts");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    child.wait().expect("ours");
    assert!(!said.contains("HOME"), "{said}");
}
