//! What a row says about where a call came from: in every mode, from proxies that are believed and from others.

use crate::{
    message::{call, json_answer, post, result},
    raw::Wire,
    serving::Serving,
    support::{Mcpmeter, eventually},
};
use serde_json::Value;
use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// A connection whose client has this address.
async fn connect_from(address: &str, proxy: SocketAddr) -> Wire {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{address}:0").parse().expect("an address")).expect("all of 127/8 is ours");
    Wire::over(socket.connect(proxy).await.expect("accepted"))
}

/// Makes a call of the tool with further header lines.
async fn make_call(client: &mut Wire, tool: &str, lines: &[String]) {
    let mut request = post("localhost", "/a/mcp", &call(1, tool));
    let end = request.find("\r\n").expect("a start line") + 2;
    lines.iter().rev().for_each(|line| request.insert_str(end, &format!("{line}\r\n")));
    client.send(request).await;
    assert_eq!(client.read_response().await.status(), 200);
}

/// The `client_ip` of the call of the tool.
fn recorded<'a>(rows: &'a [Value], tool: &str) -> Option<&'a str> {
    let row = rows.iter().find(|row| row["tool_name"] == tool).unwrap_or_else(|| panic!("no row of {tool}"));
    row["client_ip"].as_str()
}

/// A proxy with a key of hashes beside its configuration.
fn start(toml: &str, proxy_keys: &[&str]) -> Mcpmeter {
    let folder: TempDir = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("hash.key"), "a key of at least 16 bytes\n").expect("written");
    Mcpmeter::start_in(folder, toml, proxy_keys)
}

const TRUSTING: &str = "trusted_proxies = [\"127.0.0.2\", \"127.0.0.64/26\"]\nforwarded_header = \"any\"";

/// Calls over connections from a trusted and from another address, three on each; gives the rows.
async fn calls_through(privacy: &str, proxy_keys: &[&str]) -> Vec<Value> {
    let upstream = Serving::results();
    let proxy = start(&format!("[privacy]\n{privacy}\n{route}", route = upstream.route("a")), proxy_keys);
    for (name, address) in [("trusted", "127.0.0.2"), ("stranger", "127.0.0.1")] {
        let mut client = connect_from(address, proxy.proxy).await;
        make_call(&mut client, &format!("{name} alone"), &[]).await;
        let list = "X-Forwarded-For: 6.6.6.6, 192.0.2.77".to_owned();
        make_call(&mut client, &format!("{name} list"), &[list]).await;
        let pairs = "Forwarded: for=\"[2001:db8:1:2::77]:4711\";proto=https".to_owned();
        make_call(&mut client, &format!("{name} pairs"), &[pairs]).await;
    }
    let rows = proxy.stop().await;
    assert_eq!(rows.len(), 6);
    rows
}

#[tokio::test]
async fn every_mode_keeps_of_every_address_what_it_says() {
    for (mode, own, list, pairs, stranger) in [
        ("prefix", Some("127.0.0.0/24"), Some("192.0.2.0/24"), Some("2001:db8:1::/48"), Some("127.0.0.0/24")),
        ("full", Some("127.0.0.2"), Some("192.0.2.77"), Some("2001:db8:1:2::77"), Some("127.0.0.1")),
        ("off", None, None, None, None),
    ] {
        let rows = calls_through(&format!("client_ip = \"{mode}\""), &[TRUSTING]).await;
        let of = |tool| recorded(&rows, tool);
        let trusted = [of("trusted alone"), of("trusted list"), of("trusted pairs")];
        assert_eq!(trusted, [own, list, pairs], "{mode}");
        for tool in ["stranger alone", "stranger list", "stranger pairs"] {
            assert_eq!(of(tool), stranger, "{mode} {tool}");
        }
    }
}

#[tokio::test]
async fn hashes_tell_addresses_apart_and_are_the_same_in_another_proxy_with_the_key() {
    let privacy = "client_ip = \"hash\"\nhash_key = { file = \"hash.key\" }\nhash_rotation = \"never\"";
    let (rows, again) =
        (calls_through(privacy, &[TRUSTING]).await, calls_through(privacy, &[TRUSTING]).await);
    let distinct: HashSet<_> = rows.iter().map(|row| row["client_ip"].as_str()).collect();
    assert_eq!(distinct.len(), 4, "two peers, two clients behind the trusted one: {distinct:?}");
    for row in &rows {
        let tool = row["tool_name"].as_str().expect("a tool");
        let hash = recorded(&rows, tool).expect("a hash");
        assert!(
            hash.len() == 22
                && hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        assert_eq!(recorded(&again, tool), Some(hash), "{tool}");
    }
    // Nor does the file know the addresses in any other way.
    let shown = serde_json::to_string(&rows).expect("JSON");
    assert!(!shown.contains("192.0.2.77") && !shown.contains("2001:db8"), "{shown}");
}

#[tokio::test]
async fn without_trusted_proxies_nobody_is_believed() {
    let rows = calls_through("client_ip = \"full\"", &[]).await;
    for (name, address) in [("trusted", "127.0.0.2"), ("stranger", "127.0.0.1")] {
        for what in ["alone", "list", "pairs"] {
            assert_eq!(recorded(&rows, &format!("{name} {what}")), Some(address));
        }
    }
}

#[tokio::test]
async fn as_many_hops_are_believed_as_were_said_and_the_headers_go_on_as_they_came() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let upstream = Serving::with(move |request| {
        let mut headers = request.headers();
        headers.retain(|(name, _)| name.to_ascii_lowercase().contains("forwarded"));
        keep.lock().expect("not poisoned").push(headers);
        json_answer(&result(1))
    });
    let forged: String = (0..1_000).map(|number| format!("127.0.0.{}, ", 64 + number % 60)).collect();
    let lines = [
        format!("X-Forwarded-For: 1.2.3.4, {forged}198.51.100.9, 127.0.0.70"),
        "X-Forwarded-For: 127.0.0.71".to_owned(),
        "X-Forwarded-Proto: https".to_owned(),
    ];
    for (hops, expected) in [(1, "127.0.0.71"), (2, "127.0.0.70"), (3, "198.51.100.9"), (32, "198.51.100.9")]
    {
        let toml = format!("[privacy]\nclient_ip = \"full\"\n{route}", route = upstream.route("a"));
        let proxy = start(&toml, &[TRUSTING, &format!("forwarded_hops = {hops}")]);
        let mut client = connect_from("127.0.0.2", proxy.proxy).await;
        make_call(&mut client, "add", &lines).await;
        assert_eq!(recorded(&proxy.stop().await, "add"), Some(expected), "{hops} hops");
        let headers = seen.lock().expect("not poisoned").pop().expect("a request");
        let got: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {value}").to_ascii_lowercase()).collect();
        assert_eq!(got, lines.each_ref().map(|line| line.to_ascii_lowercase()), "{hops} hops");
    }
}

#[tokio::test]
async fn what_a_reload_says_about_addresses_holds_for_connections_that_are_open() {
    let upstream = Serving::results();
    let proxy =
        start(&format!("[privacy]\nclient_ip = \"full\"\n{route}", route = upstream.route("a")), &[TRUSTING]);
    let mut client = connect_from("127.0.0.2", proxy.proxy).await;
    let list = ["X-Forwarded-For: 192.0.2.77".to_owned()];
    make_call(&mut client, "before", &list).await;
    let text = fs::read_to_string(proxy.config_file()).expect("a configuration");
    let text = text.replace(TRUSTING, "").replace("client_ip = \"full\"", "client_ip = \"prefix\"");
    let next = proxy.folder().join("next.toml");
    fs::write(&next, text).and_then(|()| fs::rename(next, proxy.config_file())).expect("written");
    proxy.signal("HUP");
    eventually("a reload", || proxy.log().iter().any(|line| line.contains("configuration reloaded"))).await;
    make_call(&mut client, "after", &list).await;
    let rows = proxy.stop().await;
    assert_eq!(
        [recorded(&rows, "before"), recorded(&rows, "after")],
        [Some("192.0.2.77"), Some("127.0.0.0/24")]
    );
}
