//! `mcpmeter erase` as a person runs it: beside a running proxy and without one, with what it prints and its exit code.

use crate::{
    message::make_call,
    serving::Serving,
    spawned::run,
    support::{Mcpmeter, PATIENCE, postgres::Cluster, program, sqlite_rows},
};
use serde_json::Value;
use std::{fs, path::Path, process::Stdio, time::Instant};

/// Two routes to one server, of two users of one organisation.
fn routes(upstream: &Serving) -> String {
    ["ann-5b1f0c", "bob"]
        .map(|user| format!("{}user_id = \"{user}\"\norganization_id = \"org\"\n", upstream.route(user)))
        .concat()
}

/// So many calls of each.
async fn calls(proxy: &Mcpmeter, count: u64) {
    for number in 0..count {
        for user in ["ann-5b1f0c", "bob"] {
            make_call(proxy.proxy, &format!("/{user}/mcp"), number, "add").await;
        }
    }
}

fn json(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, stdout, stderr) = run(folder, arguments);
    let report = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{code:?} {stdout} {stderr}"));
    (code, report)
}

/// The rows of a table in the report.
fn rows(report: &Value, table: &str) -> u64 {
    let rows = report["rows"].as_array().expect("an array").iter().filter(|row| row["table"] == table);
    rows.filter_map(|row| row["rows"].as_u64()).sum()
}

fn users(rows: &[Value]) -> Vec<&str> {
    let mut users: Vec<_> = rows.iter().filter_map(|row| row["user_id"].as_str()).collect();
    users.sort_unstable();
    users.dedup();
    users
}

#[tokio::test]
async fn a_user_is_removed_beside_a_running_proxy() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&routes(&upstream));
    calls(&proxy, 3).await;
    proxy.wait_for_rows(6).await;
    let folder = proxy.folder().to_owned();
    let before: Vec<_> = proxy.rows().await.into_iter().filter(|row| row["user_id"] == "bob").collect();

    let (code, counted) = json(&folder, &["erase", "--user", "ann-5b1f0c", "--dry-run", "--json"]);
    assert_eq!((code, rows(&counted, "mcp_server_request_log")), (Some(0), 3), "{counted:#}");
    assert_eq!((counted["manner"].as_str(), proxy.rows().await.len()), (Some("count"), 6));

    let (code, report) = json(&folder, &["erase", "--user", "ann-5b1f0c", "--yes", "--json"]);
    assert_eq!((code, rows(&report, "mcp_server_request_log")), (Some(0), 3), "{report:#}");
    assert_eq!((report["complete"].as_bool(), report["manner"].as_str()), (Some(true), Some("remove")));
    let notes = report["notes"].to_string();
    assert!(
        notes.contains("the route `ann-5b1f0c` names the user") && notes.contains("a proxy is running"),
        "{notes}"
    );
    assert_eq!(proxy.rows().await, before);
    for file in ["mcpmeter.db", "mcpmeter.db-wal"] {
        let bytes = fs::read(folder.join(file)).unwrap_or_default();
        assert!(!bytes.windows(10).any(|window| window == b"ann-5b1f0c"), "{file}");
    }
    // The proxy goes on, and what comes later is recorded.
    calls(&proxy, 1).await;
    assert_eq!(proxy.stop().await.len(), 5);
}

#[tokio::test]
async fn an_organisation_is_anonymised_when_no_proxy_runs_and_in_further_files() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&routes(&upstream));
    calls(&proxy, 2).await;
    proxy.signal("TERM");
    let (_, folder) = proxy.wait();
    fs::copy(folder.path().join("mcpmeter.db"), folder.path().join("copy.db")).expect("copied");
    let command = ["erase", "--org", "org", "--anonymize", "--yes", "--file", "copy.db"];
    let (code, stdout, stderr) = run(folder.path(), &command);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(
        stdout.contains("anonymised: 8 rows of the organisation \"org\", under the name anonymous-"),
        "{stdout}"
    );
    for file in ["mcpmeter.db", "copy.db"] {
        let rows = sqlite_rows(&folder.path().join(file)).await;
        let [name] = users(&rows)[..] else { panic!("{rows:#?}") };
        assert!(name.starts_with("anonymous-") && rows.len() == 4 && stdout.contains(name), "{rows:#?}");
        assert!(rows.iter().all(|row| row["client_ip"].is_null() && row["tool_name"] == "add"), "{rows:#?}");
    }
    let (code, stdout, _) = run(folder.path(), &["erase", "--org", "org", "--yes"]);
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("removed: 0 rows of the organisation"), "{stdout}");
}

#[tokio::test]
async fn what_a_killed_proxy_left_is_erased_too() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&routes(&upstream));
    calls(&proxy, 2).await;
    proxy.signal("KILL");
    let (_, folder) = proxy.wait();
    let left = || {
        fs::read_dir(folder.path())
            .expect("readable")
            .flatten()
            .any(|entry| entry.path().extension().is_some_and(|extension| extension == "ring"))
    };
    assert!(left());
    let (code, report) = json(folder.path(), &["erase", "--user", "ann-5b1f0c", "--yes", "--json"]);
    assert_eq!((code, rows(&report, "mcp_server_request_log")), (Some(0), 2), "{report:#}");
    assert!(!left(), "it was written down");
    assert_eq!(users(&sqlite_rows(&folder.path().join("mcpmeter.db")).await), ["bob"]);
    // The next start finds everything in order.
    let proxy = Mcpmeter::start_in(folder, &routes(&upstream), &[]);
    assert!(!proxy.log().iter().any(|line| line.contains("queue of an earlier run")), "{:#?}", proxy.log());
    assert_eq!(proxy.stop().await.len(), 2);
}

#[tokio::test]
async fn postgresql_and_its_outboxes_are_one_command() {
    let (cluster, upstream) = (Cluster::shared(), Serving::results());
    let url = cluster.database();
    mcpmeter_journal::migrate(&url.parse().expect("a URL")).await.expect("a schema");
    let store = format!("[store]\nurl = \"{url}\"\n{}", routes(&upstream));
    let count = |user: &str| {
        cluster.query(
            &url,
            &format!("select count(*) from mcpmeter.mcp_server_request_log where user_id = '{user}'"),
        )
    };
    let [here, there] = [Mcpmeter::start(&store), Mcpmeter::start(&store)];
    for proxy in [&here, &there] {
        calls(proxy, 2).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while count("bob") != "4" || count("ann-5b1f0c") != "4" {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let (code, report) = json(here.folder(), &["erase", "--user", "ann-5b1f0c", "--yes", "--json"]);
    assert_eq!((code, report["complete"].as_bool()), (Some(1), Some(false)), "{report:#}");
    assert!(
        report["left"][0]["text"].as_str().is_some_and(|text| text.contains("another proxy")),
        "{report:#}"
    );
    assert_eq!(rows(&report, "mcp_server_request_log"), 4, "{report:#}");
    let seen_to = ["erase", "--user", "ann-5b1f0c", "--yes", "--json", "--elsewhere-done"];
    let (code, report) = json(here.folder(), &seen_to);
    assert_eq!((code, report["total"].as_u64()), (Some(0), Some(0)), "{report:#}");
    assert_eq!([count("ann-5b1f0c"), count("bob")], ["0", "4"]);
    for proxy in [here, there] {
        proxy.signal("TERM");
        assert!(proxy.wait().0.success());
    }
    assert_eq!([count("ann-5b1f0c"), count("bob")], ["0", "4"]);
}

#[test]
fn it_is_not_done_by_mistake() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let route = "[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n";
    fs::write(folder.path().join("mcpmeter.toml"), route).expect("written");
    for (arguments, said) in [
        (&["erase", "--user", "u"][..], "say --yes"),
        (&["erase", "--yes"], "--user <ID>"),
        (&["erase", "--user", "", "--yes"], "a value is required"),
        (&["erase", "--user", "u", "--org", "o", "--yes"], "cannot be used with"),
        (&["erase", "--user", "u", "--yes", "--file", "nowhere.db"], "nowhere.db does not exist"),
    ] {
        let (code, stdout, stderr) = run(folder.path(), arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains(said), "{stderr}");
    }
    let (code, stdout, _) = run(folder.path(), &["erase", "--user", "u", "--yes"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("0 rows") && stdout.contains("does not exist"), "{stdout}");
    let postgres = format!("[store]\nurl = \"postgres://u@127.0.0.1:1/d\"\n{route}");
    fs::write(folder.path().join("mcpmeter.toml"), postgres).expect("written");
    let (code, _, stderr) = run(folder.path(), &["erase", "--user", "u", "--yes"]);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("nothing was erased"), "{stderr}");
    let help = program().args(["erase", "--help"]).stdout(Stdio::piped()).output().expect("it runs");
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("Usage: mcpmeter erase"));
}

#[tokio::test]
async fn on_a_terminal_it_asks_and_takes_no_for_an_answer() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&routes(&upstream));
    calls(&proxy, 1).await;
    proxy.signal("TERM");
    let (_, folder) = proxy.wait();
    for (answer, code, left) in [("n", 1, 2), ("", 1, 2), ("y", 0, 1)] {
        // `script` gives it a terminal.
        let command = format!("{} erase --user ann-5b1f0c", env!("CARGO_BIN_EXE_mcpmeter"));
        let mut child = std::process::Command::new("script")
            .args(["-q", "-e", "-c", &command, "/dev/null"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is installed");
        use std::io::Write;
        writeln!(child.stdin.as_mut().expect("piped"), "{answer}").expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("remove 1 row of the user \"ann-5b1f0c\" for ever? [y/N]"), "{said}");
        assert_eq!(sqlite_rows(&folder.path().join("mcpmeter.db")).await.len(), left);
    }
}

#[tokio::test]
async fn the_keys_of_somebody_are_revoked_and_nameless_afterwards() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&routes(&upstream));
    let folder = proxy.folder().to_owned();
    let make = |user, name| {
        json(&folder, &["keys", "create", "--user", user, "--org", "org", "--name", name, "--json"]).1
    };
    let (theirs, other) = (make("ann-5b1f0c", "laptop-of-ann"), make("bob", "laptop"));
    let (code, report) = json(&folder, &["erase", "--user", "ann-5b1f0c", "--yes", "--json"]);
    assert_eq!((code, rows(&report, "api_key")), (Some(0), 1), "{report:#}");
    let (_, listed, _) = run(&folder, &["keys", "list", "--all", "--json"]);
    let keys: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let find = |made: &Value| keys.iter().find(|key| key["id"] == made["id"]).expect("it is listed").clone();
    let (theirs, other) = (find(&theirs), find(&other));
    assert_eq!(
        (theirs["state"].as_str(), theirs["user_id"].as_str()),
        (Some("revoked"), Some("forgotten")),
        "{theirs}"
    );
    assert_eq!(
        (other["state"].as_str(), other["user_id"].as_str()),
        (Some("active"), Some("bob")),
        "{other}"
    );
    proxy.stop().await;
    assert!(!listed.contains("ann"));
    let file = fs::read(folder.join("mcpmeter.db")).unwrap_or_default();
    assert!(
        !file.windows(10).any(|bytes| bytes == b"ann-5b1f0c" || bytes == b"laptop-of-"),
        "no byte is left"
    );
}
