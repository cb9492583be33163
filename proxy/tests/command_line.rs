//! What each command prints, where, and with which exit code it ends: 0 fine, 1 failed, 2 wrong usage or
//! configuration, 3 something else is not there.

use crate::{
    message::{call, json_answer, make_call, post, result},
    raw::{Upstream, Wire},
    serving::Serving,
    spawned::{Spawned, ended, run},
    support::{Mcpmeter, PATIENCE, eventually},
};
use serde_json::{Value, json};
use std::{fs, net::TcpListener, path::Path, time::Instant};
use tempfile::{TempDir, tempdir};

const ROUTE: &str = "[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n";

/// A folder with a configuration in it.
fn folder_with(config: &str) -> TempDir {
    let folder = tempdir().expect("a temporary folder");
    fs::write(folder.path().join("mcpmeter.toml"), config).expect("a configuration");
    folder
}

/// Sections for free ports, to be followed by others.
fn on_free_ports(rest: &str) -> String {
    format!("[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{rest}")
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readable");
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_command_explains_itself() {
    let folder = tempdir().expect("a temporary folder");
    for command in ["serve", "check", "migrate", "tail", "calls", "doctor", "healthcheck"] {
        let (code, stdout, stderr) = run(folder.path(), &[command, "--help"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command}");
        assert!(stdout.contains(&format!("Usage: mcpmeter {command}")), "{stdout}");
        assert!(stdout.contains("--config <FILE>") && stdout.contains("[env: MCPMETER_CONFIG=]"), "{stdout}");
    }
    let (code, stdout, _) = run(folder.path(), &["--help"]);
    assert_eq!(code, Some(0));
    for words in ["Exit codes:", "mcpmeter serve -c mcpmeter.toml", "claude mcp add", "healthcheck"] {
        assert!(stdout.contains(words), "{stdout}");
    }
    let version = format!("mcpmeter {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(folder.path(), &["--version"]), (Some(0), version, String::new()));
    for arguments in [
        &[][..],
        &["serv"],
        &["calls", "--status", "fine"],
        &["calls", "--before", "x"],
        &["tail", "-n", "-1"],
    ] {
        let (code, stdout, stderr) = run(folder.path(), arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains("Usage:") || stderr.contains("--help"), "{stderr}");
    }
}

#[test]
fn check_says_that_a_configuration_is_right() {
    let folder = folder_with(ROUTE);
    let said = (Some(0), "mcpmeter.toml is valid: 1 route".to_owned(), String::new());
    assert_eq!(run(folder.path(), &["check"]), said);
    let (code, stdout, _) = run(folder.path(), &["check", "--json"]);
    let expected = json!({ "file": "mcpmeter.toml", "valid": true, "routes": ["a"], "warnings": [] });
    assert_eq!((code, serde_json::from_str(&stdout).ok()), (Some(0), Some(expected)));
    assert_eq!(names_in(folder.path()), ["mcpmeter.toml"], "nothing was started");
}

#[test]
fn check_prints_what_is_in_force_and_whose_word_it_is() {
    let folder = folder_with(&format!("{ROUTE}user_id = \"u@example.com\"\n[proxy]\nworkers = 2\n"));
    let (code, stdout, stderr) = run(folder.path(), &["check", "--print"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let line = |start: &str| stdout.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    assert!(line("workers = 2 ").ends_with(" # mcpmeter.toml:6"), "{stdout}");
    assert!(line("max_headers = 512 ").ends_with(" # default"), "{stdout}");
    assert!(line("user_id = \"u@example.com\" ").ends_with(" # mcpmeter.toml:4"), "{stdout}");
    // What it prints is a configuration.
    let copy = folder_with(&stdout);
    assert_eq!(run(copy.path(), &["check", "--print"]).0, Some(0));
    let (code, stdout, _) = run(folder.path(), &["check", "--print", "--json"]);
    let told: Value = serde_json::from_str(&stdout).expect("JSON");
    let workers = json!({
        "table": "[proxy]", "begins_table": false, "key": "workers", "value": "2", "origin": "mcpmeter.toml:6"
    });
    assert_eq!(code, Some(0));
    assert!(told["settings"].as_array().is_some_and(|all| all.contains(&workers)), "{stdout}");
}

#[test]
fn check_warns_of_what_is_valid_and_hardly_meant() {
    let folder = folder_with(&format!("[proxy]\ntrusted_proxies = [\"::/0\"]\n{ROUTE}"));
    let (code, stdout, stderr) = run(folder.path(), &["check"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "mcpmeter.toml is valid: 1 route"));
    assert!(stderr.starts_with("warning: `proxy.trusted_proxies` has ::/0: "), "{stderr}");
    let (_, stdout, stderr) = run(folder.path(), &["check", "--json"]);
    let told: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((told["warnings"].as_array().map(Vec::len), stderr.as_str()), (Some(1), ""));
}

#[test]
fn check_and_serve_want_the_keys_of_issuers_that_are_files() {
    let identity = "[route.identity]\nmode = \"jwt\"\nissuer = \"https://i\"\naudience = [\"a\"]\njwks = \"keys.json\"\n";
    let folder = folder_with(&format!("{ROUTE}{identity}"));
    for (content, expected) in [(None, "No such file"), (Some("[]"), "invalid"), (Some("{}"), "keys")] {
        if let Some(content) = content {
            fs::write(folder.path().join("keys.json"), content).expect("written");
        }
        for (command, expected_code) in [("check", 2), ("serve", 1)] {
            let (code, stdout, stderr) = run(folder.path(), &[command]);
            assert_eq!((code, stdout.as_str()), (Some(expected_code), ""), "{command}: {stderr}");
            assert!(stderr.contains("issuer's keys of route `a` from keys.json: "), "{stderr}");
            assert!(stderr.contains(expected), "{command} {expected}: {stderr}");
        }
    }
}

#[test]
fn check_and_serve_say_everything_that_is_wrong_at_once() {
    let folder = folder_with(
        "[proxy]\nlisen = \"127.0.0.1:7300\"\nworkers = \"all\"\npublic_hosts = [\"*.example.com\"]\n\
         [admin]\nlisten = \"0.0.0.0:7301\"\n[[route]]\nname = \"A\"\nupstream = \"ftp://h\"\n",
    );
    for command in ["check", "serve"] {
        let (code, stdout, stderr) = run(folder.path(), &[command]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{command}");
        for place in ["2:1", "3:11", "4:17", "6:10", "8:8", "9:12"] {
            assert!(stderr.contains(&format!("--> mcpmeter.toml:{place}\n")), "no {place} in {stderr}");
        }
        for words in [
            "unknown key `proxy.lisen`",
            "did you mean `listen`?",
            "2 | lisen = \"127.0.0.1:7300\"",
            "there are no wildcards",
            "6 problems found in mcpmeter.toml",
        ] {
            assert!(stderr.contains(words), "no \"{words}\" in {stderr}");
        }
    }
    assert_eq!(names_in(folder.path()), ["mcpmeter.toml"], "nothing was started");
    let (code, stdout, stderr) = run(folder.path(), &["check", "--json"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    let told: Value = serde_json::from_str(&stderr).expect("JSON");
    let details = told["error"]["details"].as_array().expect("a list");
    let first = details.iter().find(|detail| detail["line"] == 2).expect("the first one");
    assert_eq!((first["column"].as_u64(), first["code"].as_str()), (Some(1), Some("key-unknown")));
    assert_eq!((details.len(), told["error"]["code"].as_str()), (6, Some("config_invalid")));
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let folder = tempdir().expect("a temporary folder");
    for command in ["check", "serve", "migrate", "tail", "calls", "healthcheck"] {
        let (code, stdout, stderr) = run(folder.path(), &[command, "-c", "nowhere/other.toml"]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{command}");
        assert!(stderr.contains("nowhere/other.toml"), "{stderr}");
    }
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    for key in ["proxy", "admin"] {
        let config = on_free_ports(ROUTE).replacen(
            &format!("[{key}]\nlisten = \"127.0.0.1:0\""),
            &format!("[{key}]\nlisten = \"{address}\""),
            1,
        );
        let folder = folder_with(&config);
        let (code, stdout, stderr) = run(folder.path(), &["serve"]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        let line =
            format!("error: cannot listen on {address} for {key}.listen: another program does already");
        assert!(stderr.starts_with(&line) && stderr.lines().count() == 1, "{stderr}");
    }
}

#[tokio::test]
async fn a_second_mcpmeter_takes_neither_the_port_nor_the_store_of_the_first() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let port = folder_with(&on_free_ports(ROUTE));
    let (code, _, stderr) = run(port.path(), &["serve", "--listen", &proxy.proxy.to_string()]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("another program does already"), "{stderr}");

    let (code, _, stderr) = run(proxy.folder(), &["serve"]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("mcpmeter.db is in use by another mcpmeter"), "{stderr}");

    for id in 0..20 {
        make_call(proxy.proxy, "/a/mcp", id, "add").await;
    }
    assert_eq!(proxy.stop().await.len(), 20, "the first one goes on undisturbed");
}

#[test]
fn a_store_that_cannot_be_opened_is_named() {
    let folder = folder_with(&on_free_ports(&format!("[store]\nurl = \"sqlite:nowhere/calls.db\"\n{ROUTE}")));
    let (code, _, stderr) = run(folder.path(), &["serve"]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(
        stderr.starts_with("error: cannot open the store") && stderr.contains("nowhere/calls.db"),
        "{stderr}"
    );
}

#[tokio::test]
async fn serve_can_print_the_calls_itself() {
    let upstream = Serving::results();
    let folder = folder_with(&upstream.route("a"));
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--tail"];
    let mut proxy = Spawned::start(folder.path(), &arguments);
    let greeting = proxy.wait_for_stderr("claude mcp add --transport http a http://");
    let url = greeting.split(' ').next_back().expect("a URL");
    let address =
        url.strip_prefix("http://").and_then(|url| url.strip_suffix("/a/mcp")).expect("of the route");
    make_call(address.parse().expect("an address"), "/a/mcp", 1, "add").await;
    eventually("a line", || proxy.stdout.now().len() == 1).await;
    let line = &proxy.stdout.now()[0];
    assert!(line.contains("ok") && line.contains("a/add") && !line.contains('\u{1b}'), "{line}");
}

#[test]
fn calls_without_a_store_says_so() {
    let folder = folder_with(ROUTE);
    let (code, stdout, stderr) = run(folder.path(), &["calls"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("mcpmeter.db does not exist"), "{stderr}");
    assert_eq!(names_in(folder.path()), ["mcpmeter.toml"], "reading makes no store");
    fs::write(
        folder.path().join("mcpmeter.db"),
        "this is no database, and it is long enough to look like one",
    )
    .expect("written");
    let (code, _, stderr) = run(folder.path(), &["calls"]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    let (code, _, stderr) = run(folder.path(), &["calls", "--since", "yesterday"]);
    assert_ne!(code, Some(0), "{stderr}");
}

/// A URL of a PostgreSQL that is not there, with a password that nobody may see.
fn postgres_nowhere() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("postgres://meter:geheim@127.0.0.1:{}/meter", free.local_addr().expect("bound").port())
}

#[test]
fn migrate_needs_a_postgresql_that_is_there() {
    let folder = folder_with(ROUTE);
    let (code, stdout, stderr) = run(folder.path(), &["migrate"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("store.url is a SQLite file"), "{stderr}");
    let folder = folder_with(&format!("[store]\nurl = \"{}\"\n{ROUTE}", postgres_nowhere()));
    for command in ["migrate", "calls"] {
        let (code, stdout, stderr) = run(folder.path(), &[command]);
        assert_eq!((code, stdout.as_str()), (Some(3), ""), "{command}: {stderr}");
        assert!(!stderr.contains("geheim"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[tokio::test]
async fn healthcheck_tells_ready_from_stopping_from_absent() {
    let upstream = Upstream::bind();
    let mut proxy = Mcpmeter::start(&upstream.route("a"));
    let admin = proxy.admin.to_string();
    let folder = tempdir().expect("a temporary folder");
    let check = || run(folder.path(), &["healthcheck", "--admin", &admin]);
    assert_eq!(check(), (Some(0), String::new(), String::new()));
    let mut client = Wire::connect(proxy.proxy).await;
    client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
    let mut server = upstream.accept().await;
    server.read_request().await;
    proxy.signal("TERM");
    proxy.wait_for_log("stopping");
    eventually("it is not ready", || check().0 == Some(1)).await;
    server.send(json_answer(&result(1))).await;
    client.read_response().await;
    ended(proxy).await;
    assert_eq!(check().0, Some(3));
}

#[tokio::test]
async fn without_its_postgresql_it_serves_and_keeps_the_rows() {
    let upstream = Serving::results();
    let config =
        format!("[store]\nurl = \"{}\"\nflush_timeout_ms = 100\n{}", postgres_nowhere(), upstream.route("a"));
    let mut proxy = Mcpmeter::start(&config);
    proxy.wait_for_log("cannot store calls in PostgreSQL: they wait in the outbox");
    for id in 0..10 {
        make_call(proxy.proxy, "/a/mcp", id, "add").await;
    }
    let waiting = async |proxy: &Mcpmeter, count: u64| {
        let line = format!("mcpmeter_log_outbox_records {count}\n");
        let deadline = Instant::now() + PATIENCE;
        while !proxy.admin("/metrics").await.1.contains(&line) {
            assert!(Instant::now() < deadline, "never {line}");
        }
    };
    waiting(&proxy, 10).await;
    assert_eq!(proxy.admin("/readyz").await.0, 200, "it is of use all the same");
    let (_, report) = proxy.admin("/readyz?verbose").await;
    assert!(
        report.contains("[-] postgres (not required: records wait in the outbox): failing since"),
        "{report}"
    );
    let log = proxy.log();
    let told = log.iter().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).count();
    assert_eq!(told, 1, "said once: {log:#?}");
    assert!(![report, log.join("\n")].iter().any(|text| text.contains("geheim")));
    proxy.signal("TERM");
    let folder = ended(proxy).await;
    let again = Mcpmeter::start_in(folder, &config, &[]);
    waiting(&again, 10).await;
}
