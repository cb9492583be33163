//! `[record]`: which bodies are kept, and with which key.

use mcpmeter_config::{Bodies, Config, Problems, Secret, Source, changes, load};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const OTHER: &str = "YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";
const ROUTES: &str = "\n[[route]]\nname = \"a\"\nupstream = \"http://h\"\n\
                      [[route]]\nname = \"b\"\nupstream = \"http://h\"\n";

fn read(record: &str, of_route: &str) -> Result<Config, Problems> {
    let text = format!("{record}{ROUTES}{of_route}");
    let environment = [("KEY".to_owned(), KEY.to_owned()), ("OTHER".to_owned(), format!("{OTHER}\n"))];
    load(&Source { text: &text, environment: &environment, ..Source::default() })
}

/// The only problem as people read it.
fn wrong(record: &str, of_route: &str) -> String {
    let problems = read(record, of_route).expect_err("something is wrong");
    assert_eq!(problems.iter().count(), 1, "{problems}");
    problems.to_string()
}

#[test]
fn a_route_has_what_all_have_or_what_it_says() {
    let of = |record: &str, of_route: &str| {
        let config = read(record, of_route).unwrap_or_else(|problems| panic!("{problems}"));
        (config.routes[0].bodies, config.routes[1].bodies)
    };
    assert_eq!(of("", ""), (Bodies::Off, Bodies::Off));
    let all = "[record]\nbodies = \"all\"\nbodies_key = { env = \"KEY\" }";
    assert_eq!(of(all, ""), (Bodies::All, Bodies::All));
    assert_eq!(of(all, "[route.record]\nbodies = \"off\""), (Bodies::All, Bodies::Off));
    let none = "[record]\nbodies_key = { env = \"KEY\" }";
    assert_eq!(of(none, "[route.record]\nbodies = \"errors\""), (Bodies::Off, Bodies::Errors));
}

#[test]
fn bodies_without_a_key_are_a_problem_that_says_how_to_make_one() {
    for told in [
        wrong("[record]\nbodies = \"errors\"", ""),
        wrong("", "[route.record]\nbodies = \"all\""),
        wrong("[record]\nbodies = \"all\"", "[route.record]\nbodies = \"errors\""),
    ] {
        assert!(told.contains("openssl rand -base64 32") && told.contains("no key to encrypt"), "{told}");
    }
    // What keeps nothing needs none.
    assert!(read("[record]\nbodies_max_bytes = 1024", "[route.record]\nbodies = \"off\"").is_ok());
}

#[test]
fn a_key_is_32_bytes_that_stand_elsewhere() {
    let keys = |text: &str| {
        read(&format!("[record]\nbodies_key = {text}"), "").map(|config| {
            config.record.bodies_key.iter().map(|key| key.expose().to_vec()).collect::<Vec<_>>()
        })
    };
    let (key, other) =
        (b"01234567890123456789012345678901".to_vec(), b"abcdefghijabcdefghijabcdefghijab".to_vec());
    assert_eq!(keys("{ env = \"KEY\" }").expect("one"), std::slice::from_ref(&key));
    assert_eq!(keys("[{ env = \"OTHER\" }, { env = \"KEY\" }]").expect("two"), [other, key]);
    for text in [format!("\"{KEY}\""), format!("[\"{KEY}\"]"), "[]".to_owned(), "7".to_owned()] {
        let told = keys(&text).expect_err("no reference").to_string();
        assert!(told.contains("{ env = \"NAME\" }") && !told.contains("MDEyMz"), "{told}");
    }
    let short = [("KEY".to_owned(), "c2hvcnQ=".to_owned())];
    let text = format!("[record]\nbodies_key = {{ env = \"KEY\" }}{ROUTES}");
    let told = load(&Source { text: &text, environment: &short, ..Source::default() });
    let told = told.expect_err("too short").to_string();
    assert!(told.contains("not 32 bytes in base64") && !told.contains("c2hvcnQ"), "{told}");
    // From the environment alone.
    let environment = [("MCPMETER_RECORD__BODIES_KEY".to_owned(), KEY.to_owned())];
    let config = load(&Source { text: ROUTES, environment: &environment, ..Source::default() });
    assert_eq!(config.expect("valid").record.bodies_key.len(), 1);
}

#[test]
fn what_is_out_of_bounds_is_told_with_the_bounds() {
    for (record, words) in [
        ("bodies = \"some\"", "one of \"off\", \"errors\", \"all\""),
        ("bodies_max_bytes = 70000", "61440"),
        ("bodies_max_bytes = 10", "1024"),
        ("bodies_retention_days = 0", "1"),
    ] {
        let told = wrong(&format!("[record]\n{record}"), "");
        assert!(told.contains(words), "{told}");
    }
    let told = wrong("[store]\nretention_days = 3\n[record]\nbodies_retention_days = 4", "");
    assert!(told.contains("kept for 4 days, and their calls for 3"), "{told}");
    let days = |text: &str| read(text, "").map(|config| config.record.bodies_retention_days).ok();
    assert_eq!(days(""), Some(7));
    assert_eq!(days("[store]\nretention_days = 3"), Some(3));
    assert_eq!(days("[store]\nretention_days = 3\n[record]\nbodies_retention_days = 3"), Some(3));
    assert_eq!(days("[record]\nbodies_retention_days = 400"), Some(400));
}

#[test]
fn a_change_is_live_but_for_the_age_and_shows_no_key() {
    let old = read("[record]\nbodies_key = { env = \"KEY\" }", "").expect("valid");
    let new = "[record]\nbodies = \"all\"\nbodies_max_bytes = 2048\nbodies_retention_days = 1\n\
               bodies_key = { env = \"OTHER\" }";
    let new = read(new, "[route.record]\nbodies = \"off\"").expect("valid");
    let changes = changes(&old, &new);
    assert_eq!(
        changes.live,
        ["record.bodies_max_bytes", "record.bodies_key", "route `a` changed (record.bodies)"]
    );
    assert_eq!(changes.restart, ["record.bodies_retention_days"]);
    assert!(format!("{old:?}").contains("****") && format!("{:?}", Secret::new("x")).contains("****"));
    assert!(!format!("{old:?}").contains("48, 49"), "{old:?}");
}
