//! The two shipped files do what they say.

use mcpmeter_config::{
    Admin, Command, Config, HttpUpstream, Log, MINIMAL, Privacy, ProcessHint, Proxy, REFERENCE, Route,
    Source, Store, StoreUrl, Upstream, load,
};

fn parse(text: &str) -> Config {
    load(&Source { text, ..Source::default() }).unwrap_or_else(|problems| panic!("{problems}"))
}

fn only_route() -> Route {
    let upstream: HttpUpstream = "http://127.0.0.1:3001".parse().expect("a URL");
    Route::new("everything", Upstream::Http(upstream))
}

#[test]
fn the_reference_file_equals_the_defaults() {
    let defaults = Config {
        proxy: Proxy::default(),
        admin: Admin::default(),
        store: Store::default(),
        privacy: Privacy::default(),
        log: Log::default(),
        routes: vec![only_route()],
    };
    assert_eq!(parse(REFERENCE), defaults);
}

#[test]
fn the_minimal_file_has_one_route_and_the_defaults() {
    assert_eq!(parse(MINIMAL), Config { routes: vec![only_route()], ..Config::default() });
}

#[test]
fn the_keys_without_a_default_work_when_the_hash_is_removed() {
    let is_prose = |rest: &str| rest.is_empty() || rest.starts_with(' ');
    let uncomment =
        |line: &'static str| line.strip_prefix('#').filter(|rest| !is_prose(rest)).unwrap_or(line);
    let lines: Vec<&str> = REFERENCE.lines().map(uncomment).collect();
    let config = parse(&lines.join("\n"));
    let tls = config.proxy.tls.expect("TLS is set");
    assert_eq!((tls.cert_file, tls.key_file), ("cert.pem".into(), "key.pem".into()));
    let [everything, files, crm] = config.routes.as_slice() else { panic!("three routes") };
    assert_eq!(everything.instance_id, "inst_1");
    assert_eq!(everything.user_id.as_deref(), Some("u_1"));
    assert_eq!(everything.organization_id.as_deref(), Some("org_1"));
    assert_eq!(everything.connect_timeout_ms, 2000);
    assert_eq!(everything.max_exchanges, Some(100));
    assert_eq!(everything.first_byte_timeout_ms, Some(60_000));
    assert_eq!(everything.total_timeout_ms, Some(600_000));
    assert_eq!(everything.stream_timeout_ms, Some(86_400_000));
    assert_eq!(everything.process, Some(ProcessHint::Name("my-server".to_owned())));
    let Upstream::Stdio(command) = &files.upstream else { panic!("a command") };
    assert_eq!(command.words.len(), 4);
    assert_eq!(command.env["LOG_LEVEL"].expose(), "debug");
    assert_eq!((command.cwd.as_deref(), command.max_memory_mib), (Some("/srv".as_ref()), Some(512)));
    // What stands there beside these is the default.
    let default = Command::new(command.words.clone());
    let (env, cwd, max_memory_mib) = (command.env.clone(), command.cwd.clone(), Some(512));
    assert_eq!(*command, Command { env, cwd, max_memory_mib, ..default });
    assert_eq!(crm.host.as_deref(), Some("crm.mcp.example.com"));
    assert_eq!(crm.ca_file.as_deref(), Some("internal-ca.pem".as_ref()));
    assert_eq!(crm.upstream.to_string(), "https://crm.internal:8443");
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let text = format!(
        "[proxy.tls]\ncert_file = \"c\"\nkey_file = \"/abs/k\"\n{MINIMAL}ca_file = \"ca\"\n\
         [[route]]\nname = \"b\"\nupstream = \"https://h\"\nca_file = \"ca\"\n"
    )
    .replace("http://127.0.0.1:3001", "https://127.0.0.1:3001");
    let source = Source { path: Some("/etc/mcpmeter/x.toml".as_ref()), text: &text, ..Source::default() };
    let config = load(&source).unwrap_or_else(|problems| panic!("{problems}"));
    let tls = config.proxy.tls.expect("TLS is set");
    assert_eq!((tls.cert_file, tls.key_file), ("/etc/mcpmeter/c".into(), "/abs/k".into()));
    assert_eq!(config.store.url, StoreUrl::Sqlite("/etc/mcpmeter/mcpmeter.db".into()));
    assert_eq!(config.store.outbox.to_str(), Some("/etc/mcpmeter/mcpmeter-outbox.db"));
    assert_eq!(config.routes[1].ca_file.as_deref(), Some("/etc/mcpmeter/ca".as_ref()));
}
