//! haproxy as one would put it before an MCP server: streaming at once, a line of its log per call. Its own configuration,
//! files and port.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{ContenderError, ROUTE, ROUTED_PATH, Running, ask_program};
use crate::connection::Target;
use crate::process::{Process, accepts_connections, find_free_port, tethered};

pub(super) fn read_version() -> Result<String, ContenderError> {
    find_program().map(|(_, version)| {
        let words: Vec<_> = version.split_whitespace().take(3).collect();
        words.join(" ")
    })
}

pub(super) fn start(upstream: SocketAddr, directory: &Path) -> Result<Running, ContenderError> {
    let (program, _) = find_program()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, find_free_port()?));
    let file = directory.join("haproxy.cfg");
    fs::write(&file, render_config(address, upstream))?;
    let mut command = tethered(&program)?;
    command.arg("-db").arg("-f").arg(file);
    // The log goes where its output goes: a file.
    let mut process = Process::start("haproxy", command, &directory.join("output"))?;
    process.wait_until(|| accepts_connections(address))?;
    process.ends_by_signal();
    let target = Target { address, path: ROUTED_PATH, credentials: String::new(), tls: None };
    Ok(Running { target, process: Some(process), books: None })
}

fn find_program() -> Result<(PathBuf, String), ContenderError> {
    ask_program(&["haproxy".into(), "/usr/sbin/haproxy".into()], "-v").ok_or_else(|| {
        ContenderError::Missing {
            program: "haproxy",
            advice: "run `scripts/setup-bench all`, or leave it out with --contenders".into(),
        }
    })
}

fn render_config(address: SocketAddr, upstream: SocketAddr) -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        r"global
    nbthread {threads}
    maxconn 8192
    log stdout format raw local0
defaults
    mode http
    log global
    option httplog
    # An event must leave at once.
    option http-no-delay
    http-reuse always
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend clients
    bind {address}
    http-request replace-path ^/{ROUTE}/(.*) /\1
    default_backend servers
backend servers
    server upstream {upstream} pool-max-conn 1024
"
    )
}
