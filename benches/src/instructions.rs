//! How many instructions mcpmeter spends on a call outside the kernel, counted by valgrind's callgrind: a figure that does
//! not depend on what else the machine does. Compared with the figures that were committed last, so that a change that
//! makes calls dearer is seen on any machine.
//!
//! Each exchange is made by one client over one connection, in two runs of different length; what the longer one has more
//! is its further calls'. Threads are counted apart: the worker's is the way of a call, the others keep the books.

mod counted;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::connection::{Connection, Prepared, Target};
use crate::exchange::Exchange;
use crate::process::{Process, answers_ok, find_free_port, tethered};
use crate::run::start_upstream;
use crate::template::CallId;

use counted::{Counted, Thread};

/// The figures that were committed last, beside this crate's manifest.
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");
/// More than this above the committed figure is a regression.
const TOLERANCE: f64 = 0.03;

struct Scenario {
    name: &'static str,
    exchange: Exchange,
    /// Calls of the shorter run; the longer one has five times as many.
    calls: u64,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "small", exchange: Exchange::Small, calls: 300 },
    Scenario { name: "list", exchange: Exchange::List, calls: 100 },
    Scenario { name: "big", exchange: Exchange::Big, calls: 5 },
    Scenario { name: "sse", exchange: Exchange::Events, calls: 30 },
];

/// Counts, prints the figures beside the committed ones, and says whether none has grown too much. `write` commits them
/// instead.
pub(crate) async fn measure(write: bool) -> anyhow::Result<bool> {
    let committed = read_committed()?;
    let (mut counted, mut fits) = (BTreeMap::new(), true);
    println!("instructions per call: the worker, then everything; allocations of the worker");
    for scenario in &SCENARIOS {
        let now = count(scenario).await.with_context(|| format!("cannot count {}", scenario.name))?;
        let growth = committed.get(scenario.name).map(|before: &Counted| now.growth_since(before));
        let beside =
            growth.map_or("nothing to compare with".into(), |growth| format!("{:+.1} %", growth * 100.0));
        let Counted { worker, all, allocations } = now;
        println!("{:6} {worker:9} {all:9} {allocations:5}  {beside}", scenario.name);
        fits &= growth.is_none_or(|growth| growth <= TOLERANCE);
        counted.insert(scenario.name, now);
    }
    if write {
        fs::write(COMMITTED, serde_json::to_string_pretty(&counted)? + "\n").context(COMMITTED)?;
    } else if !fits {
        println!(
            "a call costs its worker more than it did: find out why, or commit the new figures with --write"
        );
    }
    Ok(write || fits)
}

fn read_committed() -> anyhow::Result<BTreeMap<String, Counted>> {
    match fs::read(COMMITTED) {
        Ok(text) => serde_json::from_slice(&text).context(COMMITTED),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).context(COMMITTED),
    }
}

async fn count(scenario: &Scenario) -> anyhow::Result<Counted> {
    let short = run(scenario.exchange, scenario.calls).await?;
    let long = run(scenario.exchange, scenario.calls * 5).await?;
    Ok(Counted::between(&short, &long, scenario.calls * 4))
}

/// The instructions of each thread over a whole life with so many calls.
async fn run(exchange: Exchange, calls: u64) -> anyhow::Result<Vec<Thread>> {
    let directory = tempfile::tempdir()?;
    let (_upstream, upstream) = start_upstream(directory.path())?;
    let (process, target) = start(upstream, directory.path())?;
    let prepared = Prepared::new(exchange);
    let mut connection = Connection::open(&target, CallId::nth(0)).await?;
    for call in 1..=calls {
        connection.call(&prepared, CallId::nth(call)).await.with_context(|| format!("call {call}"))?;
    }
    drop(connection);
    process.stop()?;
    counted::read_threads(directory.path())
}

fn start(upstream: SocketAddr, directory: &Path) -> anyhow::Result<(Process, Target)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, find_free_port()?));
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, find_free_port()?));
    let books = directory.join("bench.db");
    let config = format!(
        "[proxy]\nlisten = \"{address}\"\nworkers = 1\n[admin]\nlisten = \"{admin}\"\n[store]\nurl = \"sqlite:{}\"\n\
         [log]\nlevel = \"warn\"\n[[route]]\nname = \"bench\"\nupstream = \"http://{upstream}\"\n",
        books.display()
    );
    fs::write(directory.join("mcpmeter.toml"), config)?;
    let mut command = tethered(&find_valgrind()?)?;
    command
        .args(["--tool=callgrind", "--separate-threads=yes", "--callgrind-out-file=counted"])
        .arg(std::env::current_exe()?.with_file_name("mcpmeter"))
        .args(["serve", "-c", "mcpmeter.toml"])
        .current_dir(directory);
    let mut process = Process::start("mcpmeter under valgrind", command, &directory.join("output"))?;
    process.wait_until(|| answers_ok(admin, "/readyz"))?;
    Ok((process, Target { address, path: "/bench/mcp", credentials: String::new(), tls: None }))
}

fn find_valgrind() -> anyhow::Result<PathBuf> {
    let path = PathBuf::from("/usr/bin/valgrind");
    let version = Command::new(&path).arg("--version").output();
    let found = version.is_ok_and(|output| output.status.success());
    ensure!(found, "valgrind is missing: run `scripts/setup-bench all`");
    Ok(path)
}
