//! Both sides show a certificate: clients to the proxy (`client_ca_file`), and the proxy to upstreams (`client_cert_file`).

use crate::{
    authority::{Authority, Signed},
    message::{Message, call, json_answer, post, result},
    raw::{Upstream, Wire},
    serving::Serving,
    spawned::run,
    support::Mcpmeter,
};
use std::{fs, io, path::Path, process::Command};
use tempfile::{TempDir, tempdir};

/// A folder with the proxy's own certificate, and the authority of its clients.
fn folder(own: &Signed, clients: &Authority) -> TempDir {
    let folder = tempdir().expect("a temporary folder");
    own.write(folder.path(), "cert.pem", "key.pem");
    clients.write(&folder.path().join("client-ca.pem"));
    folder
}

fn tls(client_auth: &str) -> String {
    format!(
        "[proxy.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\nclient_ca_file = \"client-ca.pem\"\n\
         client_auth = \"{client_auth}\"\n"
    )
}

/// A call by a client with this certificate. With TLS 1.3 a refusal comes behind the client's part of the handshake.
async fn ask(proxy: &Mcpmeter, authority: &Authority, shown: Option<&Signed>) -> io::Result<Message> {
    let mut client = Wire::over(authority.connect(proxy.proxy, shown).await?);
    client.try_send(post("localhost", "/a/mcp", &call(1, "add"))).await?;
    let (answer, _) = client.read_to_answer().await;
    answer.ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
}

#[tokio::test]
async fn only_clients_with_a_good_certificate_get_in() {
    let (servers, clients, strangers) =
        (Authority::new("servers"), Authority::new("clients"), Authority::new("x"));
    let upstream = Serving::results();
    let folder = folder(&servers.server(), &clients);
    let mut proxy = Mcpmeter::start_in(
        folder,
        &format!("level = \"info,mcpmeter=debug\"\n{}{}", tls("required"), upstream.route("a")),
        &[],
    );
    let answer = ask(&proxy, &servers, Some(&clients.client("alice"))).await.expect("let in");
    assert_eq!(answer.text(), result(1));
    let line = proxy.wait_for_log("a client has shown its certificate");
    assert_eq!(
        line["client.certificate"], "CN=alice, email:[redacted e-mail address]",
        "redacted like all of the log"
    );
    for (shown, what) in [
        (None, "none"),
        (Some(strangers.client("alice")), "another authority"),
        (Some(clients.expired_client("alice")), "expired"),
        (Some(servers.client("alice")), "our own authority is not our clients'"),
    ] {
        assert!(ask(&proxy, &servers, shown.as_ref()).await.is_err(), "{what}");
    }
    assert_eq!(proxy.stop().await.len(), 1, "nothing else got as far as a call");
}

#[tokio::test]
async fn an_optional_certificate_need_not_be_shown_but_has_to_be_good() {
    let (servers, clients, strangers) =
        (Authority::new("servers"), Authority::new("clients"), Authority::new("x"));
    let upstream = Serving::results();
    let folder = folder(&servers.server(), &clients);
    let proxy = Mcpmeter::start_in(folder, &format!("{}{}", tls("optional"), upstream.route("a")), &[]);
    for shown in [None, Some(clients.client("alice"))] {
        assert_eq!(ask(&proxy, &servers, shown.as_ref()).await.expect("let in").text(), result(1));
    }
    for shown in [strangers.client("alice"), clients.expired_client("alice")] {
        assert!(ask(&proxy, &servers, Some(&shown)).await.is_err());
    }
}

/// Runs `curl` or `openssl`; gives whether it was content, and what it printed.
async fn run_other(program: &str, arguments: Vec<String>, folder: &Path) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(std::process::Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it only waits");
    let output = output.expect("it is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn another_implementation_of_tls_agrees() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let upstream = Serving::results();
    let folder = folder(&servers.server(), &clients);
    servers.write(&folder.path().join("ca.pem"));
    clients.client("alice").write(folder.path(), "alice.pem", "alice-key.pem");
    let proxy = Mcpmeter::start_in(folder, &format!("{}{}", tls("required"), upstream.route("a")), &[]);
    let port = proxy.proxy.port();
    let curl = |more: &str| {
        let body = call(1, "add");
        let url = format!("https://localhost:{port}/a/mcp");
        let common =
            ["-sS", "--max-time", "20", "--cacert", "ca.pem", "-H", "Content-Type: application/json"];
        let common = common.map(str::to_owned).into_iter().chain(["-d".to_owned(), body, url]);
        common.chain(more.split_whitespace().map(str::to_owned)).collect::<Vec<_>>()
    };
    let shows = "--cert alice.pem --key alice-key.pem";
    for version in ["--tlsv1.3", "--tlsv1.2 --tls-max 1.2"] {
        let told = run_other("curl", curl(&format!("{shows} {version}")), proxy.folder()).await;
        assert_eq!(told, (true, result(1)), "{version}");
        let (is_content, text) = run_other("curl", curl(version), proxy.folder()).await;
        assert!(!is_content, "{version}: {text}");
    }
    // What is weak is not spoken, whatever the client would take.
    for weak in ["-tls1", "-tls1_1", "-tls1_2 -cipher AES128-SHA:@SECLEVEL=0"] {
        let connect = format!("s_client -connect 127.0.0.1:{port} -cert alice.pem -key alice-key.pem {weak}");
        let arguments = connect.split_whitespace().map(str::to_owned).collect();
        let (is_content, text) = run_other("openssl", arguments, proxy.folder()).await;
        assert!(!is_content, "{weak}: {text}");
    }
}

/// The route to an upstream that wants a certificate.
fn route(upstream: &Upstream, keys: &str) -> String {
    let port = upstream.address.port();
    format!(
        "[[route]]\nname = \"a\"\nupstream = \"https://localhost:{port}\"\nca_file = \"ca.pem\"\n{keys}\n"
    )
}

const SHOWN: &str = "client_cert_file = \"client.pem\"\nclient_key_file = \"client-key.pem\"";

#[tokio::test]
async fn an_upstream_is_shown_the_certificate_of_its_route() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let (upstream, server) = (Upstream::bind(), servers.server());
    let shown = clients.client("mcpmeter");
    for (keys, is_let_in) in [(SHOWN, true), ("", false)] {
        let folder = tempdir().expect("a temporary folder");
        servers.write(&folder.path().join("ca.pem"));
        shown.write(folder.path(), "client.pem", "client-key.pem");
        let proxy = Mcpmeter::start_in(folder, &route(&upstream, keys), &[]);
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(post("localhost", "/a/mcp", &call(1, "add"))).await;
        let accepted = clients.accept(&server, upstream.accept().await.into_stream()).await;
        assert_eq!(accepted.is_ok(), is_let_in);
        if let Ok((mut wire, certificate)) = accepted {
            assert_eq!(certificate, shown.der().to_vec());
            assert_eq!(wire.read_request().await.text(), call(1, "add"));
            wire.send(json_answer(&result(1))).await;
            assert_eq!(client.read_response().await.text(), result(1));
            proxy.stop().await;
        } else {
            drop(accepted);
            assert_eq!(client.read_response().await.status(), 502);
            let rows = proxy.stop().await;
            assert_eq!((rows.len(), rows[0]["status"].as_str()), (1, Some("upstream_error")));
        }
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_the_upstream_from_the_next_connection_on() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let (upstream, server) = (Upstream::bind(), servers.server());
    let (old, new) = (clients.client("old"), clients.client("new"));
    let folder = tempdir().expect("a temporary folder");
    servers.write(&folder.path().join("ca.pem"));
    old.write(folder.path(), "client.pem", "client-key.pem");
    let mut proxy = Mcpmeter::start_in(folder, &route(&upstream, SHOWN), &[]);
    let mut client = Wire::connect(proxy.proxy).await;
    for (shown, id) in [(&old, 1), (&new, 2)] {
        if id == 2 {
            shown.write(proxy.folder(), "client.pem", "client-key.pem");
            let line = proxy.wait_for_log("certificates read again");
            assert_eq!(line["role"], "upstream");
        }
        client.send(post("localhost", "/a/mcp", &call(id, "add"))).await;
        // The connection of the first call is still open, but it was made with the old certificate.
        let accepted = clients.accept(&server, upstream.accept().await.into_stream()).await;
        let (mut wire, certificate) = accepted.expect("let in");
        assert_eq!(certificate, shown.der().to_vec());
        wire.read_request().await;
        wire.send(json_answer(&result(id))).await;
        assert_eq!(client.read_response().await.text(), result(id));
        std::mem::forget(wire);
    }
}

/// What goes wrong with which pair of a route's files.
const PAIRS: [(&str, &str, &str); 6] = [
    ("missing", "one.pem", "nowhere.pem"),
    ("half", "half.pem", "one-key.pem"),
    ("half-key", "one.pem", "half-key.pem"),
    ("swapped", "one-key.pem", "one.pem"),
    ("locked", "one.pem", "locked-key.pem"),
    ("fine", "one.pem", "one-key.pem"),
];

/// A folder with a configuration whose files are wrong in every way; and a line of a key in it.
fn folder_of_bad_files() -> (TempDir, String) {
    let clients = Authority::new("clients");
    let (one, other) = (clients.client("one"), clients.client("other"));
    let folder = tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    one.write(folder.path(), "one.pem", "one-key.pem");
    write("other-key.pem", &other.key_pem());
    write("half.pem", &one.pem()[..200]);
    write("half-key.pem", &one.key_pem()[..100]);
    write("empty.pem", "");
    write(
        "locked-key.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let mut config = "[proxy]\nlisten = \"127.0.0.1:0\"\n[proxy.tls]\ncert_file = \"one.pem\"\n\
                      key_file = \"other-key.pem\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[admin.tls]\n\
                      cert_file = \"one.pem\"\nkey_file = \"one-key.pem\"\nclient_ca_file = \"empty.pem\"\n"
        .to_owned();
    for (name, cert, key) in PAIRS {
        config += &format!(
            "[[route]]\nname = \"{name}\"\nupstream = \"https://h\"\nclient_cert_file = \"{cert}\"\n\
             client_key_file = \"{key}\"\n"
        );
    }
    write("mcpmeter.toml", &config);
    let line = one.key_pem().lines().nth(1).expect("a line").to_owned();
    (folder, line)
}

#[test]
fn all_files_that_cannot_be_used_are_told_at_once_and_what_to_do() {
    let (folder, line_of_a_key) = folder_of_bad_files();
    let expected = [
        "proxy.tls: key_file other-key.pem is not the key of the certificate in one.pem",
        "admin.tls: client_ca_file empty.pem holds no certificate",
        "route `missing`: cannot read client_key_file nowhere.pem",
        "route `half`: client_cert_file half.pem is damaged or cut off",
        "route `half-key`: client_key_file half-key.pem is damaged or cut off",
        "route `swapped`: client_cert_file one-key.pem holds no certificate",
        "route `locked`: client_key_file locked-key.pem is encrypted: take the passphrase out with `openssl pkey",
    ];
    for (command, exit_code) in [("check", 2), ("serve", 1)] {
        let (code, stdout, stderr) = run(folder.path(), &[command]);
        assert_eq!((code, stdout.as_str()), (Some(exit_code), ""), "{stderr}");
        assert_eq!(stderr.lines().count(), expected.len(), "{stderr}");
        for (line, words) in stderr.lines().zip(expected) {
            assert!(
                line.starts_with("error: cannot use the certificates of ") && line.contains(words),
                "{line}"
            );
        }
        assert!(!stderr.contains(&line_of_a_key), "{stderr}");
    }
    let (code, _, stderr) = run(folder.path(), &["check", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&stderr).expect("JSON");
    let details = told["error"]["details"].as_array().expect("a list");
    assert_eq!((code, details.len()), (Some(2), expected.len()));
}
