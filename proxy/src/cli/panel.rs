//! The terminal of a running proxy: how to connect, each call on a line as it happens, and on a terminal one line below
//! them with the numbers. Runs on a thread of its own, so that a slow terminal slows nothing else; it ends with the
//! process and has nothing to lose.

use super::line::{self, Style};
use crate::{app::App, live::Live, pulse::Pulse};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mcpmeter_config::{Route, StoreUrl, Upstream};
use mcpmeter_observer::Status;
use serde_json::Value;
use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write, stderr, stdout},
    net::SocketAddr,
    thread,
    time::Duration,
};
use tokio::sync::broadcast::error::RecvError;

/// How often the numbers are looked at.
const REFRESH: Duration = Duration::from_millis(500);
/// Calls that the percentiles are of.
const OF_LATE: usize = 1_000;

/// The line with the numbers; nothing where there is no terminal.
#[derive(Clone)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new() -> Self {
        let bar = if stderr().is_terminal() {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4))
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(ProgressStyle::with_template("{msg}").expect("a template without a mistake"));
        Self(bar)
    }

    /// None: stderr is somebody else's.
    pub(crate) fn none() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Takes the line away for good.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// A writer of log lines that leave the bar where it is.
impl Write for Bar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}

/// How to use what has just been started.
pub(crate) fn greet(app: &App) -> io::Result<()> {
    let (proxy, admin, config) = (app.proxy_address()?, app.admin_address()?, app.config());
    let mut out = stderr().lock();
    writeln!(out, "mcpmeter {version}  (Ctrl-C to stop)\n", version = env!("CARGO_PKG_VERSION"))?;
    for route in &config.routes {
        let url = client_url(proxy, route, config.proxy.tls.is_some());
        let kind = if matches!(route.upstream, Upstream::Stdio(_)) { "stdio: " } else { "" };
        writeln!(out, "MCP endpoint   {url}  ->  {kind}{upstream}", upstream = route.upstream)?;
        writeln!(out, "Connect        claude mcp add --transport http {name} {url}", name = route.name)?;
    }
    let store = match &config.store.url {
        StoreUrl::Sqlite(file) => format!("{}", file.display()),
        StoreUrl::Postgres(_) => format!("PostgreSQL, by way of {}", config.store.outbox.display()),
    };
    writeln!(out, "Calls          are stored in {store}")?;
    let scheme = if config.admin.tls.is_some() { "https" } else { "http" };
    writeln!(out, "Metrics        {scheme}://{admin}/metrics\n")
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

/// Shows every call from now on.
pub(crate) fn follow(live: &Live, pulse: Pulse, bar: Bar) {
    let mut calls = live.watch();
    let style = Style::for_stream(&stdout());
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
        runtime.block_on(async {
            let mut numbers = Numbers::default();
            let mut refresh = tokio::time::interval(REFRESH);
            loop {
                let text = tokio::select! {
                    call = calls.recv() => match call {
                        Ok(json) => match serde_json::from_str::<Value>(&json) {
                            Ok(row) => {
                                numbers.count(&row);
                                line::render(&row, style)
                            }
                            Err(_) => continue,
                        },
                        Err(RecvError::Lagged(missed)) => {
                            format!("… {missed} calls not shown (terminal too slow)")
                        }
                        Err(RecvError::Closed) => return,
                    },
                    _ = refresh.tick() => {
                        let line = numbers.line(&pulse);
                        if line != bar.0.message() {
                            bar.0.set_message(line);
                        }
                        continue;
                    }
                };
                // Nobody reads any more; what is recorded is not the terminal's business.
                if bar.0.suspend(|| writeln!(stdout(), "{text}")).is_err() {
                    return;
                }
            }
        });
    });
}

/// What the calls come to.
#[derive(Default)]
struct Numbers {
    total: u64,
    failed: u64,
    durations: VecDeque<f64>,
}

impl Numbers {
    fn count(&mut self, row: &Value) {
        self.total += 1;
        let status = row["status"].as_str().and_then(|status| status.parse::<Status>().ok());
        self.failed += u64::from(status.is_some_and(Status::is_failure));
        if self.durations.len() == OF_LATE {
            self.durations.pop_front();
        }
        self.durations.push_back(row["duration_ms"].as_f64().unwrap_or_default());
    }

    fn line(&self, pulse: &Pulse) -> String {
        let (total, failed) = (self.total, self.failed);
        let mut line =
            format!("Calls          total {total}   err {failed}   in flight {}", pulse.in_flight());
        if let Some((p50, p95)) = self.percentiles() {
            let (p50, p95) = (line::human_duration(p50), line::human_duration(p95));
            line.push_str(&format!("   p50 {p50}   p95 {p95}"));
        }
        line.push_str(&format!("   lost {}", pulse.lost()));
        line
    }

    /// By nearest rank.
    fn percentiles(&self) -> Option<(f64, f64)> {
        let mut sorted: Vec<f64> = self.durations.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let rank =
            |of_hundred: usize| sorted.get((sorted.len() * of_hundred).div_ceil(100).max(1) - 1).copied();
        rank(50).zip(rank(95))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_numbers_are_those_of_the_calls() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.percentiles(), None);
        for number in 1..=100_u32 {
            let status = if number <= 5 { "tool_error" } else { "cancelled" };
            numbers.count(&json!({ "status": status, "duration_ms": f64::from(number) }));
        }
        assert_eq!((numbers.total, numbers.failed), (100, 5), "who cancels has not failed");
        assert_eq!(numbers.percentiles(), Some((50.0, 95.0)));
    }
}
