//! Who may see what at the admin port: tokens, cookies and certificates; what is refused, and what that costs.

use crate::{
    authority::Authority,
    message::Message,
    raw::Wire,
    spawned::{Spawned, run},
    support::{PATIENCE, eventually},
};
use std::{fs, net::SocketAddr, path::Path, process::Command, time::Instant};
use tempfile::{TempDir, tempdir};

const TOKEN: &str = "a-token-that-nobody-can-guess";

/// A proxy whose admin port asks who is there.
struct Guarded {
    spawned: Spawned,
    folder: TempDir,
    admin: SocketAddr,
}

impl Guarded {
    /// With these keys of `[admin]` (and tables behind them), and the token in the file `token`.
    fn start(keys: &str) -> Self {
        Self::start_in(tempdir().expect("a temporary folder"), keys)
    }

    fn start_in(folder: TempDir, keys: &str) -> Self {
        let config = format!(
            "[proxy]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n\
             [[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n{keys}\n"
        );
        fs::write(folder.path().join("mcpmeter.toml"), config).expect("a configuration");
        fs::write(folder.path().join("token"), format!("{TOKEN}\n")).expect("a token");
        let mut spawned = Spawned::start(folder.path(), &["serve"]);
        let listening: serde_json::Value =
            serde_json::from_str(&spawned.wait_for_stderr("\"listening\"")).expect("a line of the log");
        let admin = listening["admin.address"].as_str().and_then(|text| text.parse().ok());
        Self { spawned, folder, admin: admin.expect("an address") }
    }

    fn with_token() -> Self {
        Self::start("token = { file = \"token\" }")
    }

    /// The answer to a request line and headers; a body brings its length along.
    async fn ask(&self, start: &str, headers: &[(&str, &str)], body: &str) -> Message {
        let mut client = Wire::connect(self.admin).await;
        client.send(request(start, headers, body)).await;
        client.read_response().await
    }

    async fn metric(&self, name: &str) -> f64 {
        let metrics = self.ask("GET /metrics", &[("Authorization", &bearer(TOKEN))], "").await.text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().expect("a number")
    }
}

fn request(start: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "{start} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}",
        length = body.len()
    )
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

#[tokio::test]
async fn whoever_has_the_token_sees_everything_and_others_the_probes() {
    let proxy = Guarded::with_token();
    for (path, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/login", 200),
        ("/readyz?verbose", 401),
        ("/metrics", 401),
        ("/api/v1/calls/live", 401),
        ("/", 401),
        ("/nowhere", 401),
    ] {
        let answer = proxy.ask(&format!("GET {path}"), &[], "").await;
        assert_eq!(answer.status(), status, "{path}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge.is_some_and(|words| words.starts_with("Bearer ")), status == 401, "{path}");
        assert!(!answer.text().contains("mcpmeter_") && !answer.text().contains("[+]"), "{path}");
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    }
    let right = bearer(TOKEN);
    for (path, words) in
        [("/metrics", "mcpmeter_build_info"), ("/readyz?verbose", "[+] disk"), ("/", "/livez")]
    {
        let answer = proxy.ask(&format!("GET {path}"), &[("Authorization", &right)], "").await;
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.text().contains(words), "{path}");
    }
    for wrong in [&right[..right.len() - 1], &format!("{right}x"), "Bearer", "Basic YTpi", "Bearer \u{e4}"] {
        let answer = proxy.ask("GET /metrics", &[("Authorization", wrong)], "").await;
        assert_eq!(answer.status(), 401, "{wrong}");
    }
    // The Host does not matter any more: a page that can send the token needs no rebinding.
    let mut client = Wire::connect(proxy.admin).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: meter.example\r\nAuthorization: {right}\r\n\r\n")).await;
    assert_eq!(client.read_response().await.status(), 200);
}

#[tokio::test]
async fn the_token_is_exchanged_for_a_cookie_that_is_not_the_token() {
    let proxy = Guarded::with_token();
    let page = proxy.ask("GET /", &[("Accept", "text/html,*/*")], "").await;
    assert_eq!((page.status(), page.header("location").as_deref()), (303, Some("/login")));
    let page = proxy.ask("GET /login", &[], "").await;
    assert!(
        page.text().contains("<form method=\"post\" action=\"/login\">") && !page.text().contains("<script")
    );
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(
        policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );

    let form = format!("token={}", TOKEN.replace('-', "%2D"));
    let entered = proxy.ask("POST /login", &[FORM], &form).await;
    assert_eq!((entered.status(), entered.header("location").as_deref()), (303, Some("/")));
    let cookie = entered.header("set-cookie").expect("a cookie");
    let (pair, attributes) = cookie.split_once("; ").expect("attributes");
    assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
    let (name, value) = pair.split_once('=').expect("a pair");
    assert_eq!(name, format!("mcpmeter-{}", proxy.admin.port()));
    assert!(value.len() == 43 && !TOKEN.contains(value) && !value.contains(TOKEN), "{value}");

    let with = |cookies: String| {
        let proxy = &proxy;
        async move { proxy.ask("GET /metrics", &[("Cookie", &cookies)], "").await.status() }
    };
    assert_eq!(with(format!("theme=dark; {pair}")).await, 200);
    assert_eq!(with(format!("{name}={TOKEN}")).await, 401);
    assert_eq!(with(format!("{pair}x")).await, 401);
    let json = ("Content-Type", "application/json");
    let other = proxy.ask("POST /login", &[json], &format!("{{\"token\": \"{TOKEN}\"}}")).await;
    assert_eq!(other.status(), 204);
    let other = other.header("set-cookie").expect("a cookie").split("; ").next().expect("a pair").to_owned();
    assert_ne!(other, pair);

    let left = proxy.ask("POST /logout", &[("Cookie", pair)], "").await;
    assert_eq!((left.status(), left.header("location").as_deref()), (303, Some("/login")));
    assert!(
        left.header("set-cookie").expect("a cookie").starts_with(&format!("{name}=; Path=/; Max-Age=0; "))
    );
    assert_eq!(with(pair.to_owned()).await, 401);
    assert_eq!(with(other).await, 200, "another session goes on");
    assert_eq!(proxy.metric("mcpmeter_admin_logins_total").await, 2.0);
}

#[tokio::test]
async fn what_is_no_login_is_told_so_without_repeating_it() {
    let mut proxy = Guarded::with_token();
    let json = ("Content-Type", "application/json");
    for (headers, body, status) in [
        ([FORM], "token=wrong-wrong-wrong-wrong-wrong".to_owned(), 401),
        ([json], "{\"token\": \"wrong-wrong-wrong-wrong-wrong\"}".to_owned(), 401),
        ([FORM], "tokn=wrong-wrong".to_owned(), 400),
        ([json], "{\"token\": 7}".to_owned(), 400),
        ([json], "token=wrong-wrong".to_owned(), 400),
        ([FORM], format!("token={}", "wrong-wrong".repeat(1_000)), 400),
    ] {
        let answer = proxy.ask("POST /login", &headers, &body).await;
        assert_eq!(answer.status(), status, "{body:.50}");
        assert!(answer.header("set-cookie").is_none());
        assert!(!answer.text().contains("wrong-wrong"), "{}", answer.text());
    }
    // The log is read beside the answers.
    proxy.spawned.wait_for_stderr("somebody has tried a wrong token");
    let log = proxy.spawned.stderr.now().join("\n");
    assert!(!log.contains("wrong-wrong"), "{log}");
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let proxy = Guarded::with_token();
    let form = format!("token={TOKEN}");
    for foreign in [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://localhost:1"),
    ] {
        for path in ["/login", "/logout"] {
            let answer = proxy.ask(&format!("POST {path}"), &[FORM, foreign], &form).await;
            assert_eq!(answer.status(), 403, "{foreign:?}");
            assert!(answer.header("set-cookie").is_none());
        }
    }
    for own in [("Sec-Fetch-Site", "same-origin"), ("Origin", "http://localhost")] {
        assert_eq!(proxy.ask("POST /login", &[FORM, own], &form).await.status(), 303, "{own:?}");
    }
    assert_eq!(proxy.metric("mcpmeter_admin_refused_total{reason=\"cross_site\"}").await, 10.0);
}

#[tokio::test]
async fn a_token_in_a_url_is_refused_even_if_it_is_the_right_one() {
    let proxy = Guarded::with_token();
    let right = bearer(TOKEN);
    for target in ["/metrics?token=", "/?a=b&access_token=", "/livez?Token=", "/login?%74oken="] {
        for headers in [&[][..], &[("Authorization", right.as_str())]] {
            let answer = proxy.ask(&format!("GET {target}{TOKEN}"), headers, "").await;
            assert_eq!(answer.status(), 400, "{target}");
            assert!(answer.text().contains("Authorization: Bearer TOKEN"), "{}", answer.text());
            assert!(!answer.text().contains(TOKEN));
        }
    }
    let posted = proxy.ask(&format!("POST /login?token={TOKEN}"), &[FORM], "").await;
    assert_eq!(posted.status(), 400);
    assert!(!proxy.spawned.stderr.now().join("\n").contains(TOKEN));
}

#[tokio::test]
async fn a_thousand_wrong_tokens_slow_nobody_and_fill_nothing() {
    let proxy = Guarded::with_token();
    let mut answers = [0, 0];
    for number in 0..1_000 {
        let token = bearer(&format!("wrong-{number:>040}"));
        let answer = if number % 2 == 0 {
            proxy.ask("GET /metrics", &[("Authorization", &token)], "").await
        } else {
            proxy.ask("POST /login", &[FORM], &format!("token=wrong-{number:>040}")).await
        };
        match answer.status() {
            401 => answers[0] += 1,
            429 => {
                let seconds = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
                assert!(seconds.is_some_and(|seconds| (1..=61).contains(&seconds)));
                answers[1] += 1;
            }
            status => panic!("{status}"),
        }
    }
    // A few minutes may have gone by on a slow machine.
    assert!(answers[0] >= 20 && answers[0] + answers[1] == 1_000 && answers[1] > 500, "{answers:?}");
    let begun = Instant::now();
    let logged_in = proxy.ask("POST /login", &[FORM], &format!("token={TOKEN}")).await;
    assert_eq!(logged_in.status(), 303, "whoever has the token is not kept out by those who have not");
    let wrong = proxy.metric("mcpmeter_admin_refused_total{reason=\"wrong_token\"}").await;
    let too_many = proxy.metric("mcpmeter_admin_refused_total{reason=\"too_many_wrong_tokens\"}").await;
    assert_eq!((wrong, too_many), (f64::from(answers[0]), f64::from(answers[1])));
    assert!(begun.elapsed() < PATIENCE);
    let log = proxy.spawned.stderr.now();
    let complaints = log.iter().filter(|line| line.contains("wrong token")).count();
    assert!(complaints <= 1 + usize::try_from(answers[0]).expect("few") / 20, "{log:#?}");
}

#[test]
fn an_open_port_on_another_address_is_refused_before_anything_starts() {
    let folder = tempdir().expect("a temporary folder");
    let write = |keys: &str| {
        let config = format!(
            "[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"0.0.0.0:0\"\n{keys}\n\
             [[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n"
        );
        fs::write(folder.path().join("mcpmeter.toml"), config).expect("a configuration");
    };
    for (keys, words) in [
        ("", "`admin.listen` is not a loopback address, and asks nobody who it is"),
        ("allow_remote = true", "`admin.allow_remote` is no longer there"),
    ] {
        write(keys);
        for command in ["check", "serve"] {
            let (code, stdout, stderr) = run(folder.path(), &[command]);
            assert_eq!((code, stdout.as_str()), (Some(2), ""), "{command}");
            assert!(
                stderr.contains(words) && stderr.contains("set `token = { file = \"path\" }`"),
                "{stderr}"
            );
        }
    }
    let (code, _, stderr) = run(folder.path(), &["serve", "--admin-listen", "0.0.0.0:7399"]);
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn a_token_that_crosses_the_network_in_the_clear_is_warned_about() {
    let folder = tempdir().expect("a temporary folder");
    let config = "[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"0.0.0.0:0\"\ntoken = { env = \"T\" }\n\
                  [[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n";
    fs::write(folder.path().join("mcpmeter.toml"), config).expect("a configuration");
    let mut spawned = Spawned::start_with(folder.path(), &["serve"], &[("T", TOKEN)]);
    spawned.wait_for_stderr("the admin token crosses the network unencrypted");
    let proxy = Guarded::with_token();
    assert!(!proxy.spawned.stderr.now().join("\n").contains("unencrypted"), "not on loopback");
}

/// A command that asks the admin port, in the proxy's folder.
fn command(proxy: &Guarded, arguments: &[&str]) -> (Option<i32>, String, String) {
    let address = proxy.admin.to_string();
    run(proxy.folder.path(), &[arguments, &["--admin", &address]].concat())
}

#[tokio::test]
async fn commands_show_the_token_of_the_configuration_or_of_a_file() {
    let proxy = Guarded::with_token();
    let (code, stdout, stderr) = command(&proxy, &["doctor"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("it serves and records"), "{stdout}");
    assert_eq!(command(&proxy, &["healthcheck"]), (Some(0), String::new(), String::new()));
    // Without a configuration there is the file or the variable.
    let elsewhere = tempdir().expect("a temporary folder");
    let address = proxy.admin.to_string();
    let token = proxy.folder.path().join("token").display().to_string();
    let wrong = elsewhere.path().join("wrong");
    fs::write(&wrong, "another-token-of-some-length").expect("written");
    let wrong = wrong.display().to_string();
    for (arguments, environment, is_let_in) in [
        (vec!["tail", "--admin", &address], vec![], false),
        (vec!["tail", "--admin", &address, "--token-file", &wrong], vec![], false),
        (vec!["tail", "--admin", &address, "--token-file", &token], vec![], true),
        (vec!["tail", "--admin", &address], vec![("MCPMETER_ADMIN__TOKEN", TOKEN)], true),
    ] {
        let mut tail = Spawned::start_with(elsewhere.path(), &arguments, &environment);
        if is_let_in {
            // It stays as long as there may be calls to show.
            let path = proxy.folder.path();
            assert_eq!(run(path, &["healthcheck", "--admin", &address]).0, Some(0));
            assert_eq!(tail.stderr.now(), Vec::<String>::new());
            drop(tail);
        } else {
            assert_eq!(tail.wait(), Some(2), "{arguments:?}");
            let told = tail.stderr.now().join("\n");
            assert!(told.contains("--token-file") && !told.contains(TOKEN), "{told}");
        }
    }
    let mut watching = Wire::connect(proxy.admin).await;
    watching.send(request("GET /api/v1/calls/live", &[("Authorization", &bearer(TOKEN))], "")).await;
    assert_eq!(watching.read_head().await.status(), 200);
    let config = proxy.folder.path().join("mcpmeter.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replace("{ file = \"token\" }", &format!("{{ file = {wrong:?} }}")))
        .expect("written");
    eventually("another token", || {
        proxy.spawned.stderr.now().iter().any(|line| line.contains("the admin token has changed"))
    })
    .await;
    // Who watches with the old one sees no more.
    watching.gone().await;
    let (code, stdout, _) = command(&proxy, &["doctor", "--token-file", &token]);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("refuses to answer (401 Unauthorized)"), "{stdout}");
    assert_eq!(command(&proxy, &["doctor"]).0, Some(0));
}

/// `[admin.tls]` with a client's authority.
const TLS: &str =
    "[admin.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\nclient_ca_file = \"client-ca.pem\"\n";

fn certificates(servers: &Authority, clients: &Authority) -> TempDir {
    let folder = tempdir().expect("a temporary folder");
    servers.server().write(folder.path(), "cert.pem", "key.pem");
    clients.client("alice").write(folder.path(), "alice.pem", "alice-key.pem");
    clients.write(&folder.path().join("client-ca.pem"));
    servers.write(&folder.path().join("ca.pem"));
    folder
}

/// Status and headers by curl, which knows nothing of our TLS.
async fn curl(folder: &Path, arguments: &str) -> (bool, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--max-time", "20", "--cacert", "ca.pem"]);
    command.args(arguments.split_whitespace()).current_dir(folder);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it only waits");
    let output = output.expect("curl is installed");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn a_certificate_opens_the_port_and_a_cookie_over_tls_is_secure() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let shows = "--cert alice.pem --key alice-key.pem";
    // Required, and nothing else asked for.
    let proxy = Guarded::start_in(certificates(&servers, &clients), TLS);
    let url = format!("https://localhost:{}", proxy.admin.port());
    let (is_content, text) = curl(proxy.folder.path(), &format!("{shows} {url}/metrics")).await;
    assert!(is_content && text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(!curl(proxy.folder.path(), &format!("{url}/livez")).await.0, "not even a probe");
    let own = ["--client-cert-file", "alice.pem", "--client-key-file", "alice-key.pem"];
    for asking in ["doctor", "healthcheck"] {
        let (code, stdout, stderr) = command(&proxy, &[&[asking], &own[..]].concat());
        assert_eq!(code, Some(0), "{stdout}{stderr}");
    }
    assert_eq!(command(&proxy, &["healthcheck"]).0, Some(3));
    drop(proxy);

    // Optional, beside a token: one of them is enough, and probes need neither.
    let keys = format!("token = {{ file = \"token\" }}\n{TLS}client_auth = \"optional\"\n");
    let proxy = Guarded::start_in(certificates(&servers, &clients), &keys);
    let folder = proxy.folder.path();
    let url = format!("https://localhost:{}", proxy.admin.port());
    for (arguments, status) in [
        (format!("{url}/livez"), "200 OK"),
        (format!("{url}/metrics"), "401 Unauthorized"),
        (format!("{shows} {url}/metrics"), "200 OK"),
        (format!("--oauth2-bearer {TOKEN} {url}/metrics"), "200 OK"),
    ] {
        let (_, text) = curl(folder, &arguments).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{arguments}: {text}");
    }
    let (_, text) = curl(folder, &format!("-d token={TOKEN} -c jar {url}/login")).await;
    let cookie = text.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.starts_with(&format!("__Host-mcpmeter-{}=", proxy.admin.port())), "{cookie}");
    assert!(cookie.ends_with("HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    let (_, text) = curl(folder, &format!("-b jar {url}/metrics")).await;
    assert!(text.starts_with("HTTP/1.1 200 OK"), "curl takes the cookie and sends it: {text}");
    for asking in ["doctor", "healthcheck"] {
        let (code, stdout, stderr) = command(&proxy, &[asking]);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
    }
}

#[tokio::test]
async fn a_command_tells_its_token_to_nobody_but_the_port_of_the_configuration() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let keys = format!("token = {{ file = \"token\" }}\n{TLS}client_auth = \"optional\"\n");
    let proxy = Guarded::start_in(certificates(&servers, &clients), &keys);
    // Somebody else on the same port, with a certificate of the same authority.
    let impostor = certificates(&servers, &clients);
    fs::copy(proxy.folder.path().join("mcpmeter.toml"), impostor.path().join("mcpmeter.toml"))
        .expect("copied");
    fs::copy(proxy.folder.path().join("token"), impostor.path().join("token")).expect("copied");
    let address = proxy.admin.to_string();
    let mut tail = Spawned::start(impostor.path(), &["tail", "--admin", &address]);
    assert_eq!(tail.wait(), Some(3));
    assert!(tail.stderr.now().join("\n").contains("certificate"), "{:?}", tail.stderr.now());
    // A probe tells nothing, and has to work while a certificate is being exchanged.
    assert_eq!(run(impostor.path(), &["healthcheck", "--admin", &address]).0, Some(0));
}
