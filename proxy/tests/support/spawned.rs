//! A command of the program under test that runs beside the test: what it has printed so far, and how it
//! ended.

use crate::support::{Mcpmeter, PATIENCE, program};
use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A running command; killed when dropped.
pub(crate) struct Spawned {
    child: Child,
    /// What it has printed to stdout.
    pub(crate) stdout: Lines,
    /// What it has printed to stderr.
    pub(crate) stderr: Lines,
    readers: Vec<JoinHandle<()>>,
}

/// The lines of one of its streams.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Those that are there.
    pub(crate) fn now(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }

    fn read(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let kept = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                kept.0.lock().expect("not poisoned").push(line);
            }
        })
    }
}

impl Spawned {
    /// Runs `mcpmeter ARGUMENTS` in a folder.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_with(folder, arguments, &[])
    }

    /// The same with variables of the environment.
    pub(crate) fn start_with(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = program()
            .args(arguments)
            .current_dir(folder)
            // Killed programs leave their queue behind: it goes with the folder.
            .env("MCPMETER_STORE__QUEUE_DIRECTORY", folder)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers = vec![
            stdout.read(child.stdout.take().expect("piped")),
            stderr.read(child.stderr.take().expect("piped")),
        ];
        Self { child, stdout, stderr, readers }
    }

    /// The first line on stderr that contains the words; waits for it.
    pub(crate) fn wait_for_stderr(&mut self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.stderr.now().into_iter().find(|line| line.contains(words)) {
                return line;
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "no \"{words}\" in {:#?}",
                self.stderr.now()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end; gives the exit code. All it has printed is there afterwards.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "it does not end: {:#?}", self.stderr.now()),
            }
            thread::sleep(Duration::from_millis(5));
        };
        self.readers.drain(..).for_each(|reader| reader.join().expect("it only reads"));
        status.code()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that has ended: exit code, stdout, stderr.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut spawned = Spawned::start(folder, arguments);
    let code = spawned.wait();
    (code, spawned.stdout.now().join("\n"), spawned.stderr.now().join("\n"))
}

/// Waits for the end of a proxy that has been told to stop, without keeping the test's own tasks from
/// running. It has to end well; gives its folder.
pub(crate) async fn ended(proxy: Mcpmeter) -> TempDir {
    let waiting = tokio::task::spawn_blocking(move || proxy.wait());
    let (status, folder) = waiting.await.expect("it only waits");
    assert_eq!(status.code(), Some(0));
    folder
}
