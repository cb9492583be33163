//! What may stand between the suite and a server: the program, and, to show that the comparison sees something, a relay
//! that loses a header.

use crate::peer::PeerServer;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// The program with one route. Killed when dropped.
pub(crate) struct InBetween {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcpmeter"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MCPMETER_")) {
        command.env_remove(name);
    }
    command.env_remove("DATABASE_URL").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

impl InBetween {
    /// Starts the program in front of a server, and waits until it listens.
    pub(crate) fn start(server: u16) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = format!(
            "[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n\
             [[route]]\nname = \"peer\"\nupstream = \"http://127.0.0.1:{server}\"\n"
        );
        fs::write(folder.path().join("mcpmeter.toml"), config).expect("a configuration");
        let mut child = program()
            .args(["serve", "-c", "mcpmeter.toml"])
            .current_dir(folder.path())
            .env("MCPMETER_STORE__QUEUE_DIRECTORY", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let address = log.find_map(|line| {
            serde_json::from_str::<Value>(&line).ok()?["proxy.address"].as_str()?.parse().ok()
        });
        // Nobody reads on: the pipe must not fill up, so it is kept open by a thread that does.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, folder, address: address.expect("it listens") }
    }

    /// The URL of a path behind the program.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Ends it in an orderly way: it has recorded calls, and blames none of their failures on a server that was there.
    pub(crate) fn assert_calls_are_recorded(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(told.expect("kill runs").success());
        assert!(self.child.wait().expect("a child").success());
        let arguments = ["calls", "-c", "mcpmeter.toml", "--json", "--limit", "100000"];
        let output = program().args(arguments).current_dir(self.folder.path()).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let rows: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
        assert!(rows.len() > 15, "{} rows; {}", rows.len(), String::from_utf8_lossy(&output.stderr));
        for row in rows {
            let (status, method) = (row["status"].as_str(), row["method"].as_str());
            assert!(matches!(method, Some("tools/list" | "tools/call")), "{row:#}");
            assert!(!matches!(status, None | Some("upstream_error" | "timeout" | "limited")), "{row:#}");
        }
    }
}

impl Drop for InBetween {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A relay to a server that forwards every header but this one.
pub(crate) fn lossy_relay(server: u16, header: &str) -> PeerServer {
    PeerServer::start("lossy_relay.mjs", &[&server.to_string(), header])
}
