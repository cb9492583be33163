//! Secrets planted wherever one can be: none of them may come out again, whatever the program is asked to do and however
//! much it is to log.

use crate::{
    message::{call, post},
    raw::Wire,
    serving::Serving,
    spawned::{Spawned, run},
};
use std::{fs, net::SocketAddr};
use tempfile::tempdir;

/// Part of every planted secret.
const MARK: &str = "pl4nted";

#[track_caller]
fn assert_clean(what: &str, text: &str) {
    let line = text.lines().find(|line| line.contains(MARK));
    assert!(line.is_none(), "{what}: {}", line.unwrap_or_default());
}

/// A configuration with a secret in each place, referring to the files `store-url` and `token`.
fn config(store: &str, route: &str) -> String {
    format!(
        "[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = {{ file = \"token\" }}\n\
         [store]\nurl = {store}\nflush_timeout_ms = 0\n[log]\nformat = \"json\"\nlevel = \"trace\"\n\
         {route}[[route]]\nname = \"b\"\ncommand = [\"cat\", \"--\", \"--password\", \"{MARK}\"]\nenv = {{ KEY = {{ env = \"KEY\" }}, OTHER = \"{MARK}-env\" }}\n"
    )
}

const ENVIRONMENT: [(&str, &str); 1] = [("KEY", "pl4nted-key")];

/// What the admin port says to whoever has the token, a wrong one, or one in a URL.
async fn ask_admin_port(admin: SocketAddr, token: &str) -> String {
    let mut told = String::new();
    for (path, credentials) in [
        ("/metrics", format!("Authorization: Bearer {token}\r\n")),
        ("/readyz?verbose", format!("Authorization: Bearer {token}\r\n")),
        ("/metrics", format!("Authorization: Bearer {MARK}-wrong\r\n")),
        ("/metrics", format!("Cookie: mcpmeter-{}={MARK}-wrong\r\n", admin.port())),
        (&format!("/metrics?token={token}"), String::new()),
        (&format!("/{MARK}-path"), String::new()),
    ] {
        let mut client = Wire::connect(admin).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{credentials}\r\n")).await;
        told.push_str(&client.read_response().await.text());
    }
    told
}

#[tokio::test]
async fn nothing_that_runs_tells_a_secret() {
    let folder = tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    let token = format!("{MARK}-token-that-is-long-enough");
    write("token", &token);
    // Nobody listens there: every error about it has the chance to name the URL.
    write("store-url", &format!("postgres://user:{MARK}-password@127.0.0.1:1/database"));
    let upstream = Serving::results();
    let store = "{ file = \"store-url\" }";
    write("mcpmeter.toml", &config(store, &upstream.route("a")));
    let mut proxy = Spawned::start_with(folder.path(), &["serve"], &ENVIRONMENT);
    let listening: serde_json::Value =
        serde_json::from_str(&proxy.wait_for_stderr("\"listening\"")).expect("a line of the log");
    let address = |key: &str| -> SocketAddr {
        listening[key].as_str().and_then(|text| text.parse().ok()).expect("an address")
    };
    let (clients, admin) = (address("proxy.address"), address("admin.address"));
    let mut client = Wire::connect(clients).await;
    let request = post("localhost", "/a/mcp", &call(1, "add"));
    let secret = format!("\r\nAuthorization: Bearer {MARK}-header\r\nCookie: a={MARK}-cookie\r\n");
    client.send(request.replacen("\r\n", &secret, 1)).await;
    assert_eq!(client.read_response().await.status(), 200);
    let told = ask_admin_port(admin, &token).await;
    assert!(told.contains("mcpmeter_build_info") && told.contains("postgres"), "{told}");
    assert_clean("admin port", &told);
    let admin = admin.to_string();
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["check", "--print"],
        &["check", "--print", "--json"],
        &["doctor", "--admin", &admin],
        &["doctor", "--json", "--admin", &admin],
        &["calls"],
        &["migrate"],
        &["healthcheck", "--admin", &admin],
        &["serve"],
    ] {
        let mut command = Spawned::start_with(folder.path(), arguments, &ENVIRONMENT);
        command.wait();
        assert_clean(&format!("{arguments:?}"), &command.stdout.now().join("\n"));
        assert_clean(&format!("{arguments:?}"), &command.stderr.now().join("\n"));
    }
    // Not at a reload either, of what is right and of what is wrong.
    let reloads = [
        (config(store, &upstream.route("c")), "configuration reloaded"),
        (config("\"postgres://u:pl4nted@h /d\"", "\n[proxi]\n"), "the configuration was not changed"),
    ];
    for (text, words) in reloads {
        write("next.toml", &text);
        fs::rename(folder.path().join("next.toml"), folder.path().join("mcpmeter.toml")).expect("renamed");
        proxy.wait_for_stderr(words);
    }
    // The log has to have said something for its silence to mean anything.
    for words in ["cannot store calls in PostgreSQL", "somebody has tried a wrong token"] {
        proxy.wait_for_stderr(words);
    }
    assert_clean("log", &proxy.stderr.now().join("\n"));
}

#[test]
fn no_problem_of_a_configuration_tells_a_secret() {
    let folder = tempdir().expect("a temporary folder");
    let route = "[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n";
    for wrong in [
        format!("[store]\nurl = \"postgres://u:{MARK}@h /d\"\n{route}"),
        format!("[store]\nurl = \"postgre://u:{MARK}@h/d\"\n{route}"),
        format!("[store]\nurl = {{ env = \"postgres://u:{MARK}@h/d\" }}\n{route}"),
        format!("[admin]\ntoken = \"{MARK}-token-that-is-long-enough\"\n{route}"),
        format!("[admin]\ntokne = \"{MARK}-token-that-is-long-enough\"\n{route}"),
        format!("[admin]\ntoken = {{ value = \"{MARK}-token-that-is-long-enough\" }}\n{route}"),
        format!("[admin]\ntoken = {{ env = \"{MARK}-token-that-is-long-enough\" }}\n{route}"),
        format!("[[route]]\nname = \"a\"\nupstream = \"https://u:{MARK}@h\"\n"),
        format!("[[route]]\nname = \"a\"\ncommand = [\"cat\"]\nenv = {{ API_TOKEN = [\"{MARK}\"] }}\n"),
    ] {
        fs::write(folder.path().join("mcpmeter.toml"), &wrong).expect("written");
        for arguments in
            [&["check"][..], &["check", "--json"], &["serve"], &["doctor"], &["calls"], &["tail"]]
        {
            let (code, stdout, stderr) = run(folder.path(), arguments);
            assert_eq!(code, Some(2), "{wrong}: {stdout}{stderr}");
            assert_clean(&wrong, &(stdout + &stderr));
        }
    }
    for (name, value) in [
        ("MCPMETER_ADMIN__TOKEN", "pl4nted"),
        ("MCPMETER_ADMIN__TOKNE", "pl4nted-token-that-is-long-enough"),
        ("MCPMETER_STORE__URL", "pl4nted"),
        ("DATABASE_URL", "postgres://u:pl4nted@h /d"),
    ] {
        fs::write(folder.path().join("mcpmeter.toml"), route).expect("written");
        let mut check = Spawned::start_with(folder.path(), &["check"], &[(name, value)]);
        assert_eq!(check.wait(), Some(2), "{name}");
        assert_clean(name, &check.stderr.now().join("\n"));
    }
}
