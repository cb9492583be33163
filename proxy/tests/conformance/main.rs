//! The official conformance suite (npm's `@modelcontextprotocol/conformance`, pinned in `peers/package.json`), held
//! twice: with a server or client directly, and with the program in between. What the suite says of each check has to
//! be the same; whether that is good or bad is the SDK's business, and how much of it is good is counted below, so that
//! a suite in which nothing works does not pass for agreement.
//!
//! `make conformance` runs this alone and prints the counts. Never edits a verdict: there is no list of exceptions.

mod in_between;
#[path = "../support/peer.rs"]
#[expect(dead_code, reason = "clients are started by the suite here")]
mod peer;
mod suite;
mod verdicts;

use in_between::{InBetween, lossy_relay};
use peer::PeerServer;
use suite::Suite;
use verdicts::Verdicts;

const SESSIONS: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/mcp")
}

/// A server of `peers/`, judged directly and through the program. At least so many checks succeed.
async fn judge_server(script: &str, revision: &str, least: usize) {
    let server = PeerServer::start(script, &[]);
    let direct = Suite::new(revision).judge_server(&url(server.port)).await;
    let program = InBetween::start(server.port);
    let proxied = Suite::new(revision).judge_server(&program.url("/peer/mcp")).await;
    println!("{script} at {revision}: {} directly, {} proxied", direct.counts(), proxied.counts());
    assert_eq!(proxied.differences(&direct), [""; 0], "{script} at {revision}");
    assert!(direct.succeeded() >= least, "{script} at {revision}: {}", direct.counts());
    program.assert_calls_are_recorded();
}

/// The client of the TypeScript SDKs, judged directly and through a program for each scenario.
async fn judge_client(revision: &str, least: usize) {
    let direct = Suite::new(revision).judge_client(&[]).await;
    let proxied = Suite::new(revision).judge_client(&[("MCPMETER", env!("CARGO_BIN_EXE_mcpmeter"))]).await;
    println!("client at {revision}: {} directly, {} proxied", direct.counts(), proxied.counts());
    assert_eq!(proxied.differences(&direct), [""; 0], "client at {revision}");
    assert!(direct.succeeded() >= least, "client at {revision}: {}", direct.counts());
}

#[tokio::test]
async fn the_typescript_server_1_at_2025_11_25() {
    judge_server("conformance_ts1.mjs", SESSIONS, 84).await;
}

#[tokio::test]
async fn the_typescript_server_2_at_2026_07_28() {
    judge_server("conformance_ts2.mjs", MODERN, 150).await;
}

#[tokio::test]
async fn the_python_server_at_2025_11_25() {
    judge_server("conformance_py.py", SESSIONS, 84).await;
}

#[tokio::test]
async fn the_python_server_at_2026_07_28() {
    judge_server("conformance_py.py", MODERN, 150).await;
}

#[tokio::test]
async fn the_typescript_client_at_2025_11_25() {
    judge_client(SESSIONS, 150).await;
}

#[tokio::test]
async fn the_typescript_client_at_2026_07_28() {
    judge_client(MODERN, 200).await;
}

#[tokio::test]
async fn a_proxy_that_loses_a_header_is_found_out() {
    let server = PeerServer::start("conformance_py.py", &[]);
    let direct = Suite::new(MODERN).judge_server(&url(server.port)).await;
    let relay = lossy_relay(server.port, "Mcp-Param-Region");
    let proxied: Verdicts = Suite::new(MODERN).judge_server(&url(relay.port)).await;
    let differences = proxied.differences(&direct);
    assert!(!differences.is_empty(), "nobody missed a header");
    assert!(differences.iter().all(|one| one.contains("sep-2243")), "{differences:#?}");
}
