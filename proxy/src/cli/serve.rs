//! `mcpmeter serve`: the proxy itself.

use super::{ConfigArgs, Failure, line};
use crate::{
    app::{App, StartError},
    live::Live,
    reload::ConfigOrigin,
    telemetry,
};
use clap::Args;
use mcpmeter_config::{Route, StoreUrl};
use std::{
    io::{IsTerminal, Write, stderr, stdout},
    net::SocketAddr,
    thread,
};
use tokio::sync::broadcast::error::RecvError;

/// Runs the proxy until SIGTERM or Ctrl-C. SIGHUP or a changed file reloads the configuration.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where MCP clients connect [overrides proxy.listen]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where dashboard, metrics and probes are served [overrides admin.listen]
    #[arg(long, value_name = "IP:PORT")]
    admin_listen: Option<String>,
    /// Also print each call to stdout, as `mcpmeter tail` does
    #[arg(long)]
    tail: bool,
}

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let origin = self.origin();
        let config = origin.load().map_err(|problems| Failure::config(&problems, false))?;
        telemetry::start(&config.log);
        let app = App::build(config, origin).map_err(|error| start_failure(&error))?;
        if self.tail || stderr().is_terminal() {
            greet(&app).map_err(|error| Failure::failed("", &error))?;
        }
        if self.tail {
            print_calls(&app.live());
        }
        app.run().map_err(|error| start_failure(&error))
    }

    fn origin(&self) -> ConfigOrigin {
        let mut origin = self.config.origin();
        let flags = [
            ("--listen", "proxy.listen", &self.listen),
            ("--admin-listen", "admin.listen", &self.admin_listen),
        ];
        let given = |(name, key, value): (_, _, &Option<String>)| Some((name, key, value.clone()?));
        origin.flags = flags.into_iter().filter_map(given).collect();
        origin
    }
}

fn start_failure(error: &StartError) -> Failure {
    Failure::failed("", error)
}

/// How to use what has just been started.
fn greet(app: &App) -> std::io::Result<()> {
    let (proxy, admin, config) = (app.proxy_address()?, app.admin_address()?, app.config());
    let mut out = stderr().lock();
    writeln!(out, "mcpmeter {version}  (Ctrl-C to stop)\n", version = env!("CARGO_PKG_VERSION"))?;
    for route in &config.routes {
        let url = client_url(proxy, route, config.proxy.tls.is_some());
        writeln!(out, "MCP endpoint   {url}  ->  {upstream}", upstream = route.upstream)?;
        writeln!(out, "Connect        claude mcp add --transport http {name} {url}", name = route.name)?;
    }
    let store = match &config.store.url {
        StoreUrl::Sqlite(file) => format!("{}", file.display()),
        StoreUrl::Postgres(_) => format!("PostgreSQL, by way of {}", config.store.outbox.display()),
    };
    writeln!(out, "Calls          are stored in {store}")?;
    writeln!(out, "Metrics        http://{admin}/metrics\n")
}

/// The URL to give to a client. The path behind the prefix is the server's own; most serve `/mcp`.
fn client_url(proxy: SocketAddr, route: &Route, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let host =
        if proxy.ip().is_unspecified() { format!("127.0.0.1:{}", proxy.port()) } else { proxy.to_string() };
    match &route.host {
        Some(name) => format!("{scheme}://{name}:{port}/mcp", port = proxy.port()),
        None => format!("{scheme}://{host}/{name}/mcp", name = route.name),
    }
}

/// Prints every call on a thread of its own, so that a slow terminal slows nothing else. The thread ends with
/// the process, and has nothing to lose.
fn print_calls(live: &Live) {
    let mut calls = live.watch();
    let style = line::Style::for_stream(&stdout());
    thread::spawn(move || {
        loop {
            match calls.blocking_recv() {
                Ok(json) => match serde_json::from_str(&json) {
                    Ok(row) => println!("{}", line::render(&row, style)),
                    Err(_) => continue,
                },
                Err(RecvError::Lagged(missed)) => println!("… {missed} calls not shown (terminal too slow)"),
                Err(RecvError::Closed) => return,
            }
        }
    });
}
