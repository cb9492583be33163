//! What a person and a program get to see of problems.

use mcpmeter_config::{Problems, Source, load};
use serde_json::json;

const FILE: &str = r#"[proxy]
lisen = "127.0.0.1:7300"

[store]
url = "postgress://me:geheim@db/records"

[[route]]
name = "github"
upstream = "http://127.0.0.1:3001"

[[route]]
name = "github"
upstream = "http://127.0.0.1:3002"
"#;

fn problems() -> Problems {
    let environment = [("MCPMETER_PROXY__WORKERS".to_owned(), "all".to_owned())];
    let path = Some("/etc/mcpmeter.toml".as_ref());
    load(&Source { path, text: FILE, environment: &environment, flags: &[] }).expect_err("four problems")
}

#[test]
fn problems_look_like_those_of_cargo() {
    let expected = r#"error[key-unknown]: unknown key `proxy.lisen`
 --> /etc/mcpmeter.toml:2:1
  |
2 | lisen = "127.0.0.1:7300"
  | ^^^^^ unknown key
  |
  = help: did you mean `listen`?

error[value-invalid]: invalid `store.url`: it is neither a sqlite nor a postgres URL
 --> /etc/mcpmeter.toml:5:7
  |
5 | url = "********************************"
  |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ unknown kind of database
  |
  = help: write "sqlite:mcpmeter.db" or "postgres://user@host/database"

error[route-duplicate-name]: two routes are named `github`
  --> /etc/mcpmeter.toml:12:8
   |
 8 | name = "github"
   |        -------- the first
...
12 | name = "github"
   |        ^^^^^^^^ the second
   |
   = help: give it its own name, e.g. "github-2"

error[value-type]: invalid `proxy.workers`: expected an integer, found `all`
--> environment variable MCPMETER_PROXY__WORKERS

4 problems found in /etc/mcpmeter.toml"#;
    assert_eq!(problems().to_string(), expected);
}

#[test]
fn colour_changes_nothing_but_the_colour() {
    let colored = problems().render(true);
    let mut plain = String::new();
    for (number, part) in colored.split('\u{1b}').enumerate() {
        plain.push_str(if number == 0 { part } else { part.split_once('m').expect("an SGR sequence").1 });
    }
    assert!(colored.len() > plain.len());
    // The renderer leaves spaces at the end of a line in one of the two.
    let trim = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(trim(&plain), trim(&problems().render(false)));
}

#[test]
fn problems_are_an_object_for_programs() {
    let value = problems().to_json();
    assert_eq!(value["error"]["code"], "config_invalid");
    assert_eq!(value["error"]["message"], "4 problems found in /etc/mcpmeter.toml");
    let details = value["error"]["details"].as_array().expect("an array");
    assert_eq!(
        details[2],
        json!({
            "code": "route-duplicate-name",
            "message": "two routes are named `github`",
            "file": "/etc/mcpmeter.toml",
            "line": 12,
            "column": 8,
            "label": "the second",
            "related": [{ "line": 8, "column": 8, "text": "the first" }],
            "help": "give it its own name, e.g. \"github-2\"",
        })
    );
    assert_eq!(details[3]["variable"], "MCPMETER_PROXY__WORKERS");
    assert_eq!(details.len(), 4);
}

#[test]
fn one_problem_is_not_plural() {
    let problems = load(&Source::default()).expect_err("no route");
    assert_eq!(problems.summary(), "1 problem found in the configuration");
}
