//! What the tests share: the real program in a folder of its own, and the rows it has written.

pub(crate) mod acting;
pub(crate) mod caller;
pub(crate) mod conversation;
pub(crate) mod expected_row;
pub(crate) mod obedient_server;
pub(crate) mod peer;
#[path = "../../journal/tests/support/postgres.rs"]
pub(crate) mod postgres;
pub(crate) mod rmcp_client;
pub(crate) mod rmcp_server;
pub(crate) mod wire_tap;

use mcpmeter_journal::{CallFilter, Reader};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long anything may take before a test gives up; far more than it ever takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test, with one folder for its configuration and its store. Killed when dropped.
pub(crate) struct Mcpmeter {
    child: Child,
    folder: TempDir,
    /// Where MCP clients connect.
    pub(crate) proxy: SocketAddr,
    /// Probes and metrics.
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

/// The program, to be run with other arguments than `serve`.
pub(crate) fn program() -> Command {
    let mut command = Command::new("env");
    // Under nohup the tests ignore SIGHUP, and mcpmeter would then, too.
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_mcpmeter")]);
    // What the person who runs the tests has set must not change them.
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("MCPMETER_") || name == "DATABASE_URL")
    {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

impl Mcpmeter {
    /// Starts `mcpmeter serve` with these routes (and other tables) on free ports, and waits until it listens.
    pub(crate) fn start(toml: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), toml, &[])
    }

    /// The same in a folder that an earlier run has used, or with further keys of `[proxy]`.
    pub(crate) fn start_in(folder: TempDir, toml: &str, proxy_keys: &[&str]) -> Self {
        let config = format!(
            "[proxy]\nlisten = \"127.0.0.1:0\"\n{keys}\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n{toml}",
            keys = proxy_keys.join("\n"),
        );
        fs::write(folder.path().join("mcpmeter.toml"), config).expect("a configuration");
        let mut child = program()
            .args(["serve", "-c", "mcpmeter.toml"])
            .current_dir(folder.path())
            // Killed programs leave their queue behind: it goes with the folder.
            .env("MCPMETER_STORE__QUEUE_DIRECTORY", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = child.stderr.take().expect("piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().expect("not poisoned").push(line);
            }
        });
        let mut started = Self { child, folder, proxy: ([0; 4], 0).into(), admin: ([0; 4], 0).into(), log };
        let listening = started.wait_for_log("listening");
        let address =
            |key: &str| listening[key].as_str().and_then(|text| text.parse().ok()).expect("an address");
        (started.proxy, started.admin) = (address("proxy.address"), address("admin.address"));
        started
    }

    /// The URL behind the proxy, for example `url("/everything/mcp")`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy)
    }

    /// The program's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("mcpmeter.toml")
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("not poisoned").clone()
    }

    /// The first log line whose message contains the words; waits for it.
    pub(crate) fn wait_for_log(&mut self, words: &str) -> Value {
        let find = |line: &String| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["message"].as_str().is_some_and(|message| message.contains(words)).then_some(line)
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.log().iter().find_map(find) {
                return line;
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < deadline, "no \"{words}\" in {:#?}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal (`TERM`, `INT`, `HUP`).
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(mut self) -> (ExitStatus, TempDir) {
        let status = self.child.wait().expect("a child");
        // The folder outlives the process; it is exchanged because `Drop` forbids moving it out.
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a temporary folder"));
        (status, folder)
    }

    /// Stops it in an orderly way and gives all rows, oldest first.
    pub(crate) async fn stop(self) -> Vec<Value> {
        self.signal("TERM");
        let (status, folder) = self.wait();
        assert!(status.success(), "{status}");
        sqlite_rows(&folder.path().join("mcpmeter.db")).await
    }

    /// The rows written so far, oldest first.
    pub(crate) async fn rows(&self) -> Vec<Value> {
        sqlite_rows(&self.folder.path().join("mcpmeter.db")).await
    }

    /// The rows once there are as many as expected; more than that is a failure, too.
    pub(crate) async fn wait_for_rows(&self, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rows = self.rows().await;
            assert!(rows.len() <= count, "{} rows instead of {count}: {rows:#?}", rows.len());
            if rows.len() == count {
                return rows;
            }
            assert!(Instant::now() < deadline, "{} rows instead of {count}: {rows:#?}", rows.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The response to a GET on the admin port.
    pub(crate) async fn admin(&self, target: &str) -> (u16, String) {
        get(self.admin, target).await
    }
}

impl Drop for Mcpmeter {
    fn drop(&mut self) {
        // A failed test leaves nothing running. Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        forget_queues(self.folder.path());
    }
}

/// Removes the queues that killed programs have left in shared memory for a next life, which they will not have.
pub(crate) fn forget_queues(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "lock") {
            let noted = fs::read_to_string(&path).unwrap_or_default();
            noted.lines().for_each(|queue| drop(fs::remove_file(queue)));
        }
    }
}

/// All rows of an embedded store, oldest first, as JSON.
pub(crate) async fn sqlite_rows(file: &Path) -> Vec<Value> {
    let reader = Reader::sqlite(file).expect("a store");
    read_all(&reader).await
}

/// All rows that a reader finds, oldest first, as JSON.
pub(crate) async fn read_all(reader: &Reader) -> Vec<Value> {
    let rows = reader.calls(&CallFilter::default(), None, 1_000_000).await.expect("readable");
    rows.iter().rev().map(|row| serde_json::to_value(row).expect("JSON")).collect()
}

/// A plain GET: status and body.
pub(crate) async fn get(address: SocketAddr, target: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("accepted");
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("read");
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Waits until the condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
