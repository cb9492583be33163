//! nginx as one would put it before an MCP server: plain reverse proxy, streaming, access log on. Its own configuration,
//! files and port; an nginx that runs already is not touched.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ContenderError, ROUTE, ROUTED_PATH, Running, Tls, ask_program};
use crate::connection::Target;
use crate::process::{Process, accepts_connections, find_free_port, tethered};

pub(super) fn read_version() -> Result<String, ContenderError> {
    find_program().map(|(_, version)| version.trim_start_matches("nginx version: ").into())
}

pub(super) fn start(
    upstream: SocketAddr,
    directory: &Path,
    tls: Option<&Tls>,
) -> Result<Running, ContenderError> {
    let (program, _) = find_program()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, find_free_port()?));
    let file = directory.join("nginx.conf");
    fs::write(&file, render_config(address, upstream, directory, tls))?;
    let mut command = tethered(&program)?;
    // Without -e it first writes to the log of the installed one.
    command.arg("-p").arg(directory).arg("-c").arg(file).args(["-e", "stderr"]);
    let mut process = Process::start("nginx", command, &directory.join("output"))?;
    process.wait_until(|| accepts_connections(address))?;
    let target = Target {
        address,
        path: ROUTED_PATH,
        credentials: String::new(),
        tls: tls.map(|tls| Arc::clone(&tls.client)),
    };
    Ok(Running { target, process: Some(process), books: None })
}

fn find_program() -> Result<(PathBuf, String), ContenderError> {
    ask_program(&["nginx".into(), "/usr/sbin/nginx".into()], "-v").ok_or_else(|| ContenderError::Missing {
        program: "nginx",
        advice: "run scripts/setup-bench, or leave it out with --contenders".into(),
    })
}

/// Started by root, its workers would change to a user who may not write into our directory.
fn render_user() -> &'static str {
    if rustix::process::geteuid().is_root() { "user root root;" } else { "" }
}

fn render_config(address: SocketAddr, upstream: SocketAddr, directory: &Path, tls: Option<&Tls>) -> String {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (user, directory) = (render_user(), directory.display());
    let ssl = if tls.is_some() { " ssl" } else { "" };
    let certificate = tls.map_or_else(String::new, |Tls { cert_file, key_file, .. }| {
        let (cert_file, key_file) = (cert_file.display(), key_file.display());
        format!("ssl_certificate {cert_file}; ssl_certificate_key {key_file}; ssl_protocols TLSv1.2 TLSv1.3;")
    });
    format!(
        r#"{user}
daemon off;
worker_processes {workers};
worker_rlimit_nofile 16384;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{
    worker_connections 8192;
}}
http {{
    access_log {directory}/access.log combined;
    client_body_temp_path {directory}/client_body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    # The default of 1,000 would make every thousandth call pay for a new connection.
    keepalive_requests 1000000000;
    upstream {ROUTE} {{
        server {upstream};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address}{ssl};
        {certificate}
        location /{ROUTE}/ {{
            proxy_pass http://{ROUTE}/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            # An event must leave at once.
            proxy_buffering off;
            # Nor does a stream end because nothing happens on it.
            proxy_read_timeout 1h;
        }}
    }}
}}
"#
    )
}
