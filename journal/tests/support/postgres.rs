//! A real PostgreSQL for tests: a cluster of its own in a temporary directory, with a database per test.
//!
//! Include it with `#[path = "…/journal/tests/support/postgres.rs"] mod postgres;`. It needs PostgreSQL's server
//! programs (`initdb`, `pg_ctl`, `psql`) on the PATH or below `/usr/lib/postgresql`, and nothing but the
//! standard library. PostgreSQL refuses to run as root; then it runs as `postgres` or `nobody`.
//!
//! Nothing is left behind: a small shell process waits for the end of its standard input, which the system
//! closes however the tests end, then stops the server and removes the directory. [`Cluster::shared`] is one
//! cluster for all tests that run at the same time; a test that stops the server makes its own.

use std::{
    fmt::Debug,
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

/// A running cluster; stopped and removed when dropped.
pub(crate) struct Cluster {
    programs: PathBuf,
    base: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    watchdog: Child,
}

/// How [`Cluster::stop`] stops the server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    /// Connections are closed, everything is written.
    Fast,
    /// As in a crash: the next start recovers.
    Immediate,
}

/// Distinguishes clusters and databases of one test binary.
static NUMBER: AtomicU32 = AtomicU32::new(0);
static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

impl Cluster {
    /// The cluster that all tests share which do not stop it.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(|error| error.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::new());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// Makes and starts a cluster.
    pub(crate) fn new() -> Self {
        let programs = find_programs();
        let user = unprivileged_user();
        let name = format!("mcpmeter-pg-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let base = std::env::temp_dir().join(name);
        fs::create_dir(&base).expect("the temporary directory can be written");
        fs::set_permissions(&base, Permissions::from_mode(0o700)).expect("it is ours");
        if let Some((uid, gid)) = user {
            chown(&base, Some(uid), Some(gid)).expect("root may give it away");
        }
        let watchdog = watch(&programs, &base, user);
        let mut cluster = Self { programs, base, user, port: 0, watchdog };
        cluster.run(
            "initdb",
            &["-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        );
        // Somebody may take a free port before the server does.
        for _ in 0..5 {
            cluster.port = free_port();
            if cluster.try_start().status.success() {
                return cluster;
            }
        }
        panic!("PostgreSQL does not start: {}", cluster.log());
    }

    /// The URL of a new, empty database.
    pub(crate) fn database(&self) -> String {
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("create database {name}"));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// What psql prints for the statements, in the database of a URL that [`Cluster::database`] gave: columns
    /// separated by `|`, no header.
    pub(crate) fn query(&self, url: &str, sql: &str) -> String {
        self.psql(url.rsplit('/').next().expect("it ends with the database"), sql)
    }

    /// Stops the server.
    pub(crate) fn stop(&self, how: Stop) {
        let mode = format!("{how:?}").to_lowercase();
        self.run("pg_ctl", &["-D", "data", "-w", "-m", &mode, "stop"]);
    }

    /// Starts a stopped server, on the same port.
    pub(crate) fn start(&self) {
        let output = self.try_start();
        assert!(output.status.success(), "PostgreSQL does not start: {}", self.log());
    }

    fn try_start(&self) -> Output {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c shared_buffers=32MB \
             -c dynamic_shared_memory_type=mmap",
            self.port,
            self.base.display()
        );
        self.command("pg_ctl", &["-D", "data", "-w", "-t", "60", "-l", "log", "-o", &options, "start"])
    }

    fn psql(&self, database: &str, sql: &str) -> String {
        let (port, host) = (self.port.to_string(), self.base.display().to_string());
        let arguments = [
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            &host,
            "-p",
            &port,
            "-U",
            "postgres",
            "-d",
        ];
        let output = self.run("psql", &[&arguments[..], &[database, "-c", sql]].concat());
        String::from_utf8(output.stdout).expect("psql prints UTF-8").trim_end().to_owned()
    }

    /// Runs one of PostgreSQL's programs; it has to succeed.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = self.command(program, arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} failed: {told}");
        output
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = unprivileged(&self.programs.join(program), &self.base, self.user);
        // The server inherits what pg_ctl has; a pipe would never end.
        if program == "pg_ctl" {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        command.args(arguments).output().expect("the program can be run")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.base.join("log")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// Starts the process that cleans up when its standard input ends, and not before: it is out of reach of the
/// terminal's interrupt.
fn watch(programs: &Path, base: &Path, user: Option<(u32, u32)>) -> Child {
    let script = r#"read -r _; "$0/pg_ctl" -D "$1/data" -m immediate stop; cd /; rm -rf "$1""#;
    let mut command = unprivileged(Path::new("sh"), base, user);
    command.args(["-c", script]).arg(programs).arg(base).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("a shell can be run")
}

fn unprivileged(program: &Path, base: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(base).stdin(Stdio::null()).env("LC_ALL", "C");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// Whom to be instead of root; `None` if we are not root.
pub(crate) fn unprivileged_user() -> Option<(u32, u32)> {
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let fields: Vec<_> =
            users.lines().find(|line| line.starts_with(&format!("{name}:")))?.split(':').collect();
        Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
    };
    root.then(|| find("postgres").or_else(|| find("nobody")).expect("there is a user besides root"))
}

/// The directory of the server's programs: from the PATH, or the newest below /usr/lib/postgresql.
fn find_programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    std::env::split_paths(&path)
        .chain(versions.into_iter().rev())
        .find(|directory| ["initdb", "pg_ctl", "psql"].iter().all(|program| directory.join(program).exists()))
        .expect("PostgreSQL's server programs (initdb, pg_ctl, psql) are installed")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}
