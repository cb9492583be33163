//! What is valid, and hardly what anybody wants.

use mcpmeter_config::{Source, load, warnings};

/// The warnings about a configuration.
fn about(text: &str) -> Vec<String> {
    let source = Source { text, ..Source::default() };
    warnings(&load(&source).unwrap_or_else(|problems| panic!("{problems}")))
}

/// A route and its identity, as a whole file begins.
fn route(name: &str, auth: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\nupstream = \"http://h\"\n{auth}\n")
}

const KEYS: &str = "identity.mode = \"api_key\"";
const TOKENS: &str = "issuer = \"https://i\"\naudience = [\"a\"]\njwks = \"keys.json\"";

fn token_route(name: &str, mode: &str) -> String {
    format!("{}[route.identity]\nmode = \"{mode}\"\n{TOKENS}\n", route(name, ""))
}

#[test]
fn what_is_usual_is_worth_no_word() {
    assert_eq!(about(mcpmeter_config::REFERENCE), [""; 0]);
    let usual = [
        "[proxy]\ntrusted_proxies = [\"10.0.0.0/8\", \"2001:db8::/32\"]\n",
        &route("keys", KEYS),
        &token_route("tokens", "jwt"),
        &route("open", ""),
        "[[rule]]\neffect = \"deny\"\nkey = [\"key_1\"]\ntool = [\"rm\"]\n",
        "[[rule]]\neffect = \"deny\"\nuser = [\"u_1\"]\n",
        "[[limit]]\nroute = [\"keys\"]\nper = \"key\"\nrate = \"1/s\"\n",
        "[[limit]]\nper = \"address\"\nrate = \"1/s\"\n",
    ];
    assert_eq!(about(&usual.concat()), [""; 0]);
}

#[test]
fn to_believe_everybody_is() {
    for network in ["0.0.0.0/0", "::/0", "128.0.0.0/1"] {
        let proxy = format!("[proxy]\ntrusted_proxies = [\"{network}\"]\n");
        let told = about(&[&proxy, &route("open", "")[..]].concat());
        assert!(told.len() == 1 && told[0].contains("any address") && told[0].contains(network), "{told:?}");
    }
    let header = route(
        "sso",
        "identity = { mode = \"header\", networks = [\"0.0.0.0/0\"], user_header = \"X-User\" }",
    );
    let told = about(&header);
    assert!(told.len() == 1 && told[0].contains("route `sso`") && told[0].contains("x-user"), "{told:?}");
}

#[test]
fn so_is_a_rule_that_can_never_match() {
    let told = about(&[&route("open", ""), "[[rule]]\neffect = \"deny\"\nkey = [\"*\"]\n"].concat());
    assert_eq!(told, ["rule 1 never matches: it goes by key, and none of its routes ever knows one"]);
    let both = [
        &route("open", ""),
        &route("keys", KEYS),
        "[[rule]]\neffect = \"deny\"\norganization = [\"o\"]\nroute = [\"open\"]\n",
    ];
    let told = about(&both.concat());
    assert!(told.len() == 1 && told[0].contains("by organization"), "{told:?}");
}

#[test]
fn so_is_a_denial_that_callers_get_around_by_saying_nothing() {
    let rule = "[[rule]]\neffect = \"deny\"\nuser = [\"u\"]\n";
    let told = about(&[&token_route("reads", "passthrough"), rule].concat());
    assert!(told.len() == 1 && told[0].contains("need not say") && told[0].contains("`reads`"), "{told:?}");
    assert_eq!(about(&[&token_route("reads", "jwt"), rule].concat()), [""; 0]);
}

#[test]
fn so_is_a_limit_that_counts_everybody_as_one() {
    let routes = [route("open", ""), route("keys", KEYS)].concat();
    let told = about(&[&routes, "[[limit]]\nname = \"fair\"\nper = \"user\"\nrate = \"1/s\"\n"].concat());
    assert!(told.len() == 1 && told[0].contains("`fair`") && told[0].contains("route `open`"), "{told:?}");
    let told =
        about(&[&routes, "[[quota]]\nname = \"day\"\nper = \"key\"\ncalls = 1\nperiod = \"day\"\n"].concat());
    assert!(told.len() == 1 && told[0].contains("`day`") && told[0].contains("route `open`"), "{told:?}");
}
