//! mcpmeter: a transparent reverse proxy for MCP servers that keeps the books. ARCHITECTURE.md leads through it.

mod admin;
mod admission;
mod answer;
mod api_key;
mod app;
mod auth;
mod bodies;
mod cli;
mod client_ip;
mod clock;
mod connection;
mod departure;
mod envelope;
mod files;
mod forward;
mod gate;
mod headers;
mod held_bytes;
mod identity;
mod key_ring;
mod keyed_hash;
mod lag;
mod lifecycle;
mod limits;
mod listener;
mod live;
mod metrics;
mod occupancy;
mod outgoing;
mod patience;
mod permission;
mod pipe;
mod policy;
mod printable;
mod process_meter;
mod pulse;
mod quota;
mod reception;
mod redaction;
mod refusal;
mod refusals;
mod reload;
mod room;
mod route;
mod router;
mod running;
mod signal;
mod source;
mod stdio;
mod subjects;
mod tap;
mod tasks;
mod telemetry;
mod time_limit;
mod timed;
mod tls;
mod upstream;
mod worker;
mod workers;

use clap::Parser;
use std::process::ExitCode;

/// Records are made on one thread and freed on another, which costs the system's allocator its locks.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
