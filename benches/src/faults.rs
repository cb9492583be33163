//! `mcpmeter-bench faults`: what a dead PostgreSQL and a disk that hangs cost a call. One mcpmeter, one load, and in each
//! round every state in turn, so that what else the machine does falls on all alike. Takes latency and memory; checks that
//! every call was answered.

mod volume;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use self::volume::Volume;
use crate::connection::Target;
use crate::load::{Ids, apply_load};
use crate::postgres::{Cluster, Stop};
use crate::process::{Process, answers_ok, find_free_port, tethered};
use crate::run::start_upstream;
use crate::stats::{Spread, percentile};
use crate::workload::Workload;

/// Load before each window, in the state of that window.
const WARM_UP: Duration = Duration::from_millis(500);

/// What is broken while a window lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Healthy,
    PostgresStopped,
    DiskStalled,
}

impl State {
    const ALL: [Self; 3] = [Self::Healthy, Self::PostgresStopped, Self::DiskStalled];

    const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::PostgresStopped => "PostgreSQL stopped",
            Self::DiskStalled => "disk stalled",
        }
    }
}

/// One window.
struct Window {
    state: State,
    p50_us: f64,
    p99_us: f64,
    rss_mib: f64,
}

/// Measures and prints the table. Must run inside a `LocalSet`.
pub(crate) async fn measure(workload: &Workload, rounds: usize, window: Duration) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let volume = Volume::mount(directory.path())?;
    let states = if volume.is_some() { &State::ALL[..] } else { &State::ALL[..2] };
    if volume.is_none() {
        eprintln!("no stalled disk: only root may mount and freeze a volume");
    }
    let cluster = Cluster::new();
    let (_upstream, upstream) = start_upstream(directory.path())?;
    let data = volume.as_ref().map_or(directory.path(), |volume| &volume.mounted);
    let (process, target) = start_mcpmeter(upstream, &cluster.database(), directory.path(), data)?;
    let (ids, mut windows) = (Rc::<Ids>::default(), Vec::new());
    for round in 0..rounds {
        for place in 0..states.len() {
            let state = states[(round + place) % states.len()];
            set(state, true, &cluster, volume.as_ref())?;
            for duration in [WARM_UP, window] {
                let mut load = apply_load(&target, workload, &ids, duration).await?;
                if let Some(failure) = load.failures.first() {
                    bail!("{}: {} calls failed: {failure}", state.name(), load.failures.len());
                }
                load.latencies_ns.sort_unstable();
                let at = |share| percentile(&load.latencies_ns, share).context("no call was answered");
                let micros = |nanoseconds: u64| nanoseconds as f64 / 1e3;
                if duration == window {
                    let (p50_us, p99_us) = (micros(at(0.5)?), micros(at(0.99)?));
                    windows.push(Window { state, p50_us, p99_us, rss_mib: read_rss_mib(process.id())? });
                }
            }
            set(state, false, &cluster, volume.as_ref())?;
        }
        eprintln!("round {}/{rounds}", round + 1);
    }
    process.stop()?;
    print_table(workload, states, &windows);
    Ok(())
}

fn set(state: State, broken: bool, cluster: &Cluster, volume: Option<&Volume>) -> anyhow::Result<()> {
    match (state, broken) {
        (State::Healthy, _) => {}
        (State::PostgresStopped, true) => cluster.stop(Stop::Immediate),
        (State::PostgresStopped, false) => cluster.start(),
        (State::DiskStalled, broken) => volume.context("there is a volume")?.freeze(broken)?,
    }
    Ok(())
}

fn start_mcpmeter(
    upstream: SocketAddr,
    url: &str,
    directory: &Path,
    data: &Path,
) -> anyhow::Result<(Process, Target)> {
    let program = std::env::current_exe()?.with_file_name("mcpmeter");
    ensure!(program.exists(), "build mcpmeter into {}", program.display());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, find_free_port()?));
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, find_free_port()?));
    let (file, outbox) = (directory.join("mcpmeter.toml"), data.join("outbox.db"));
    fs::write(
        &file,
        format!(
            "[proxy]\nlisten = \"{address}\"\n[admin]\nlisten = \"{admin}\"\n[log]\nlevel = \"warn\"\n\
             [store]\nurl = \"{url}\"\noutbox = \"{}\"\n\
             [[route]]\nname = \"bench\"\nupstream = \"http://{upstream}\"\n",
            outbox.display()
        ),
    )?;
    let mut command = tethered(&program)?;
    command.arg("serve").arg("-c").arg(file).current_dir(directory).env_remove("DATABASE_URL");
    let mut process = Process::start("mcpmeter", command, &directory.join("output"))?;
    process.wait_until(|| answers_ok(admin, "/readyz"))?;
    Ok((process, Target { address, path: "/bench/mcp", credentials: String::new(), tls: None }))
}

fn read_rss_mib(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn print_table(workload: &Workload, states: &[State], windows: &[Window]) {
    println!("{} ({}): median over the rounds (least to most)\n", workload.name, workload.about);
    println!("| state | p50, µs | p99, µs | RSS, MiB |\n|---|--:|--:|--:|");
    for state in states {
        let of = |figure: fn(&Window) -> f64| {
            let figures = windows.iter().filter(|window| window.state == *state).map(figure);
            let Spread { min, median, max } = Spread::of(figures).expect("every state had its windows");
            format!("{median:.0} ({min:.0} to {max:.0})")
        };
        let (p50, p99, rss) = (of(|w| w.p50_us), of(|w| w.p99_us), of(|w| w.rss_mib));
        println!("| {} | {p50} | {p99} | {rss} |", state.name());
    }
}
