//! The program under test: started, killed, told to stop and started again on the same folder; and its accounts,
//! as /metrics tells them.

use crate::{PATIENCE, traffic::Address};
use serde_json::Value;
use std::{
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

/// What a shell does before it becomes the program: no file may grow beyond the limit (in blocks of 512 bytes),
/// and growing beyond it is an error, not a signal that kills.
const LIMITED: &str = r#"trap "" XFSZ; ulimit -S -f "$0"; exec "$@""#;

/// The program with its folder. Killed when dropped.
pub(crate) struct Program {
    folder: TempDir,
    child: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
    /// Where it listens, for callers and for whoever watches the accounts.
    proxy: watch::Sender<Option<SocketAddr>>,
    admin: watch::Sender<Option<SocketAddr>>,
    /// Further variables of its environment.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// The most bytes that a file may have.
    pub(crate) file_limit: Option<u64>,
}

impl Program {
    /// A folder with a configuration; nothing runs yet. `store` are lines of `[store]`.
    pub(crate) fn prepare(folder: TempDir, upstream: u16, store: &str) -> Self {
        let config = format!(
            "[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n\
             [store]\noutbox = \"outbox.db\"\n{store}\n\
             [[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:{upstream}\"\n"
        );
        fs::write(folder.path().join("mcpmeter.toml"), config).expect("a configuration");
        Self {
            folder,
            child: None,
            log: Arc::default(),
            proxy: watch::Sender::new(None),
            admin: watch::Sender::new(None),
            environment: Vec::new(),
            file_limit: None,
        }
    }

    /// Where its calls wait.
    pub(crate) fn outbox(&self) -> PathBuf {
        self.folder.path().join("outbox.db")
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where callers find it, now and after the next start.
    pub(crate) fn proxy(&self) -> Address {
        self.proxy.subscribe()
    }

    /// Where its metrics are, now and after the next start.
    pub(crate) fn admin(&self) -> Address {
        self.admin.subscribe()
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(&mut self) {
        let mut child = self.command(&["serve"]).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("piped");
        let seen = self.log().len();
        let kept = Arc::clone(&self.log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().expect("not poisoned").push(line);
            }
        });
        self.child = Some(child);
        let listening = self.wait_for_log(seen, "listening");
        let address = |key: &str| listening[key].as_str().and_then(|text| text.parse().ok());
        self.admin.send_replace(address("admin.address"));
        self.proxy.send_replace(address("proxy.address"));
    }

    /// What `mcpmeter doctor` says of it, whatever that is.
    pub(crate) fn doctor(&self) -> String {
        let admin = self.admin.borrow().expect("it runs").to_string();
        let output = self.run(&["doctor", "--admin", &admin]);
        assert!(output.status.code().is_some_and(|code| code != 2), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs another command of it in the same folder, to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).output().expect("it runs")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_mcpmeter");
        let mut command = match self.file_limit {
            None => Command::new(program),
            Some(bytes) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", LIMITED, &(bytes / 512).to_string(), program]);
                shell
            }
        };
        // What the person who runs the tests has set must not change them.
        for (name, _) in std::env::vars_os().filter(|(name, _)| {
            name == "DATABASE_URL" || name == "RUST_LOG" || name.to_string_lossy().starts_with("MCPMETER_")
        }) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.forget_addresses();
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it runs");
        child.wait().expect("a child");
    }

    /// SIGTERM; waits for the end, which has to be a good one.
    pub(crate) fn stop(&mut self) {
        self.forget_addresses();
        self.signal("TERM");
        let mut child = self.child.take().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        let status: ExitStatus = loop {
            match child.try_wait().expect("a child") {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "it does not end: {:#?}", self.log()),
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}: {:#?}", self.log());
    }

    /// Whoever calls from now on waits for the next start.
    fn forget_addresses(&self) {
        self.proxy.send_replace(None);
        self.admin.send_replace(None);
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Lifts the limit that `file_limit` had set, while it runs.
    pub(crate) fn lift_file_limit(&mut self) {
        self.file_limit = None;
        let status = Command::new("prlimit").args(["--pid", &self.pid(), "--fsize=unlimited"]).status();
        assert!(status.expect("prlimit, of util-linux, runs").success());
    }

    fn pid(&self) -> String {
        self.child.as_ref().expect("it runs").id().to_string()
    }

    /// Everything it has logged, in all its lives.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("not poisoned").clone()
    }

    /// The first log line behind the first `seen` whose message contains the words; waits for it.
    fn wait_for_log(&mut self, seen: usize, words: &str) -> Value {
        let find = |line: &String| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["message"].as_str().is_some_and(|message| message.contains(words)).then_some(line)
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.log()[seen..].iter().find_map(find) {
                return line;
            }
            let ended = self.child.as_mut().expect("it runs").try_wait().expect("a child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "no \"{words}\" in {:#?}",
                &self.log()[seen..]
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its accounts at this moment; an error if it does not run.
    pub(crate) async fn accounts(&self) -> io::Result<Accounts> {
        let address = *self.admin.borrow();
        Accounts::read(address.ok_or(io::ErrorKind::NotConnected)?).await
    }

    /// The sum of all metrics whose name and labels begin so.
    pub(crate) async fn metric(&self, name: &str) -> io::Result<u64> {
        let address = *self.admin.borrow();
        Ok(sum_of(&read_metrics(address.ok_or(io::ErrorKind::NotConnected)?).await?, name))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A failed test leaves nothing running. Both fail only if it has ended already.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Nor does it leave its queue in shared memory for a next life.
        let noted = fs::read_to_string(self.outbox().with_extension("db.lock")).unwrap_or_default();
        noted.lines().for_each(|queue| drop(fs::remove_file(queue)));
    }
}

/// Where every finished call of this life of the program is, as /metrics says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    pub(crate) finished: u64,
    pub(crate) recovered: u64,
    pub(crate) queued: u64,
    pub(crate) outbox: u64,
    pub(crate) stored: u64,
    pub(crate) lost: u64,
}

impl Accounts {
    /// Asks the admin port.
    pub(crate) async fn read(admin: SocketAddr) -> io::Result<Self> {
        let metrics = read_metrics(admin).await?;
        let read = |name: &str| sum_of(&metrics, name);
        Ok(Self {
            finished: read("mcpmeter_log_finished_total "),
            recovered: read("mcpmeter_log_recovered_records "),
            queued: read("mcpmeter_log_queue_records "),
            outbox: read("mcpmeter_log_outbox_records "),
            stored: read("mcpmeter_log_stored_total "),
            lost: read("mcpmeter_log_lost_total{"),
        })
    }

    /// finished + recovered = queued + outbox + stored + lost.
    pub(crate) const fn balance(&self) -> bool {
        self.finished + self.recovered == self.queued + self.outbox + self.stored + self.lost
    }
}

/// The whole of /metrics; a program that is killed in the middle of its answer has given none.
async fn read_metrics(admin: SocketAddr) -> io::Result<String> {
    let asking = async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        let whole = response.ends_with("# EOF\n");
        if whole { Ok::<_, io::Error>(response) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    timeout(PATIENCE, asking).await.map_err(io::Error::other)?
}

/// All samples whose name and labels begin so.
fn sum_of(metrics: &str, name: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
