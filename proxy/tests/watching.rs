//! `tail` and `calls`: the calls as they happen, and those of the past.

use crate::{
    message::make_call,
    serving::Serving,
    spawned::{Spawned, run},
    support::{Mcpmeter, PATIENCE},
};
use serde_json::Value;
use std::time::Instant;
use tempfile::tempdir;

/// Makes calls until the command has ended or has shown enough.
async fn call_until(proxy: &Mcpmeter, mut enough: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    for id in 0.. {
        if enough() {
            return;
        }
        make_call(proxy.proxy, "/a/mcp", id, if id % 2 == 0 { "add" } else { "multiply" }).await;
        make_call(proxy.proxy, "/b/mcp", id, "add").await;
        assert!(Instant::now() < deadline, "never enough");
    }
}

fn start_two_routes() -> (Serving, Mcpmeter) {
    let upstream = Serving::results();
    let users = |name: &str| format!("{}user_id = \"u_{name}\"\n", upstream.route(name));
    let proxy = Mcpmeter::start(&format!("{}{}", users("a"), users("b")));
    (upstream, proxy)
}

#[tokio::test]
async fn tail_shows_the_calls_that_were_asked_for_and_ends_after_so_many() {
    let (_upstream, proxy) = start_two_routes();
    let admin = proxy.admin.to_string();
    let tail = |arguments: &[&str]| {
        Spawned::start(proxy.folder(), &[&["tail", "--admin", &admin, "-n", "3"], arguments].concat())
    };
    let mut commands = [
        tail(&["--tool", "multiply"]),
        tail(&["--json", "--user", "u_b"]),
        tail(&["--json", "--server", "a", "--status", "ok"]),
    ];
    let seen: Vec<_> = commands.iter().map(|command| command.stdout.clone()).collect();
    call_until(&proxy, || seen.iter().all(|lines| lines.now().len() == 3)).await;
    for command in &mut commands {
        assert_eq!(command.wait(), Some(0));
    }
    assert!(
        seen[0].now().iter().all(|line| line.contains("a/multiply") && line.contains("u_a")),
        "{:?}",
        seen[0].now()
    );
    for (lines, instance) in [(&seen[1], "b"), (&seen[2], "a")] {
        for line in lines.now() {
            let row: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(
                (row["mcp_server_instance_id"].as_str(), row["status"].as_str()),
                (Some(instance), Some("ok"))
            );
        }
    }
}

#[tokio::test]
async fn tail_ends_with_3_without_a_proxy_and_when_the_proxy_goes() {
    let (_upstream, proxy) = start_two_routes();
    let admin = proxy.admin.to_string();
    let folder = tempdir().expect("a temporary folder");
    let mut tail = Spawned::start(folder.path(), &["tail", "--admin", &admin]);
    let lines = tail.stdout.clone();
    call_until(&proxy, || !lines.now().is_empty()).await;
    proxy.stop().await;
    assert_eq!(tail.wait(), Some(3));
    assert!(tail.stderr.now().join("\n").contains("the proxy has gone"), "{:?}", tail.stderr.now());
    let (code, stdout, stderr) = run(folder.path(), &["tail", "--admin", &admin]);
    assert_eq!((code, stdout.as_str()), (Some(3), ""));
    assert!(stderr.contains(&admin) && stderr.contains("mcpmeter serve"), "{stderr}");
}

#[tokio::test]
async fn calls_finds_what_was_asked_for_newest_first_in_pages() {
    let (_upstream, proxy) = start_two_routes();
    for id in 1..=5 {
        make_call(proxy.proxy, "/a/mcp", id, "add").await;
    }
    make_call(proxy.proxy, "/b/mcp", 6, "multiply").await;
    proxy.wait_for_rows(6).await;
    let calls = |arguments: &[&str]| {
        let (code, stdout, stderr) = run(proxy.folder(), &[&["calls", "--json"], arguments].concat());
        assert_eq!(code, Some(0), "{stderr}");
        let row = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        let ids: Vec<_> =
            stdout.lines().map(|line| row(line)["rpc_id"].as_str().expect("an id").to_owned()).collect();
        (ids, stderr)
    };
    assert_eq!(calls(&[]).0, ["6", "5", "4", "3", "2", "1"], "newest first, while the proxy writes");
    assert_eq!(calls(&["--server", "b"]).0, ["6"]);
    assert_eq!(calls(&["--tool", "add", "--user", "u_a", "--since", "1h", "-n", "1"]).0, ["5"]);
    for nothing in [
        &["--errors"][..],
        &["--status", "timeout"],
        &["--method", "tools/list"],
        &["--until", "1h"],
        &["--org", "o"],
    ] {
        assert_eq!(calls(nothing), (vec![], String::new()), "{nothing:?}");
    }
    let (mut pages, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let before: Vec<_> = cursor.iter().flat_map(|cursor| ["--before", cursor]).collect();
        let (ids, stderr) = calls(&[&["-n", "4"], &before[..]].concat());
        pages.push(ids);
        cursor = stderr.split("--before ").nth(1).map(|cursor| cursor.trim().to_owned());
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec!["6", "5", "4", "3"], vec!["2", "1"]]);
    let (code, stdout, _) = run(proxy.folder(), &["calls", "-n", "1"]);
    assert!(code == Some(0) && stdout.contains("b/multiply") && stdout.lines().count() == 1, "{stdout}");
}
