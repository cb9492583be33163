//! rmcp's server and client of the tests as a program, for `scripts/record-transcripts`:
//!
//!   cargo run -p mcpmeter --example rmcp_peer -- server [--json]      prints {"port":N}, ends when its stdin closes
//!   cargo run -p mcpmeter --example rmcp_peer -- client URL initialize|discover
//!
//! Never part of what is shipped.

#![expect(clippy::large_futures, reason = "it makes one conversation, and rmcp's futures are what they are")]

#[path = "../tests/support/rmcp_client.rs"]
mod rmcp_client;
#[path = "../tests/support/rmcp_server.rs"]
mod rmcp_server;

use rmcp_client::Era;
use rmcp_server::{RmcpServer, RmcpServerOptions};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["server"] => serve(RmcpServerOptions::default()).await,
        ["server", "--json"] => serve(RmcpServerOptions { json_response: true, sessions: false }).await,
        ["client", url, "initialize"] => converse(url, Era::Initialize).await,
        ["client", url, "discover"] => converse(url, Era::Discover).await,
        ["client", url, "auto"] => converse(url, Era::Auto).await,
        _ => {
            eprintln!("usage: rmcp_peer server [--json] | client URL initialize|discover|auto");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

async fn serve(options: RmcpServerOptions) {
    let server = RmcpServer::start(options).await;
    println!("{{\"port\":{}}}", server.address().port());
    let wait = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let closed = tokio::task::spawn_blocking(wait).await.expect("reading does not panic");
    closed.expect("stdin can be read");
    server.stop().await;
}

async fn converse(url: &str, era: Era) {
    let seen = rmcp_client::converse(url, era, "fixture", &[("user-agent", "rmcp-peer/1.0.0")]).await;
    println!("{}", serde_json::json!({ "protocol": seen.protocol, "calls": seen.calls }));
}
