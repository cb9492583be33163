//! Clients that find out which revisions a server speaks: through the proxy they come to the same result as without it,
//! and a server that is not there never looks like an old one.

use crate::support::{
    Mcpmeter,
    conversation::{Client, hold_twice, on_route, route},
    peer::{self, PeerServer},
    rmcp_client::Era,
    wire_tap::WireTap,
};

/// A client in `peers/`, and its mode.
struct Script(&'static str, &'static str);

/// Every client that probes, in the mode in which it does; rmcp's is not a script.
const PROBING_SCRIPTS: [Script; 3] = [
    Script("ts_client.mjs", "auto"),
    Script("py_client.py", "auto"),
    Script("fastmcp_client.py", "streamable"),
];

/// All of them come to this result, and their calls are rows of it.
async fn all_agree_on(revision: &str, server: &str, options: &[&str]) {
    let server = PeerServer::start(server, options);
    let scripts = PROBING_SCRIPTS.map(|Script(script, mode)| Client::Script {
        script,
        mode,
        conversation: "fixture",
        arguments: &[],
    });
    for client in scripts.into_iter().chain([Client::Rmcp(Era::Auto, &[])]) {
        let held = hold_twice(server.port, "/mcp", client).await;
        assert_eq!(held.protocol(), revision, "{client:?}");
        assert_eq!(held.rows.len(), 6, "{client:?}");
        for row in &held.rows {
            assert_eq!(row["protocol_version"], revision, "{client:?}: {row:#}");
            assert_eq!(row["mcp_server_instance_id"], on_route().mcp_server_instance_id, "{row:#}");
        }
        held.assert_bytes_on_the_wire();
    }
}

#[tokio::test]
async fn a_server_of_the_old_era() {
    all_agree_on("2025-11-25", "py1_server.py", &[]).await;
}

#[tokio::test]
async fn a_server_of_the_new_era() {
    all_agree_on("2026-07-28", "ts_server.mjs", &["--modern-only"]).await;
}

#[tokio::test]
async fn a_server_of_both_eras() {
    all_agree_on("2026-07-28", "py_server.py", &[]).await;
}

/// The proxy's 502 is no answer of the server's, and nobody concludes from it that the server is old: what comes is
/// failure, and the newest revision again once the server is back. (The Python SDK does try `initialize` after any
/// failed probe, and gives up when that fails, too.)
#[tokio::test]
async fn a_server_that_is_not_there_is_not_taken_for_an_old_one() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.expect("a free port").port();
    let proxy = Mcpmeter::start(&route(port));
    let tap = WireTap::start(proxy.proxy.port()).await;
    let url = format!("http://127.0.0.1:{}/peer/mcp", tap.port);
    for Script(script, mode) in PROBING_SCRIPTS {
        let (as_expected, steps) = peer::converse(script, &[&url, mode]).await;
        assert!(!as_expected && steps.len() == 1, "{script}: {steps:#?}");
        assert_eq!(steps[0]["step"], "failed", "{script}: {steps:#?}");
    }
    let tries = ["server/discover", "initialize"];
    assert!(tap.methods().iter().all(|method| tries.contains(&method.as_str())), "{:?}", tap.methods());
    assert!(proxy.rows().await.is_empty(), "a probe is no call");

    let _server = PeerServer::start("ts_server.mjs", &["--port", &port.to_string()]);
    for Script(script, mode) in PROBING_SCRIPTS {
        let (as_expected, steps) = peer::converse(script, &[&url, mode]).await;
        assert!(as_expected, "{script}: {steps:#?}");
        assert_eq!(steps[0]["protocol"], "2026-07-28", "{script}: {steps:#?}");
    }
}

/// The TypeScript SDK does not even try.
#[tokio::test]
async fn the_typescript_client_does_not_initialize_with_a_server_that_is_not_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let proxy = Mcpmeter::start(&route(free.expect("a free port").port()));
    let tap = WireTap::start(proxy.proxy.port()).await;
    let url = format!("http://127.0.0.1:{}/peer/mcp", tap.port);
    let (as_expected, steps) = peer::converse("ts_client.mjs", &[&url, "auto"]).await;
    assert!(!as_expected, "{steps:#?}");
    assert_eq!(tap.methods(), ["server/discover"]);
}
