//! Peers in other languages: the official SDKs' clients and servers, as processes (proxy/tests/peers).

use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// Where they are.
pub(crate) fn peers() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
}

/// The interpreter of an environment that scripts/setup-tests has made.
pub(crate) fn python(venv: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.peers").join(venv).join("bin/python")
}

fn command(script: &str) -> Command {
    let mut command = if script.ends_with(".py") {
        // The Python SDK's 1.x and 2.x exclude each other.
        let venv = if script.starts_with("py1_") { "venv1" } else { "venv" };
        Command::new(python(venv))
    } else {
        Command::new("node")
    };
    command.arg(peers().join(script));
    command
}

/// A server of an SDK on a free port; it ends when its stdin closes, which it does when this is dropped.
pub(crate) struct PeerServer {
    child: Child,
    /// Where it listens.
    pub(crate) port: u16,
}

impl PeerServer {
    /// Starts `proxy/tests/peers/SCRIPT ARGUMENTS` and waits until it listens.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let mut child = command(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start {script}: {error} (scripts/setup-tests installs it)")
            });
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a first line");
        let listening: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{script} did not start: {line:?} (scripts/setup-tests installs it)"));
        let port = listening["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        Self { child, port }
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It has just been told to end; were it not to, the test would leave it behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a client of an SDK through its conversation: what it saw, a JSON object per step, and whether all of it
/// was as an MCP client expects.
pub(crate) async fn converse(script: &str, arguments: &[&str]) -> (bool, Vec<Value>) {
    let client = spawn(script, arguments);
    let output = client.wait_with_output().await.expect("a client ends");
    let lines = String::from_utf8_lossy(&output.stdout);
    let steps = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    (output.status.success(), steps)
}

/// Starts a client of an SDK, which is killed when this is dropped.
pub(crate) fn spawn(script: &str, arguments: &[&str]) -> tokio::process::Child {
    let mut client = tokio::process::Command::from(command(script));
    client
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let missing = |error| panic!("cannot start {script}: {error} (scripts/setup-tests installs it)");
    client.spawn().unwrap_or_else(missing)
}
