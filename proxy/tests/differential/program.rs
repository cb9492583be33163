//! The program under test in a folder of its own, and everything it leaves behind. Killed when dropped.

use crate::PATIENCE;
use mcpmeter_journal::{CallFilter, Reader};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How often a condition that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The running program.
pub(crate) struct Program {
    child: Child,
    folder: TempDir,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
}

/// What a program has left behind.
pub(crate) struct Left {
    /// Its rows, oldest first.
    pub(crate) rows: Vec<Value>,
    /// Everything it has written or shown anywhere: its log, its metrics, its files.
    pub(crate) everything: Vec<u8>,
}

impl Program {
    /// Starts it on free ports with these tables, and waits until it listens.
    pub(crate) async fn start(proxy_keys: &str, tables: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = format!(
            "[proxy]\nlisten = \"127.0.0.1:0\"\n{proxy_keys}[admin]\nlisten = \"127.0.0.1:0\"\n\
             [log]\nformat = \"json\"\nlevel = \"debug\"\n{tables}"
        );
        fs::write(folder.path().join("mcpmeter.toml"), config).expect("a configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcpmeter"));
        let ours = |name: &str| name.starts_with("MCPMETER_") || name == "DATABASE_URL" || name == "RUST_LOG";
        for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command.args(["serve", "-c", "mcpmeter.toml"]).current_dir(folder.path());
        command.env("MCPMETER_STORE__QUEUE_DIRECTORY", folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        let reader = thread::spawn(move || {
            let lines = stderr.lines().map_while(Result::ok);
            lines.for_each(|line| kept.lock().expect("not poisoned").push(line));
        });
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut program = Self { child, folder, log, reader: Some(reader), address: nowhere, admin: nowhere };
        (program.address, program.admin) = program.await_addresses().await;
        program
    }

    async fn await_addresses(&mut self) -> (SocketAddr, SocketAddr) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log.lock().expect("not poisoned").clone();
            let line = log.iter().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                line["message"].as_str()?.contains("listening").then_some(line)
            });
            if let Some(line) = line {
                let address = |key: &str| line[key].as_str().and_then(|text| text.parse().ok());
                return (address("proxy.address").expect("told"), address("admin.address").expect("told"));
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < deadline, "it does not listen: {log:#?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until it has written so many rows; more are a failure.
    pub(crate) async fn await_rows(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rows = read_rows(self.folder.path()).await;
            assert!(rows.len() <= count && Instant::now() < deadline, "not {count} rows: {rows:#?}");
            if rows.len() == count {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A line of `/proc/PID/status`, in bytes: `VmRSS:` is what is resident, `VmHWM:` the most that ever was.
    pub(crate) fn memory(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(key)).expect("Linux tells");
        let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        kilobytes.expect("a number") * 1024
    }

    /// Stops it in an orderly way.
    pub(crate) async fn stop(mut self) -> Left {
        let metrics = self.read_metrics().await;
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(told.expect("kill runs").success());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "it does not stop"),
            }
            tokio::time::sleep(LOOK).await;
        };
        self.reader.take().expect("once").join().expect("it only reads");
        let log = self.log.lock().expect("not poisoned").join("\n");
        assert!(status.success(), "{status}: {log}");
        let mut everything = [metrics, log.into_bytes()].concat();
        for entry in fs::read_dir(self.folder.path()).expect("a folder") {
            everything.extend(fs::read(entry.expect("a file").path()).expect("readable"));
        }
        Left { rows: read_rows(self.folder.path()).await, everything }
    }

    async fn read_metrics(&self) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.admin).await.expect("accepted");
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("written");
        let mut metrics = Vec::new();
        stream.read_to_end(&mut metrics).await.expect("read");
        metrics
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What a killed program leaves in shared memory for a next life, which it will not have.
        for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "lock") {
                let noted = fs::read_to_string(entry.path()).unwrap_or_default();
                noted.lines().for_each(|queue| drop(fs::remove_file(queue)));
            }
        }
    }
}

async fn read_rows(folder: &Path) -> Vec<Value> {
    let reader = Reader::sqlite(&folder.join("mcpmeter.db")).expect("a store");
    let rows = reader.calls(&CallFilter::default(), None, 1_000_000).await.expect("readable");
    rows.iter().rev().map(|row| serde_json::to_value(row).expect("JSON")).collect()
}
