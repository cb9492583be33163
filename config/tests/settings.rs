//! The values that are in force can be shown: all of them, whose word each one is, and no secret.

use mcpmeter_config::{Flag, Place, REFERENCE, Setting, Source, load, settings};

const ROUTE: &str = "[[route]]\nname = \"a\"\nupstream = \"http://h\"\n";

#[track_caller]
fn read(source: &Source<'_>) -> Vec<Setting> {
    settings(source).unwrap_or_else(|problems| panic!("{problems}"))
}

/// As the file that says the same.
fn to_toml(settings: &[Setting]) -> String {
    let line = |setting: &Setting| {
        let header = if setting.is_first { format!("{}\n", setting.table) } else { String::new() };
        format!("{header}{} = {}\n", setting.key, setting.value)
    };
    settings.iter().map(line).collect()
}

fn find<'s>(settings: &'s [Setting], table: &str, key: &str) -> &'s Setting {
    let found = settings.iter().find(|setting| (&*setting.table, setting.key) == (table, key));
    found.unwrap_or_else(|| panic!("no {key} in {table}: {settings:#?}"))
}

#[test]
fn what_is_shown_is_the_same_configuration() {
    let is_prose = |rest: &str| rest.is_empty() || rest.starts_with(' ');
    let uncomment =
        |line: &'static str| line.strip_prefix('#').filter(|rest| !is_prose(rest)).unwrap_or(line);
    // A variable's own text is no reference, and is masked.
    let lines = REFERENCE.lines().map(uncomment).filter(|line| !line.starts_with("env = "));
    let everything = lines.collect::<Vec<_>>().join("\n");
    let environment = [
        ("ADMIN_TOKEN", "a-token-of-the-reference"),
        ("CRM_AUTHORIZATION", "Basic YTpi"),
        ("BODIES_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
        ("MCPMETER_PROXY__WORKERS", "3"),
        ("MCPMETER_PROXY__TRUSTED_PROXIES", "10.0.0.1, 10.0.0.2"),
        ("MCPMETER_STORE__MIGRATE", "false"),
        ("MCPMETER_LOG__LEVEL", "info,\"quoted\\"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    for text in [REFERENCE, &everything, ROUTE] {
        let source = Source { text, environment: &environment, ..Source::default() };
        let shown = to_toml(&read(&source));
        let again = Source { text: &shown, environment: &environment[..3], ..Source::default() };
        let again = load(&again).unwrap_or_else(|problems| panic!("{problems}\n{shown}"));
        assert_eq!(again, load(&source).expect("valid"), "{shown}");
    }
}

#[test]
fn each_value_says_whose_word_it_is() {
    let text = format!(
        "[proxy]\nmax_headers = 99\nworkers = 1\n{ROUTE}[[route]]\nname = \"b\"\nhost = \"b.example\"\nupstream = \"http://i\"\n"
    );
    let environment = [("MCPMETER_PROXY__WORKERS".to_owned(), "2".to_owned())];
    let flags = [Flag { name: "--listen", key: "proxy.listen", value: "127.0.0.1:0" }];
    let settings =
        read(&Source { text: &text, environment: &environment, flags: &flags, ..Source::default() });
    let listen = find(&settings, "[proxy]", "listen");
    assert_eq!((&*listen.value, &listen.place), ("\"127.0.0.1:0\"", &Place::Flag("--listen".to_owned())));
    let workers = find(&settings, "[proxy]", "workers");
    assert_eq!(
        (&*workers.value, &workers.place),
        ("2", &Place::Variable("MCPMETER_PROXY__WORKERS".to_owned()))
    );
    let headers = find(&settings, "[proxy]", "max_headers");
    assert!(matches!(&headers.place, Place::File(position) if position.line == 2) && headers.value == "99");
    let level = find(&settings, "[log]", "level");
    assert_eq!((&*level.value, &level.place), ("\"info\"", &Place::Nowhere));
    let routes: Vec<_> = settings.iter().filter(|setting| setting.table == "[[route]]").collect();
    let told: Vec<_> = routes.iter().map(|setting| (setting.key, setting.is_first)).collect();
    let expected =
        [("name", true), ("upstream", false), ("name", true), ("host", false), ("upstream", false)];
    assert_eq!(told, expected);
}

#[test]
fn no_secret_is_shown_wherever_it_stands() {
    let text = "[store]\nurl = \"postgres://u:geheim@h/d\"\n[identity]\nmode = \"api_key\"\nupstream_authorization = \"geheim geheim\"\n\
                [[route]]\nname = \"a\"\ncommand = [\"x\", \"--api-key\", \"geheim\", \"--token=geheim\", \"-v\"]\nenv = { LOG = \"geheim\", OTHER = { env = \"OTHER\" } }\n[route.identity]\nmode = \"none\"\n";
    let environment = [
        ("OTHER", "geheim"),
        ("MCPMETER_ADMIN__TOKEN", "geheim-geheim-geheim-geheim"),
        ("MCPMETER_STORE__URL", "postgres://u:geheim@other/d"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    for environment in [&environment[..1], &environment[..]] {
        let settings = read(&Source { text, environment, ..Source::default() });
        assert!(!format!("{settings:?}").contains("geheim"), "{settings:#?}");
        assert_eq!(find(&settings, "[store]", "url").value, "\"postgres://****\"");
        assert_eq!(find(&settings, "[identity]", "upstream_authorization").value, "\"****\"");
        let command = &find(&settings, "[[route]]", "command").value;
        assert_eq!(command, "[\"x\", \"--api-key\", \"****\", \"--token=****\", \"-v\"]");
        let env = &find(&settings, "[[route]]", "env").value;
        assert_eq!(env, "{ LOG = \"****\", OTHER = { env = \"OTHER\" } }");
        if environment.len() > 1 {
            assert_eq!(find(&settings, "[admin]", "token").value, "\"****\"");
        }
    }
}

#[test]
fn what_is_wrong_is_told_in_place_of_values() {
    let problems =
        settings(&Source { text: "[proxy]\nlisten = 5\n", ..Source::default() }).expect_err("invalid");
    assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["value-type"]);
}
