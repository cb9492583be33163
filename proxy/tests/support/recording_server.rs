//! A server with Node's HTTP parser that tells what it has understood (proxy/tests/peers/recording_server.mjs).

use crate::support::peer::peers;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

/// The server; it ends when dropped.
pub(crate) struct RecordingServer {
    child: Child,
    port: u64,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl RecordingServer {
    /// Starts it and waits until it listens.
    pub(crate) fn start() -> Self {
        let mut child = Command::new("node")
            .arg(peers().join("recording_server.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let first: Value = serde_json::from_str(&lines.next().expect("a line")).expect("JSON");
        let requests = Arc::<Mutex<Vec<Value>>>::default();
        let kept = Arc::clone(&requests);
        thread::spawn(move || {
            for line in lines {
                kept.lock().expect("whole").push(serde_json::from_str(&line).expect("JSON"));
            }
        });
        Self { child, port: first["port"].as_u64().expect("a port"), requests }
    }

    /// The table of a route to it, with a base path.
    pub(crate) fn route(&self, name: &str) -> String {
        format!(
            "[[route]]\nname = \"{name}\"\nupstream = \"http://127.0.0.1:{port}/base\"\n",
            port = self.port
        )
    }

    /// What it has understood so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.requests.lock().expect("whole").clone()
    }
}

impl Drop for RecordingServer {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
