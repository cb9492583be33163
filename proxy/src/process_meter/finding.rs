//! Which processes of this machine are a server that speaks HTTP: by its pid file, by its name, or by the port it listens
//! on. Slow; for the sampler alone.

use mcpmeter_config::{HttpUpstream, ProcessHint};
use std::{fs, net::IpAddr, path::Path};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// How a server's processes are found. `None` if it is not on this machine, as far as anybody has said.
pub(super) fn way_to(upstream: &HttpUpstream, hint: Option<&ProcessHint>) -> Option<ProcessHint> {
    let is_here = upstream.host.eq_ignore_ascii_case("localhost")
        || upstream.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    hint.cloned().or_else(|| is_here.then_some(ProcessHint::Port(upstream.port)))
}

/// Its processes at this moment, without their children.
pub(super) fn find(way: &ProcessHint) -> Vec<i32> {
    match way {
        ProcessHint::PidFile(file) => read_pid(file).into_iter().collect(),
        ProcessHint::Name(name) => named(name),
        ProcessHint::Port(port) => listening_on(*port),
    }
}

fn read_pid(file: &Path) -> Option<i32> {
    let pid = fs::read_to_string(file).ok()?.split_whitespace().next()?.parse().ok()?;
    Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}

fn named(name: &str) -> Vec<i32> {
    let Ok(mut system) = System::new() else { return Vec::new() };
    let what = ProcessRefreshKind::nothing().with_exe(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    let is_one = |process: &sysinfo::Process| {
        process.thread_kind().is_none()
            && (process.name() == name
                || process.exe().and_then(Path::file_name).is_some_and(|file| file == name))
    };
    let pids = system.processes().iter().filter(|(_, process)| is_one(process));
    pids.map(|(pid, _)| pid.as_u32().cast_signed()).collect()
}

fn listening_on(port: u16) -> Vec<i32> {
    let all = listeners::get_all().unwrap_or_default();
    let on_port = all.iter().filter(|listener| {
        listener.protocol == listeners::Protocol::TCP
            && listener.state == listeners::SocketState::Listen
            && listener.socket.port() == port
    });
    let mut pids: Vec<_> = on_port.map(|listener| listener.process.pid.cast_signed()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_found_by_port_by_name_and_by_pid_file() {
        let own = std::process::id().cast_signed();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        assert_eq!(find(&ProcessHint::Port(port)), [own]);
        let name = std::env::current_exe().expect("a path").file_name().map(|name| name.to_owned());
        let name = name.expect("a name").into_string().expect("text");
        assert!(find(&ProcessHint::Name(name)).contains(&own));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pid");
        fs::write(&file, format!("{own}\n")).expect("a file");
        assert_eq!(find(&ProcessHint::PidFile(file.clone())), [own]);
        fs::write(&file, "2147483647").expect("a file");
        assert!(find(&ProcessHint::PidFile(file)).is_empty());
    }

    #[test]
    fn a_server_elsewhere_is_not_looked_for() {
        let way = |url: &str| way_to(&url.parse().expect("a URL"), None);
        assert_eq!(way("http://127.0.0.1:3001"), Some(ProcessHint::Port(3001)));
        assert_eq!(way("https://localhost/mcp"), Some(ProcessHint::Port(443)));
        assert_eq!(way("http://[::1]:9"), Some(ProcessHint::Port(9)));
        assert_eq!(way("http://example.com:3001"), None);
    }
}
