//! Flag, environment, `DATABASE_URL`, file, default: the stronger wins.

use mcpmeter_config::{Config, Flag, Place, Problems, Runtime, Source, StoreUrl, load};

const ROUTE: &str = "[[route]]\nname = \"a\"\nupstream = \"http://h\"\n";

fn read(text: &str, environment: &[(&str, &str)], flags: &[Flag<'_>]) -> Result<Config, Problems> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment: Vec<_> = environment.iter().map(own).collect();
    let text = format!("{text}\n{ROUTE}");
    let path = Some("/etc/mcpmeter.toml".as_ref());
    load(&Source { path, text: &text, environment: &environment, flags })
}

fn expect(text: &str, environment: &[(&str, &str)], flags: &[Flag<'_>]) -> Config {
    read(text, environment, flags).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problem(environment: &[(&str, &str)], flags: &[Flag<'_>]) -> (&'static str, Place, String, String) {
    let problems = read("", environment, flags).expect_err("a problem");
    let [problem] = problems.iter().as_slice() else { panic!("{problems}") };
    (problem.code, problem.place.clone(), problem.message.clone(), problem.help.clone().unwrap_or_default())
}

fn postgres(config: &Config) -> &str {
    match &config.store.url {
        StoreUrl::Postgres(url) => url.expose(),
        StoreUrl::Sqlite(file) => panic!("{file:?}"),
    }
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let (file, name) = ("[proxy]\nworkers = 1", "MCPMETER_PROXY__WORKERS");
    let flag = Flag { name: "--workers", key: "proxy.workers", value: "3" };
    assert_eq!(expect("", &[], &[]).proxy.workers, 0);
    assert_eq!(expect(file, &[], &[]).proxy.workers, 1);
    assert_eq!(expect(file, &[(name, "2")], &[]).proxy.workers, 2);
    assert_eq!(expect(file, &[(name, "2")], &[flag]).proxy.workers, 3);
}

#[test]
fn database_url_beats_the_file_but_not_our_own_variable() {
    let file = "[store]\nurl = \"sqlite:x.db\"";
    let database = ("DATABASE_URL", "postgres://h/general");
    assert_eq!(postgres(&expect(file, &[database], &[])), "postgres://h/general");
    let own = ("MCPMETER_STORE__URL", "postgresql://h/own");
    assert_eq!(postgres(&expect(file, &[database, own], &[])), "postgresql://h/own");
}

#[test]
fn a_database_url_of_another_kind_is_not_ours() {
    for url in ["mysql://h/d", "sqlite:other.db", ""] {
        let config = expect("", &[("DATABASE_URL", url)], &[]);
        assert_eq!(config.store.url, StoreUrl::Sqlite("/etc/mcpmeter.db".into()));
    }
}

#[test]
fn a_variable_takes_the_type_of_its_key() {
    let environment = [
        ("MCPMETER_PROXY__LISTEN", "[::1]:0"),
        ("MCPMETER_PROXY__PUBLIC_HOSTS", "a.example, B.example,"),
        ("MCPMETER_PROXY__RUNTIME", "shared"),
        ("MCPMETER_PROXY__TLS__CERT_FILE", "c.pem"),
        ("MCPMETER_PROXY__TLS__KEY_FILE", "/k.pem"),
        ("MCPMETER_STORE__MIGRATE", "false"),
        ("MCPMETER_STORE__URL", "sqlite:here.db"),
    ];
    let config = expect("", &environment, &[]);
    assert_eq!(config.proxy.listen.to_string(), "[::1]:0");
    assert_eq!(config.proxy.public_hosts, ["a.example", "b.example"]);
    assert_eq!(config.proxy.runtime, Runtime::Shared);
    assert!(!config.store.migrate);
    let tls = config.proxy.tls.expect("TLS is set");
    // A path from the environment starts at the current directory, not at the folder of the file.
    assert_eq!((tls.cert_file, tls.key_file), ("c.pem".into(), "/k.pem".into()));
    assert_eq!(config.store.url, StoreUrl::Sqlite("here.db".into()));
}

#[test]
fn an_overridden_value_is_not_looked_at() {
    let file = "[store]\nurl = { env = \"NOT_SET\" }";
    assert_eq!(postgres(&expect(file, &[("MCPMETER_STORE__URL", "postgres://h/d")], &[])), "postgres://h/d");
}

#[test]
fn a_wrong_variable_is_named() {
    let variable = |name: &str| Place::Variable(name.to_owned());
    for (name, value) in [
        ("MCPMETER_PROXY__WORKERS", "many"),
        ("MCPMETER_PROXY__WORKERS", ""),
        ("MCPMETER_STORE__MIGRATE", "yes"),
    ] {
        let (code, place, ..) = problem(&[(name, value)], &[]);
        assert_eq!((code, place), ("value-type", variable(name)));
    }
    let (code, place, message, _) = problem(&[("MCPMETER_STORE__QUEUE_MIB", "-5")], &[]);
    assert_eq!((code, place), ("value-range", variable("MCPMETER_STORE__QUEUE_MIB")));
    assert_eq!(message, "invalid `store.queue_mib`: it must be from 1 to 4096");
}

#[test]
fn a_variable_that_sets_nothing_is_refused_and_the_nearest_suggested() {
    let (code, _, message, help) = problem(&[("MCPMETER_PROXY__LISEN", "x")], &[]);
    assert_eq!((code, message.as_str()), ("variable-unknown", "`MCPMETER_PROXY__LISEN` sets no key"));
    assert_eq!(help, "did you mean `MCPMETER_PROXY__LISTEN`?");
    let (code, ..) = problem(&[("MCPMETER_PROXY__TLS", "x")], &[]);
    assert_eq!(code, "variable-unknown");
}

#[test]
fn a_variable_without_a_double_underscore_is_not_ours() {
    expect("", &[("MCPMETER_CONFIG", "/x"), ("MCPMETER_URL", "y"), ("OTHER__KEY", "z")], &[]);
}

#[test]
fn routes_cannot_be_set_by_the_environment() {
    for name in ["MCPMETER_ROUTE__NAME", "MCPMETER_ROUTES__NAME", "MCPMETER_ROUTE__0__NAME"] {
        let (code, _, _, help) = problem(&[(name, "b")], &[]);
        assert_eq!(
            (code, help.as_str()),
            ("variable-unknown", "routes are set in the file only, as [[route]]")
        );
    }
}

#[test]
fn a_wrong_flag_is_named() {
    let place = Place::Flag("--listen".to_owned());
    let flag = Flag { name: "--listen", key: "proxy.listen", value: "localhost:1" };
    let (code, named, ..) = problem(&[], &[flag]);
    assert_eq!((code, &named), ("value-invalid", &place));
    let (code, named, _, help) = problem(&[], &[Flag { key: "proxy.lisen", ..flag }]);
    assert_eq!((code, &named, help.as_str()), ("flag-unknown", &place, "did you mean `proxy.listen`?"));
}

#[test]
fn half_of_tls_in_the_file_and_half_in_the_environment_is_whole() {
    let file = "[proxy.tls]\ncert_file = \"c\"";
    let config = expect(file, &[("MCPMETER_PROXY__TLS__KEY_FILE", "k")], &[]);
    assert_eq!(config.proxy.tls.expect("TLS is set").cert_file.to_str(), Some("/etc/c"));
    let (code, ..) = problem(&[("MCPMETER_PROXY__TLS__KEY_FILE", "k")], &[]);
    assert_eq!(code, "key-missing");
}
