//! Each kind of problem, with its place; and that one run finds them all.

use mcpmeter_config::{Place, Problem, Problems, Source, load, load_file};

const ROUTE: &str = "[[route]]\nname = \"a\"\nupstream = \"http://h\"\n";

fn problems_of(text: &str) -> Problems {
    let Err(problems) = load(&Source { text, ..Source::default() }) else { panic!("no problem in\n{text}") };
    problems
}

fn place(problem: &Problem) -> (&'static str, usize, usize) {
    match &problem.place {
        Place::File(position) => (problem.code, position.line, position.column),
        _ => (problem.code, 0, 0),
    }
}

/// The only problem of a text that a valid route follows.
#[track_caller]
fn expect(text: &str, code: &str, line: usize, column: usize) -> Problem {
    let problems = problems_of(&format!("{text}\n{ROUTE}"));
    let places: Vec<_> = problems.iter().map(place).collect();
    assert_eq!(places, [(code, line, column)], "{problems}");
    problems.iter().next().cloned().expect("one problem")
}

#[track_caller]
fn help(problem: &Problem) -> &str {
    problem.help.as_deref().expect("a help")
}

#[test]
fn an_unknown_key_is_refused_and_the_nearest_suggested() {
    let problem = expect("[proxy]\nlisen = \"127.0.0.1:1\"", "key-unknown", 2, 1);
    assert_eq!(help(&problem), "did you mean `listen`?");
    let problem = expect("[store]\ncolour = 1", "key-unknown", 2, 1);
    assert_eq!(
        help(&problem),
        "known here: url, outbox, migrate, queue_mib, queue_directory, outbox_max_mib, retention_days, compress_after_days, sqlite_max_mib, flush_timeout_ms"
    );
    let problem = expect("[prxy]\nx = 1", "key-unknown", 1, 2);
    assert_eq!(help(&problem), "did you mean `proxy`?");
    let problem = expect("[proxy.tls]\ncert_file = \"c\"\nkey_file = \"k\"\nca = \"x\"", "key-unknown", 4, 1);
    assert_eq!(problem.message, "unknown key `proxy.tls.ca`");
    expect("[[route]]\nname = \"b\"\nupstream = \"http://h\"\nurl = \"x\"", "key-unknown", 4, 1);
}

#[test]
fn a_value_of_another_type_is_refused() {
    let problem = expect("[proxy]\nworkers = \"2\"", "value-type", 2, 11);
    assert_eq!(problem.message, "invalid `proxy.workers`: expected an integer, found a string");
    expect("[proxy]\nlisten = 7300", "value-type", 2, 10);
    expect("[proxy]\npublic_hosts = \"h\"", "value-type", 2, 16);
    expect("[proxy]\npublic_hosts = [\"h\", 1]", "value-type", 2, 22);
    let problems = problems_of(&format!("[proxy]\npublic_hosts = [1, \"h\", 2]\n{ROUTE}"));
    let places: Vec<_> = problems.iter().map(place).collect();
    assert_eq!(places, [("value-type", 2, 17), ("value-type", 2, 25)]);
    expect("[store]\nmigrate = \"yes\"", "value-type", 2, 11);
    expect("[store]\nurl = 1.5", "value-type", 2, 7);
    expect("proxy = 3", "value-type", 1, 9);
    expect("[proxy]\ntls = true", "value-type", 2, 7);
}

#[test]
fn a_number_out_of_range_is_refused() {
    let problem = expect("[store]\nqueue_mib = 4_097", "value-range", 2, 13);
    assert_eq!(problem.message, "invalid `store.queue_mib`: it must be from 1 to 4096");
    expect("[store]\nqueue_mib = 0", "value-range", 2, 13);
    expect("[proxy]\nworkers = -1", "value-range", 2, 11);
    expect("[proxy]\nconnect_timeout_ms = 0", "value-range", 2, 22);
    expect("[proxy]\nmax_connections = -1", "value-range", 2, 19);
    expect("[proxy]\nrequest_head_timeout_ms = 3_600_001", "value-range", 2, 27);
    let route = "[[route]]\nname = \"b\"\nupstream = \"http://h\"\n";
    for key in ["max_exchanges", "first_byte_timeout_ms", "total_timeout_ms", "stream_timeout_ms"] {
        let problem = expect(&format!("{route}{key} = 0"), "value-range", 4, key.len() + 4);
        assert!(problem.message.starts_with(&format!("invalid `route.{key}`: it must be from 1 to ")));
    }
    expect("[proxy]\nmax_header_bytes = 0xfff", "value-range", 2, 20);
    expect("[proxy]\nmax_headers = 99999999999999999999999999", "value-range", 2, 15);
}

#[test]
fn a_word_that_is_no_choice_is_refused() {
    let problem = expect("[privacy]\nclient_ip = \"Full\"", "value-choice", 2, 13);
    assert_eq!(help(&problem), "did you mean \"full\"?");
    expect("[proxy]\nruntime = \"tokio\"", "value-choice", 2, 11);
    let route = "[[route]]\nname = \"b\"\nupstream = \"http://h\"\n";
    let problem = expect(&format!("{route}auth_rewrite = \"url\""), "value-choice", 4, 16);
    assert_eq!(help(&problem), "did you mean \"urls\"?");
    expect("[log]\nformat = \"\"", "value-choice", 2, 10);
}

#[test]
fn only_an_ip_address_with_a_port_is_listened_on() {
    let problem = expect("[proxy]\nlisten = \"localhost:8080\"", "value-invalid", 2, 10);
    assert_eq!(help(&problem), "host names are not looked up here; write \"127.0.0.1:8080\"");
    let problem = expect("[proxy]\nlisten = \":8080\"", "value-invalid", 2, 10);
    assert_eq!(help(&problem), "host names are not looked up here; write \"0.0.0.0:8080\"");
    expect("[admin]\nlisten = \"127.0.0.1\"", "value-invalid", 2, 10);
}

#[test]
fn proxy_and_admin_do_not_share_an_address() {
    let problem = expect(
        "[proxy]\nlisten = \"0.0.0.0:80\"\n[admin]\nlisten = \"127.0.0.1:80\"",
        "listen-collision",
        4,
        10,
    );
    assert_eq!(problem.related[0].position.line, 2);
    expect("[proxy]\nlisten = \"127.0.0.1:7301\"", "listen-collision", 2, 10);
    let free = format!("[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{ROUTE}");
    assert!(load(&Source { text: &free, ..Source::default() }).is_ok());
}

#[test]
fn admin_leaves_the_machine_only_if_it_asks_who_is_there() {
    let problem = expect("[admin]\nlisten = \"0.0.0.0:7301\"", "admin-open", 2, 10);
    assert!(help(&problem).contains("set `token = { file = \"path\" }`"), "{}", help(&problem));
    expect("[admin]\nlisten = \"[::ffff:10.0.0.1]:7301\"", "admin-open", 2, 10);
    // TLS by itself keeps nobody out.
    let tls = "[admin.tls]\ncert_file = \"c\"\nkey_file = \"k\"\n";
    expect(&format!("[admin]\nlisten = \"10.0.0.1:7301\"\n{tls}"), "admin-open", 2, 10);
    for allowed in [
        "\"[::1]:7301\"".to_owned(),
        "\"[::ffff:127.0.0.1]:7301\"".to_owned(),
        "\"10.0.0.1:7301\"\ntoken = { env = \"T\" }".to_owned(),
        format!("\"10.0.0.1:7301\"\n{tls}client_ca_file = \"ca\""),
    ] {
        let text = format!("[admin]\nlisten = {allowed}\n{ROUTE}");
        let environment = [("T".to_owned(), "0123456789abcdef01234567".to_owned())];
        let source = Source { text: &text, environment: &environment, ..Source::default() };
        assert!(load(&source).is_ok(), "{allowed}");
    }
}

#[test]
fn what_has_become_of_allow_remote_is_told() {
    let problem = expect("[admin]\nallow_remote = true", "key-retired", 2, 1);
    assert_eq!(problem.message, "`admin.allow_remote` is no longer there");
    assert!(help(&problem).contains("set `token = { file = \"path\" }`"), "{}", help(&problem));
    let environment = [("MCPMETER_ADMIN__ALLOW_REMOTE".to_owned(), "true".to_owned())];
    let problems = load(&Source { text: ROUTE, environment: &environment, ..Source::default() });
    let codes: Vec<_> = problems.expect_err("retired").iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["key-retired"]);
}

#[test]
fn a_token_is_long_printable_and_not_in_the_file() {
    expect("[admin]\ntoken = \"0123456789abcdef01234567\"", "secret-reference", 2, 9);
    for (token, label) in
        [("0123456789abcdef0123456", "too short"), ("0123456789 abcdef 01234567", "not a token")]
    {
        let environment = [("MCPMETER_ADMIN__TOKEN".to_owned(), token.to_owned())];
        let problems = load(&Source { text: ROUTE, environment: &environment, ..Source::default() });
        let problems: Vec<_> = problems.expect_err(token).iter().cloned().collect();
        assert_eq!((problems.len(), problems[0].label.as_str()), (1, label));
        assert!(help(&problems[0]).contains("openssl rand"), "{problems:?}");
    }
}

#[test]
fn a_key_about_clients_certificates_needs_an_authority() {
    for section in ["proxy", "admin"] {
        let text =
            format!("[{section}.tls]\ncert_file = \"c\"\nkey_file = \"k\"\nclient_auth = \"optional\"");
        let problem = expect(&text, "key-unused", 4, 15);
        assert_eq!(
            problem.message,
            format!("`{section}.tls.client_auth` does nothing without `client_ca_file`")
        );
    }
    expect(
        "[proxy.tls]\ncert_file = \"c\"\nkey_file = \"k\"\nclient_ca_file = \"ca\"\nclient_auth = true",
        "value-type",
        5,
        15,
    );
}

#[test]
fn tls_needs_both_files() {
    let problem = expect("[proxy.tls]\ncert_file = \"c\"", "key-missing", 1, 1);
    assert_eq!(problem.message, "`proxy.tls.key_file` is missing");
    expect("[proxy.tls]\ncert_file = \"\"\nkey_file = \"k\"", "value-invalid", 2, 13);
}

#[test]
fn a_store_is_sqlite_or_postgres() {
    for url in
        ["mysql://h/d", "postgres://", "postgres://h /d", "sqlite:", "sqlite::memory:", "sqlite:x.db?mode=ro"]
    {
        expect(&format!("[store]\nurl = \"{url}\""), "value-invalid", 2, 7);
    }
}

#[test]
fn a_secret_is_a_reference_that_can_be_read() {
    expect("[store]\nurl = { env = \"MISSING\" }", "secret-unreadable", 2, 7);
    expect("[store]\nurl = { file = \"/nonexistent/secret\" }", "secret-unreadable", 2, 7);
    for reference in
        ["{ vault = \"x\" }", "{}", "{ env = 1 }", "{ env = \"A\", file = \"b\" }", "{ env = \"a://b\" }"]
    {
        expect(&format!("[store]\nurl = {reference}"), "secret-reference", 2, 7);
    }
}

#[test]
fn a_misspelled_log_level_is_refused() {
    let problem = expect("[log]\nlevel = \"inof\"", "value-invalid", 2, 9);
    assert_eq!(help(&problem), "did you mean `info`?");
    expect("[log]\nlevel = \"info,hyper=wran\"", "value-invalid", 2, 9);
    expect("[log]\nlevel = \"\"", "value-invalid", 2, 9);
    expect("[log]\nlevel = \"info,,hyper=warn\"", "value-invalid", 2, 9);
    for level in ["WARN", "info, mcpmeter_journal=debug", "hyper", "info,mcpmeter[call{id=3}]=trace"] {
        let text = format!("[log]\nlevel = \"{level}\"\n{ROUTE}");
        assert!(load(&Source { text: &text, ..Source::default() }).is_ok(), "{level}");
    }
}

#[test]
fn a_configuration_without_routes_is_refused() {
    for text in ["", "route = []", "# nothing\n[proxy]\n"] {
        let problems = problems_of(text);
        assert_eq!(problems.iter().map(place).collect::<Vec<_>>(), [("route-missing", 0, 0)]);
        assert!(problems.render(false).contains("[[route]]"));
    }
}

#[test]
fn a_route_needs_two_brackets() {
    let problems = problems_of("[route]\nname = \"a\"\n");
    assert_eq!(problems.iter().map(place).collect::<Vec<_>>(), [("value-type", 1, 1)]);
    assert!(problems.render(false).contains("two brackets"));
    let problems = problems_of("route = [1]");
    assert_eq!(problems.iter().map(place).collect::<Vec<_>>(), [("value-type", 1, 10)]);
}

#[test]
fn a_route_needs_a_name_that_can_stand_in_a_path() {
    expect("[[route]]\nupstream = \"http://h\"", "key-missing", 1, 1);
    let long = "a".repeat(64);
    for name in ["", "A", "a/b", "a.b", "-a", "_a", "ä", long.as_str()] {
        expect(&format!("[[route]]\nname = \"{name}\"\nupstream = \"http://h\""), "value-invalid", 2, 8);
    }
}

#[test]
fn names_and_hosts_are_unique() {
    let problems = problems_of(&format!("{ROUTE}{ROUTE}"));
    let problem = problems.iter().next().expect("a problem");
    assert_eq!(place(problem), ("route-duplicate-name", 5, 8));
    assert_eq!((problem.related[0].position.line, problem.related[0].position.column), (2, 8));
    let host =
        |name, host| format!("[[route]]\nname = \"{name}\"\nhost = \"{host}\"\nupstream = \"http://h\"\n");
    let problems = problems_of(&(host("b", "x.example") + &host("c", "X.Example")));
    assert_eq!(problems.iter().map(place).collect::<Vec<_>>(), [("route-duplicate-host", 7, 8)]);
}

#[test]
fn a_host_is_a_bare_name() {
    for host in ["", "h:80", "http://h", "*.h", "a..b", "h.", "bücher.example", "a b"] {
        let text = format!("[[route]]\nname = \"b\"\nhost = \"{host}\"\nupstream = \"http://h\"");
        expect(&text, "value-invalid", 3, 8);
        expect(&format!("[proxy]\npublic_hosts = [\"{host}\"]"), "value-invalid", 2, 17);
    }
}

#[test]
fn a_command_is_words_that_no_shell_reads() {
    let command = |rest: &str| format!("[[route]]\nname = \"b\"\ncommand = {rest}");
    let problem = expect(&command("\"npx -y server\""), "value-type", 3, 11);
    assert!(help(&problem).contains("no shell reads it"));
    expect(&command("[]"), "value-invalid", 3, 11);
    expect(&command("[\"\", \"x\"]"), "value-invalid", 3, 11);
    expect(&command("[\"npx\", 1]"), "value-type", 3, 11);
    expect(&command("[\"npx\", \"a\\u0000b\"]"), "value-invalid", 3, 11);
    expect(&command("[\"npx\"]\nmax_processes = 0"), "value-range", 4, 17);
    expect(&command("[\"npx\"]\nisolation = \"none\""), "value-choice", 4, 13);
    expect(&command("[\"npx\"]\nenv = { \"A=B\" = \"c\" }"), "value-invalid", 4, 7);
    let problem =
        expect(&command("[\"npx\"]\nenv = { A = { env = \"NOT_SET\" } }"), "secret-unreadable", 4, 7);
    assert!(problem.message.contains("`A`") && problem.message.contains("NOT_SET"));
}

const HTTP: &str = "[[route]]\nname = \"b\"\nupstream = \"http://h\"\n";

#[test]
fn a_process_is_named_in_one_of_three_ways() {
    for hint in ["{}", "{ pid = 1 }", "{ name = \"a\", port = 1 }"] {
        expect(&format!("{HTTP}process = {hint}"), "value-invalid", 4, 11);
    }
    expect(&format!("{HTTP}process = 1"), "value-type", 4, 11);
    expect(&format!("{HTTP}process = {{ port = 70000 }}"), "value-range", 4, 11);
}

#[test]
fn a_key_that_does_nothing_for_its_kind_of_server_is_a_problem() {
    expect(&format!("{HTTP}max_processes = 3"), "key-unused", 4, 1);
    let command = "[[route]]\nname = \"b\"\ncommand = [\"npx\"]\n";
    expect(&format!("{command}preserve_host = true"), "key-unused", 4, 1);
    expect(&format!("{command}process = {{ port = 1 }}"), "key-unused", 4, 1);
}

#[test]
fn a_route_has_exactly_one_upstream() {
    let problem = expect("[[route]]\nname = \"b\"", "key-missing", 1, 1);
    assert_eq!(problem.message, "`route.upstream` is missing");
    let both = "[[route]]\nname = \"b\"\nupstream = \"http://h\"\ncommand = [\"npx\"]";
    let problem = expect(both, "route-two-upstreams", 4, 11);
    assert_eq!(problem.related[0].position.line, 3);
    expect("[[route]]\nname = \"b\"\nupstream = \"h:80\"", "value-invalid", 3, 12);
}

#[test]
fn extra_roots_without_tls_are_refused() {
    let text = "[[route]]\nname = \"b\"\nupstream = \"http://h\"\nca_file = \"x\"";
    expect(text, "ca-file-unused", 4, 11);
    let route = "[[route]]\nname = \"b\"\nupstream = \"https://h\"\n";
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        let problem = expect(&format!("{route}client_{one}_file = \"x\""), "key-missing", 1, 1);
        assert_eq!(problem.message, format!("`route.client_{other}_file` is missing"));
    }
    let both = route.replace("https", "http") + "client_cert_file = \"x\"\nclient_key_file = \"y\"\n";
    let problems = problems_of(&format!("{both}{ROUTE}"));
    let places: Vec<_> = problems.iter().map(place).collect();
    assert_eq!(places, [("client-certificate-unused", 4, 20), ("client-certificate-unused", 5, 19)]);
}

#[test]
fn a_pattern_that_cannot_be_used_is_refused_with_the_reason() {
    let privacy = |redact: &str| format!("[privacy]\nredact = [{redact}]\n{ROUTE}");
    for (redact, place_of_it, reason) in [
        ("{ name = 'a', pattern = 'E-(\\d{6}' }", ("value-invalid", 2, 35), "unclosed group"),
        ("{ name = 'a', pattern = '\\p{Greek}' }", ("value-invalid", 2, 35), "Unicode"),
        ("{ name = 'a', pattern = 'x*' }", ("value-invalid", 2, 35), "matches the empty text"),
        ("{ name = 'a', pattern = '(\\w{99}){99}' }", ("value-invalid", 2, 35), "more than 1048576 bytes"),
        ("{ name = 'a', pattern = '' }", ("value-invalid", 2, 35), "empty"),
        ("{ name = 'a]', pattern = 'x' }", ("value-invalid", 2, 20), "place of a text"),
        ("{ name = 'a', patern = 'x', pattern = 'y' }", ("key-unknown", 2, 25), "privacy.redact.patern"),
        ("{ name = 'a' }", ("key-missing", 2, 11), "`privacy.redact.pattern` is missing"),
        ("'E-1'", ("value-type", 2, 11), "expected a table"),
    ] {
        let problems = problems_of(&privacy(redact));
        let [problem] = problems.iter().as_slice() else { panic!("{problems}") };
        assert_eq!(place(problem), place_of_it, "{problems}");
        assert!(problem.message.contains(reason), "{problems}");
    }
    let both = problems_of(&privacy("{ name = '', pattern = '(' }, { name = 'b', pattern = '[' }"));
    assert_eq!(both.iter().count(), 3, "{both}");
    let many = problems_of(&privacy(&"{ name = 'a', pattern = 'x' },".repeat(65)));
    assert!(many.to_string().contains("more than 64 patterns"), "{many}");
    expect("[privacy]\nredact = 'E-1'", "value-type", 2, 10);
    expect("[privacy]\nkeep = ['email', 'e-mail']", "value-choice", 2, 18);
}

#[test]
fn all_problems_are_found_in_one_run() {
    let text = "[proxy]\nworkers = true\nlisen = 1\n[log]\nlevel = \"loud=x\"\n[[route]]\nname = \"A\"\nhost = \"*\"\n";
    let problems = problems_of(text);
    let places: Vec<_> = problems.iter().map(place).collect();
    let expected = [
        ("value-type", 2, 11),
        ("key-unknown", 3, 1),
        ("value-invalid", 5, 9),
        ("key-missing", 6, 1),
        ("value-invalid", 7, 8),
        ("value-invalid", 8, 8),
    ];
    assert_eq!(places, expected);
}

#[test]
fn all_syntax_errors_are_found_with_the_sound_lines_problems() {
    let text = "[proxy]\nlisten = 127.0.0.1:7300\nworkers = 1\nworkers = 2\nmax_headers = 1\n[[route\nname = \"a\"\n";
    let problems = problems_of(text);
    let places: Vec<_> = problems.iter().map(place).collect();
    let expected =
        [("toml-syntax", 2, 15), ("toml-syntax", 4, 1), ("value-range", 5, 15), ("toml-syntax", 6, 8)];
    assert_eq!(places, expected, "{problems}");
}

#[test]
fn columns_count_characters() {
    expect("proxy = { public_hosts = ['ä'] }", "value-invalid", 1, 27);
    expect("privacy = { 'client_ip' = 'äöü' }", "value-choice", 1, 27);
    expect("log = { level = 'ä€', x = 1 }", "key-unknown", 1, 23);
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("none.toml");
    let problems = load_file(&missing, &[], &[]).expect_err("no file");
    assert_eq!(problems.iter().map(place).collect::<Vec<_>>(), [("file-missing", 0, 0)]);
    assert!(problems.render(false).contains("upstream = "));
    let problems = load_file(folder.path(), &[], &[]).expect_err("a folder");
    assert_eq!(problems.iter().map(place).collect::<Vec<_>>(), [("file-unreadable", 0, 0)]);
    std::fs::write(&missing, [0xff, b'\n']).expect("writable");
    let problems = load_file(&missing, &[], &[]).expect_err("not UTF-8");
    assert_eq!(problems.iter().map(place).collect::<Vec<_>>(), [("file-unreadable", 0, 0)]);
}

/// Cut anywhere, or with something strange put in anywhere, a file gives problems or a configuration.
#[test]
fn no_text_makes_it_panic() {
    let text = format!(
        "[proxy]\r\npublic_hosts = ['ä', \"\"\"\nö\"\"\"]\ntls.key_file = 1e3 # €\n{ROUTE}host = \"ü\""
    );
    let read = |text: &str| {
        if let Err(problems) = load(&Source { text, ..Source::default() }) {
            assert!(problems.render(true).contains("found in") && problems.to_json().is_object());
        }
    };
    for (at, _) in text.char_indices() {
        read(&text[..at]);
        for strange in ["\"", "[", "\n", "€", "\0", "\u{feff}", "{ x = ", "://é@", "'''"] {
            read(&format!("{}{strange}{}", &text[..at], &text[at..]));
        }
    }
}
