//! `mcpmeter keys` in either store: what is made is listed, revoked and exchanged, its secret is shown once, and a proxy
//! that runs meanwhile records on.

use crate::{
    message::make_call,
    serving::Serving,
    spawned::run,
    support::{
        Mcpmeter,
        postgres::{Cluster, Stop},
    },
};
use serde_json::{Value, json};
use std::{fs, path::Path};
use tempfile::{TempDir, tempdir};

const ROUTE: &str = "[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n";

fn folder_with(config: &str) -> TempDir {
    let folder = tempdir().expect("a temporary folder");
    fs::write(folder.path().join("mcpmeter.toml"), config).expect("a configuration");
    folder
}

/// A command that has to work: what it prints.
fn keys(folder: &Path, arguments: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = run(folder, &[&["keys"], arguments].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
    (stdout, stderr)
}

/// The keys that are listed, as JSON.
fn listed(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let (stdout, _) = keys(folder, &[&["list", "--json"], arguments].concat());
    stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Whether the text has the form of a secret that scanners know.
fn is_secret(text: &str) -> bool {
    let parts: Vec<_> = text.split('_').collect();
    let is_plain =
        |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    matches!(parts[..], ["mcpm", id, secret] if is_plain(id, 8) && is_plain(secret, 36))
}

/// The life of a key, in a folder whose configuration names the store.
fn live(folder: &Path) {
    let secret = be_made(folder);
    let id = format!("key_{}", &secret[5..13]);
    let other = get_another_secret(folder, &id, &secret);
    be_revoked(folder, &id, &other);
    let shown = format!("{:?}{}", listed(folder, &["--all"]), keys(folder, &["list", "--all"]).0);
    for hidden in ["hash", "mcpm_", &secret[14..], &other[14..]] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
}

/// One key with everything, which is the older one, and one with nothing; gives the secret of the first.
fn be_made(folder: &Path) -> String {
    let make = "create --user alice --org acme --name laptop --route a --route b-* --tool search_* --per-minute 60 --expires 90d";
    let (secret, told) = keys(folder, &make.split(' ').collect::<Vec<_>>());
    assert!(is_secret(&secret), "nothing but the secret is on stdout: {secret}");
    for words in [
        "is for alice until 20",
        "shown only now",
        "claude mcp add --transport http",
        "Authorization: Bearer",
    ] {
        assert!(told.contains(words), "no \"{words}\" in {told}");
    }
    assert!(!told.contains(&secret[14..]), "it is printed once");
    let (made, _) = keys(folder, &["create", "--user", "bob", "--json"]);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    assert!(is_secret(made["secret"].as_str().expect("a text")), "{made}");

    let all = listed(folder, &[]);
    assert_eq!((&all[0]["user_id"], all.len()), (&json!("bob"), 2), "the newest first");
    let mut alice = all[1].clone();
    let times: Vec<_> = ["created_at", "expires_at"].map(|key| alice[key].take()).into();
    assert!(times.iter().all(Value::is_string), "{times:?}");
    let expected = json!({
        "id": format!("key_{}", &secret[5..13]), "state": "active", "name": "laptop", "user_id": "alice", "organization_id": "acme",
        "routes": ["a", "b-*"], "tools": ["search_*"], "rate_per_minute": 60, "created_at": null, "expires_at": null,
        "revoked_at": null, "previous_secret_until": null, "last_used_at": null,
    });
    assert_eq!(alice, expected);
    secret
}

/// First with the time of grace, then without; gives the last secret.
fn get_another_secret(folder: &Path, id: &str, secret: &str) -> String {
    let (other, told) = keys(folder, &["rotate", &id[..10]]);
    assert!(is_secret(&other) && other != secret && other[..14] == secret[..14], "{other}: the id stays");
    assert!(told.contains(id) && told.contains("The one before works until 20"), "{told}");
    assert_eq!(listed(folder, &[])[1]["state"], "rotating");
    let (last, told) = keys(folder, &["rotate", id, "--now"]);
    assert!(told.contains("The one before is refused"), "{told}");
    assert_eq!(listed(folder, &[])[1]["state"], "active");
    last
}

fn be_revoked(folder: &Path, id: &str, secret: &str) {
    // Whoever has found the secret somewhere may hand in that.
    let (told, _) = keys(folder, &["revoke", secret]);
    assert!(told.starts_with(&format!("{id} is revoked since 20")), "{told}");
    let (again, _) = keys(folder, &["revoke", id, "--json"]);
    assert!(
        again.contains("\"revoked\"") && told.contains(revoked_at(&again).as_str()),
        "{again} after {told}"
    );
    assert_eq!(listed(folder, &[]).len(), 1);
    assert_eq!(listed(folder, &["--all"])[1]["state"], "revoked");
    let (table, told) = keys(folder, &["list"]);
    assert!(table.starts_with("ID ") && table.lines().count() == 2, "{table}");
    assert_eq!(told, "not shown: 1 expired or revoked (--all shows them)");
    let (table, told) = keys(folder, &["list", "--all"]);
    assert!(table.contains("laptop") && table.contains("a,b-*") && told.is_empty(), "{table}{told}");
    for (arguments, told) in [
        (["rotate", id], format!("error: {id} was revoked at 20")),
        (["revoke", "key_nobody00"], "error: there is no key key_nobody00".to_owned()),
    ] {
        let (code, stdout, stderr) = run(folder, &[&["keys"], &arguments[..]].concat());
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(stderr.starts_with(&told), "{stderr}");
    }
}

fn revoked_at(key: &str) -> String {
    let key: Value = serde_json::from_str(key).expect("JSON");
    key["revoked_at"].as_str().expect("a time").to_owned()
}

#[tokio::test]
async fn a_key_lives_in_a_sqlite_file_that_no_proxy_has_used_yet() {
    let folder = folder_with(ROUTE);
    let (code, stdout, stderr) = run(folder.path(), &["keys", "list"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.ends_with("mcpmeter.db does not exist: no key has been made there yet"), "{stderr}");
    live(folder.path());
    // A proxy goes on with that file.
    let upstream = Serving::results();
    let proxy = Mcpmeter::start_in(folder, &upstream.route("a"), &[]);
    make_call(proxy.proxy, "/a/mcp", 1, "add").await;
    proxy.wait_for_rows(1).await;
    assert_eq!(listed(proxy.folder(), &["--all"]).len(), 2);
}

#[tokio::test]
async fn a_key_lives_in_a_sqlite_file_while_a_proxy_writes_it() {
    let upstream = Serving::results();
    let proxy = Mcpmeter::start(&upstream.route("a"));
    let folder = proxy.folder().to_owned();
    let living = tokio::task::spawn_blocking(move || live(&folder));
    let mut calls = 0;
    while !living.is_finished() {
        make_call(proxy.proxy, "/a/mcp", calls, "add").await;
        calls += 1;
    }
    living.await.expect("it has lived");
    assert_eq!(
        proxy.log().iter().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).count(),
        0
    );
    assert_eq!(proxy.stop().await.len(), usize::try_from(calls).expect("some"));
}

#[tokio::test]
async fn a_key_lives_in_postgresql_once_that_has_its_tables() {
    let cluster = Cluster::shared();
    let folder = folder_with(&format!("[store]\nurl = \"{}\"\n{ROUTE}", cluster.database()));
    let (code, stdout, stderr) = run(folder.path(), &["keys", "create", "--user", "alice"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(stderr, "error: the database has no tables for keys: run `mcpmeter migrate`");
    let (code, _, stderr) = run(folder.path(), &["migrate"]);
    assert_eq!(code, Some(0), "{stderr}");
    let (stdout, stderr) = keys(folder.path(), &["list"]);
    assert_eq!(
        (stdout.as_str(), stderr.as_str()),
        ("", "there is no key yet: `mcpmeter keys create --user ID` makes one")
    );
    live(folder.path());
}

#[tokio::test]
async fn a_postgresql_that_is_away_is_exit_code_3_and_nothing_is_made() {
    let cluster = Cluster::new();
    let url = cluster.database().replace("postgres@", "postgres:s3cret@");
    let folder = folder_with(&format!("[store]\nurl = \"{url}\"\n{ROUTE}"));
    cluster.stop(Stop::Fast);
    for arguments in [&["create", "--user", "alice"][..], &["list"], &["revoke", "key_aaaaaaaa"]] {
        let (code, stdout, stderr) = run(folder.path(), &[&["keys"], arguments].concat());
        assert_eq!((code, stdout.as_str()), (Some(3), ""), "{arguments:?}");
        assert!(
            stderr.starts_with("error: cannot reach PostgreSQL: ") && !stderr.contains("s3cret"),
            "{stderr}"
        );
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_to_do() {
    let folder = folder_with(ROUTE);
    let long = "x".repeat(257);
    for (arguments, told) in [
        (&["create"][..], "--user <ID>"),
        (&["create", "--user", " "], "--user is empty"),
        (&["create", "--user", "a", "--name", "a\nb"], "--name has a control character in it"),
        (&["create", "--user", &long], "--user is longer than 256 characters"),
        (&["create", "--user", "a", "--tool", ""], "--tool is empty"),
        (&["create", "--user", "a", "--route", "a,b"], "--route once for each"),
        (&["create", "--user", "a", "--route", "/a"], "its name as in the configuration"),
        (&["create", "--user", "a", "--per-minute", "0"], "0 is not in 1..=1000000"),
        (&["create", "--user", "a", "--expires", "soon"], "write a time such as 12h or 90d"),
        (&["create", "--user", "a", "--expires", "2020-01-31"], "--expires 2020-01-31 is in the past"),
        (&["rotate", "key_aaaaaaaa", "--grace", "5"], "write one such as 90m, 24h or 7d"),
        (&["rotate", "key_aaaaaaaa", "--grace", "1h", "--now"], "cannot be used with"),
        (&["revoke", "key_aaaaaaaa"], "mcpmeter.db does not exist: no key has been made there yet"),
        (
            &["revoke", "key"],
            "key is too little of an id: write at least key_ and the four characters behind it",
        ),
        (&["unknown"], "unrecognized subcommand"),
    ] {
        let (code, stdout, stderr) = run(folder.path(), &[&["keys"], arguments].concat());
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(told), "no \"{told}\" in {stderr}");
    }
    assert!(!folder.path().join("mcpmeter.db").exists(), "nothing was made");
    let (_, told) =
        keys(folder.path(), &["create", "--user", "a", "--route", "a", "--route", "b", "--route", "c*"]);
    assert!(told.ends_with("warning: mcpmeter.toml has no route \"b\""), "{told}");
    for command in ["create", "list", "revoke", "rotate"] {
        let (code, stdout, stderr) = run(folder.path(), &["keys", command, "--help"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command}");
        assert!(stdout.contains("--config <FILE>") && stdout.contains("--json"), "{stdout}");
    }
}
