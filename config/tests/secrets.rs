//! Secrets are found where the file says, and shown nowhere.

use mcpmeter_config::{Config, Problems, Source, StoreUrl, load, load_file};

const ROUTE: &str = "[[route]]\nname = \"a\"\nupstream = \"http://h\"\n";
/// Stands for every password below.
const PASSWORD: &str = "geheim";

fn url(config: &Config) -> &str {
    match &config.store.url {
        StoreUrl::Postgres(url) => url.expose(),
        StoreUrl::Sqlite(file) => panic!("{file:?}"),
    }
}

#[track_caller]
fn assert_hidden(problems: &Problems) {
    let shown = [
        format!("{problems}"),
        format!("{problems:?}"),
        problems.render(true),
        problems.to_json().to_string(),
    ];
    for text in shown {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn a_secret_comes_from_the_environment() {
    let environment = [("PG".to_owned(), "postgres://u:geheim@h/d".to_owned())];
    let text = format!("[store]\nurl = {{ env = \"PG\" }}\n{ROUTE}");
    let config =
        load(&Source { text: &text, environment: &environment, ..Source::default() }).expect("valid");
    assert_eq!(url(&config), "postgres://u:geheim@h/d");
}

#[test]
fn a_secret_comes_from_a_file_beside_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mcpmeter.toml");
    std::fs::write(&path, format!("[store]\nurl = {{ file = \"pg-url\" }}\n{ROUTE}")).expect("writable");
    for ending in ["", "\n", "\r\n"] {
        let secret = format!("postgres://u:geheim@h/d{ending}");
        std::fs::write(folder.path().join("pg-url"), secret).expect("writable");
        let config = load_file(&path, &[], &[]).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(url(&config), "postgres://u:geheim@h/d");
    }
    std::fs::write(folder.path().join("pg-url"), "\n").expect("writable");
    let problems = load_file(&path, &[], &[]).expect_err("an empty secret");
    assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["secret-unreadable"]);
}

#[test]
fn a_configuration_does_not_show_its_secret() {
    let text = format!("[store]\nurl = \"postgres://u:geheim@h/d\"\n{ROUTE}");
    let config = load(&Source { text: &text, ..Source::default() }).expect("valid");
    assert_eq!(url(&config), "postgres://u:geheim@h/d");
    let StoreUrl::Postgres(secret) = &config.store.url else { panic!("PostgreSQL") };
    assert_eq!((format!("{secret}"), format!("{secret:?}")), ("****".to_owned(), "****".to_owned()));
    assert!(!format!("{config:?}").contains(PASSWORD));
}

/// Each line is wrong, or has a wrong neighbour that makes it shown.
#[test]
fn no_problem_shows_a_secret() {
    let lines = [
        "[store]\nurl = \"postgres://u:geheim@h /d\"",
        "[store]\nurl = \"postgres://h/d?password=geheim x\"",
        "[store]\nurl = \"Postgres://u:geheim@h/d\"",
        "[store]\nurl = \"postgre:u:geheim@h/d\"",
        "[store]\nurl = [\"u:geheim@h\"]",
        "[store]\nurl = \"\"\"\nx\ngeheim\"\"\"",
        "[store]\nurl = \"postgres://u:geheim@h/d",
        "[store]\nurl = postgres://u:geheim@h/d",
        "[store]\nurl = { env = \"postgres://u:geheim@h/d\" }",
        "[store]\nurl = { file = \"postgres://u:geheim@h/d\" }",
        "[store]\nulr = \"postgres://u:geheim@h/d\"",
        "[store]\nurl = \"postgres://u:geheim@h/d\"\nulr = 1",
        "# postgres://u:geheim@h/d\nx = 1",
        "[store]\npassword = \"geheim\"",
        "[store]\nPassword = [\"geheim\"]",
        "store = { url = \"u:geheim@h\" }",
        "[admin]\napi-key = 'geheim'",
        "[admin]\ntoken = \"geheim\"",
        "[admin]\ntoken = \"geheim-geheim-geheim-geheim\"",
        "[admin]\ntoken = [\"geheim\"]",
        "[admin]\ntoken = { value = \"geheim\" }",
        "[admin]\ntoken = { env = \"geheim-geheim/geheim+geheim=\" }",
        "[admin.token]\nvalue = \"geheim\"\nenv = [\"geheim\"]",
        "[admin]\ntokn = \"geheim\"",
        "[[route]]\nname = \"b\"\nupstream = \"http://u:geheim@h\"",
        "[[route]]\nname = \"b\"\nupstream = \"https://u:ge@heim:geheim@h/\"",
    ];
    for line in lines {
        let text = format!("{line}\n{ROUTE}");
        let problems = load(&Source { text: &text, ..Source::default() }).expect_err(line);
        assert_hidden(&problems);
    }
}

#[test]
fn no_problem_shows_the_value_of_a_variable_that_may_be_a_secret() {
    for name in [
        "MCPMETER_STORE__URL",
        "MCPMETER_STORE__PASSWORD",
        "MCPMETER_STORE__ULR",
        "MCPMETER_ADMIN__TOKEN",
        "MCPMETER_ADMIN__TOKN",
    ] {
        let environment = [(name.to_owned(), "u:geheim@h".to_owned())];
        let problems = load(&Source { text: ROUTE, environment: &environment, ..Source::default() });
        assert_hidden(&problems.expect_err(name));
    }
    let environment = [("PG".to_owned(), "u:geheim@h".to_owned())];
    let text = format!("[store]\nurl = {{ env = \"PG\" }}\n{ROUTE}");
    let problems = load(&Source { text: &text, environment: &environment, ..Source::default() });
    assert_hidden(&problems.expect_err("no URL"));
}
