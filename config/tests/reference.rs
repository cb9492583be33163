//! The two shipped files do what they say.

use mcpmeter_config::{
    Admin, Algorithm, Bodies, ClientAuth, Command, Config, Effect, HttpUpstream, Identity, Jwks, Log,
    MINIMAL, Per, Period, Personal, Policy, Privacy, ProcessHint, Proxy, REFERENCE, Record, Route, Secret,
    Source, Store, StoreUrl, Tls, Upstream, load,
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
        record: Record::default(),
        identity: Identity::default(),
        log: Log::default(),
        policy: Policy::default(),
        limits: Vec::new(),
        quotas: Vec::new(),
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
    let (text, token) = (lines.join("\n"), "a-token-of-the-reference");
    let environment = [
        ("ADMIN_TOKEN".to_owned(), token.to_owned()),
        ("CRM_AUTHORIZATION".to_owned(), "Basic YTpi".to_owned()),
        ("BODIES_KEY".to_owned(), "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".to_owned()),
    ];
    let source = Source { text: &text, environment: &environment, ..Source::default() };
    let config = load(&source).unwrap_or_else(|problems| panic!("{problems}"));
    let tls = Tls {
        cert_file: "cert.pem".into(),
        key_file: "key.pem".into(),
        client_ca_file: Some("client-ca.pem".into()),
        client_auth: ClientAuth::Required,
    };
    assert_eq!((&config.proxy.tls, &config.admin.tls), (&Some(tls.clone()), &Some(tls)));
    assert_eq!(config.admin.token.as_ref().map(Secret::expose), Some(token));
    let [rule] = config.policy.rules.as_slice() else { panic!("one rule") };
    assert_eq!((rule.effect, rule.network.as_ref().map(Vec::len)), (Effect::Deny, Some(2)));
    let [limit] = config.limits.as_slice() else { panic!("one limit") };
    assert_eq!((limit.name.as_str(), limit.per, limit.burst), ("fair-share", Per::Key, 10));
    assert_eq!((limit.rate.map(|rate| rate.seconds), limit.concurrency), (Some(60), Some(4)));
    let [quota] = config.quotas.as_slice() else { panic!("one quota") };
    assert_eq!((quota.per, quota.calls, quota.period), (Per::User, 1_000, Period::Day));
    let [everything, files, crm] = config.routes.as_slice() else { panic!("three routes") };
    assert_eq!(everything.instance_id, "inst_1");
    assert_eq!(everything.user_id.as_deref(), Some("u_1"));
    assert_eq!(everything.organization_id.as_deref(), Some("org_1"));
    assert_eq!(everything.connect_timeout_ms, 2000);
    assert_eq!(everything.max_exchanges, Some(100));
    assert_eq!(everything.first_byte_timeout_ms, Some(60_000));
    assert_eq!(everything.total_timeout_ms, Some(600_000));
    assert_eq!(everything.stream_timeout_ms, Some(86_400_000));
    assert_eq!((config.record.bodies_key.len(), everything.bodies), (1, Bodies::Errors));
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
    assert_eq!(crm.client_cert_file.as_deref(), Some("client.pem".as_ref()));
    assert_eq!(crm.client_key_file.as_deref(), Some("client-key.pem".as_ref()));
    assert_eq!(crm.upstream.to_string(), "https://crm.internal:8443");
    check_identities(&config);
}

fn check_identities(config: &Config) {
    let Identity::Passthrough { tokens: Some(tokens) } = &config.identity else { panic!("tokens are read") };
    assert_eq!((tokens.issuer.as_str(), tokens.user_claim.as_str()), ("https://login.example.com", "sub"));
    assert_eq!((tokens.algorithms.as_slice(), tokens.audience.len()), (Algorithm::USUAL.as_slice(), 1));
    assert!(
        matches!(&tokens.jwks, Jwks::Url { url, ca_file: Some(_) } if url.base_path == "/.well-known/jwks.json")
    );
    let [
        Identity::Header { user, networks, .. },
        Identity::Jwt { tokens, scopes, .. },
        Identity::ApiKey { .. },
    ] = [0, 1, 2].map(|number: usize| &config.routes[number].identity)
    else {
        panic!("each has its own")
    };
    assert_eq!((user.as_str(), networks.len()), ("x-forwarded-user", 2));
    assert_eq!((&tokens.jwks, scopes.len()), (&Jwks::File("login.jwks.json".into()), 1));
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

#[test]
fn patterns_and_kinds_are_read() {
    let text = format!(
        "[privacy]\nkeep = [\"email\", \"my_number\"]\n[[privacy.redact]]\nname = \"employee\"\npattern = 'E-\\d{{6}}'\n{MINIMAL}"
    );
    let privacy = parse(&text).privacy;
    assert_eq!(privacy.keep, [Personal::Email, Personal::MyNumber]);
    let [pattern] = privacy.redact.as_slice() else { panic!("one pattern") };
    assert_eq!(pattern.name, "employee");
    assert!(pattern.regex.is_match("E-123456") && !pattern.regex.is_match("E-12345"));
}
