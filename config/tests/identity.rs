//! `[identity]`: what it means for each route, and what is refused.

use mcpmeter_config::{Config, Identity, Problems, Source, load};

const ROUTE: &str = "[[route]]\nname = \"a\"\nupstream = \"http://127.0.0.1:3001\"\n";

fn read(identity: &str, of_route: &str) -> Result<Config, Problems> {
    let text = format!("[identity]\n{identity}\n{ROUTE}{of_route}");
    load(&Source { text: &text, ..Source::default() })
}

/// The codes and messages of everything that is wrong.
fn wrong(identity: &str) -> Vec<String> {
    let problems = read(identity, "").expect_err("it is refused");
    problems.iter().map(|problem| format!("{}: {}", problem.code, problem.message)).collect()
}

#[test]
fn a_route_has_the_general_identity_or_one_of_its_own_as_a_whole() {
    let general = "mode = \"header\"\nuser_header = \"X-User\"\nnetworks = [\"10.0.0.0/8\"]";
    let config =
        read(general, "[[route]]\nname = \"b\"\nupstream = \"http://h\"\n[route.identity]\nmode = \"none\"")
            .unwrap_or_else(|problems| panic!("{problems}"));
    assert!(matches!(config.routes[0].identity, Identity::Header { .. }));
    assert_eq!(config.routes[1].identity, Identity::None);
    let own =
        read("mode = \"api_key\"", "[route.identity]\n").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(own.routes[0].identity, Identity::default(), "nothing of [identity] is left");
}

#[test]
fn whatever_is_wrong_is_told_at_once() {
    for (identity, expected) in [
        (
            "mode = \"jwt\"",
            &[
                "key-missing: `identity.issuer` is missing",
                "key-missing: `identity.jwks` is missing",
                "key-missing: `identity.audience` is missing",
            ][..],
        ),
        (
            "issuer = \"https://i\"",
            &["key-missing: `identity.jwks` is missing", "key-missing: `identity.audience` is missing"],
        ),
        ("jwks = \"k.json\"\naudience = [\"a\"]", &["key-missing: `identity.issuer` is missing"]),
        (
            "mode = \"header\"",
            &[
                "key-missing: `identity.user_header` is missing",
                "key-missing: `identity.networks` is missing",
            ],
        ),
        (
            "mode = \"header\"\nuser_header = \"Authorization\"\nnetworks = [\"10.0.0.0/8\"]",
            &[
                "value-invalid: invalid `identity.user_header`: clients write this header, so it does not say who they are",
            ],
        ),
        (
            "mode = \"header\"\nuser_header = \"a b\"\nnetworks = [\"10.0.0.0/33\"]",
            &[
                "value-invalid: invalid `identity.user_header`: it is not the name of a header",
                "value-invalid: invalid `identity.networks`: it is neither an IP address nor a network",
            ],
        ),
        ("mode = \"none\"\nissuer = \"x\"", &["key-unused: `issuer` does nothing with mode = \"none\""]),
        (
            "mode = \"api_key\"\nnetworks = []",
            &["key-unused: `networks` does nothing with mode = \"api_key\""],
        ),
        (
            "issuer = \"i\"\naudience = [\"a\"]\njwks = \"http://h/k\"",
            &[
                "value-invalid: invalid `identity.jwks`: whoever is on the way could exchange the keys: it has to be https",
            ],
        ),
        (
            "issuer = \"i\"\naudience = [\"a\"]\njwks = \"k\"\nalgorithms = [\"HS256\"]",
            &[
                "value-choice: invalid `identity.algorithms`: it must be one of \"RS256\", \"RS384\", \"RS512\", \"PS256\", \
               \"PS384\", \"PS512\", \"ES256\", \"ES384\", \"EdDSA\"",
            ],
        ),
        (
            "issuer = \"i\"\naudience = [\"a\"]\njwks = \"k\"\nalgorithms = []",
            &["value-invalid: invalid `identity.algorithms`: it is empty, so no token would be valid"],
        ),
    ] {
        assert_eq!(wrong(identity), expected, "{identity}");
    }
}

#[test]
fn an_empty_list_lets_nobody_in() {
    for (identity, expected) in [
        (
            "mode = \"header\"\nuser_header = \"X-User\"\nnetworks = []",
            "value-invalid: invalid `identity.networks`: it is empty",
        ),
        (
            "issuer = \"i\"\naudience = []\njwks = \"k\"",
            "value-invalid: invalid `identity.audience`: it is empty",
        ),
    ] {
        assert_eq!(wrong(identity), [expected], "{identity}");
    }
}

#[test]
fn what_the_server_gets_is_a_secret() {
    let text = "mode = \"api_key\"\nupstream_authorization = \"Bearer hush\\n\"";
    let shown = read(text, "").expect_err("a line break is refused").to_string();
    assert!(!shown.contains("hush") && shown.contains("cannot be the value of a header"), "{shown}");
    let config = read("mode = \"api_key\"\nupstream_authorization = \"Bearer hush\"", "").expect("valid");
    assert!(!format!("{config:?}").contains("hush"));
    let program = "mode = \"api_key\"\nupstream_authorization = \"x\"";
    let text = format!("[identity]\n{program}\n[[route]]\nname = \"a\"\ncommand = [\"x\"]\n");
    let problems = load(&Source { text: &text, ..Source::default() }).expect_err("nobody gets it");
    assert!(problems.to_string().contains("does nothing for a server that is a program"), "{problems}");
}
