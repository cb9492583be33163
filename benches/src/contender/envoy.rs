//! Envoy as one would put it before an MCP server: streaming, access log to a file, no time limits. Its own
//! configuration, files and port.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{ContenderError, ROUTE, ROUTED_PATH, Running, ask_program};
use crate::connection::Target;
use crate::process::{Process, accepts_connections, find_free_port, tethered};

/// Where `scripts/setup-bench` puts it, seen from the bench's manifest.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.peers/envoy/bin/envoy");

pub(super) fn read_version() -> Result<String, ContenderError> {
    find_program().map(|(_, version)| name_version(&version))
}

/// `PATH  version: COMMIT/VERSION/Clean/RELEASE/BoringSSL`
fn name_version(told: &str) -> String {
    let version = told.rsplit_once("version: ").and_then(|(_, words)| words.split('/').nth(1));
    format!("Envoy {}", version.unwrap_or(told))
}

pub(super) fn start(upstream: SocketAddr, directory: &Path) -> Result<Running, ContenderError> {
    let (program, _) = find_program()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, find_free_port()?));
    let file = directory.join("envoy.json");
    fs::write(&file, render_config(address, upstream, directory))?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = tethered(&program)?;
    command.arg("-c").arg(file).args(["--disable-hot-restart", "--log-level", "warn", "--concurrency"]);
    command.arg(workers.to_string());
    let mut process = Process::start("Envoy", command, &directory.join("output"))?;
    process.wait_until(|| accepts_connections(address))?;
    let target = Target { address, path: ROUTED_PATH, credentials: String::new(), tls: None };
    Ok(Running { target, process: Some(process), books: None })
}

fn find_program() -> Result<(PathBuf, String), ContenderError> {
    ask_program(&["envoy".into(), INSTALLED.into()], "--version").ok_or_else(|| ContenderError::Missing {
        program: "Envoy",
        advice: "run `scripts/setup-bench all`, or leave it out with --contenders".into(),
    })
}

fn render_config(address: SocketAddr, upstream: SocketAddr, directory: &Path) -> String {
    let socket = |address: SocketAddr| serde_json::json!({"socket_address": {"address": address.ip(), "port_value": address.port()}});
    let kind = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    let route = serde_json::json!({
        "match": {"prefix": format!("/{ROUTE}/")},
        "route": {"cluster": "servers", "prefix_rewrite": "/", "timeout": "0s"},
    });
    let manager = serde_json::json!({
        "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "clients",
        "stream_idle_timeout": "0s",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": kind("filters.http.router.v3.Router")},
        }],
        "access_log": [{
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": kind("access_loggers.file.v3.FileAccessLog"),
                "path": directory.join("access.log"),
            },
        }],
    });
    let filter = serde_json::json!({
        "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
    });
    let endpoint = serde_json::json!({"endpoint": {"address": socket(upstream)}});
    let config = serde_json::json!({"static_resources": {
        "listeners": [{"address": socket(address), "filter_chains": [{"filters": [filter]}]}],
        "clusters": [{
            "name": "servers",
            "type": "STATIC",
            // Its default of 1,024 would refuse some of 3,000 streams.
            "circuit_breakers": {"thresholds": [{"max_connections": 8192, "max_requests": 8192, "max_pending_requests": 8192}]},
            "load_assignment": {"cluster_name": "servers", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }],
    }});
    config.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_behind_the_path_and_the_commit() {
        let told = "/opt/bin/envoy  version: 9e5580/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(name_version(told), "Envoy 1.40.0");
        assert_eq!(name_version("another"), "Envoy another");
    }
}
