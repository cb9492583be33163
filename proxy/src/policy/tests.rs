//! What rules mean, each by an example; and that nothing is forwarded unread that a rule would have denied.

use super::{Asked, Policy, Reason, Verdict};
use mcpmeter_config::{Pattern, Source, load};
use std::net::{IpAddr, Ipv4Addr};

const DENIED: fn(usize) -> Verdict = |number| Verdict::Denied(Reason::Rule(number));
const DEFAULT: Verdict = Verdict::Denied(Reason::Default);

fn policy(toml: &str) -> Policy {
    let routes = "[[route]]\nname = \"files\"\nupstream = \"http://h\"\n[[route]]\nname = \"crm\"\nupstream = \"http://g\"\n";
    let text = format!("{toml}{routes}");
    let config = load(&Source { text: &text, ..Source::default() });
    Policy::compile(&config.unwrap_or_else(|problems| panic!("{problems}")).policy)
}

fn deny(lists: &str) -> String {
    format!("[[rule]]\neffect = \"deny\"\n{lists}\n")
}

fn allow(lists: &str) -> String {
    format!("[[rule]]\neffect = \"allow\"\n{lists}\n")
}

const DENY_BY_DEFAULT: &str = "[policy]\ndefault = \"deny\"\n";

/// Somebody without a key, from 10.1.2.3, to the route `files`.
const STRANGER: Asked<'static> = Asked {
    route: "files",
    instance: "inst",
    address: Some(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))),
    key: None,
    user: None,
    organization: None,
    key_routes: None,
    key_tools: None,
};

const ANNA: Asked<'static> =
    Asked { key: Some("key_ci_1"), user: Some("anna"), organization: Some("acme"), ..STRANGER };

#[test]
fn without_a_rule_everybody_may_call_everything() {
    let policy = policy("");
    assert_eq!(policy.judge(&STRANGER, Some("rm")), Verdict::Allowed);
    assert!(!policy.concerns_tools(&STRANGER));
}

#[test]
fn the_first_rule_that_matches_decides() {
    let policy =
        policy(&(allow("tool = [\"rm\"]\nuser = [\"anna\"]") + &deny("tool = [\"rm*\"]") + &allow("")));
    assert_eq!(policy.judge(&ANNA, Some("rm")), Verdict::Allowed);
    assert_eq!(policy.judge(&ANNA, Some("rmdir")), DENIED(2));
    assert_eq!(policy.judge(&STRANGER, Some("rm")), DENIED(2));
    assert_eq!(policy.judge(&STRANGER, Some("ls")), Verdict::Allowed);
    assert_eq!(policy.judge(&STRANGER, None), Verdict::Allowed);
}

#[test]
fn every_list_of_a_rule_has_to_match() {
    let policy = policy(&deny(
        "route = [\"crm\", \"files\"]\ntool = [\"rm\"]\nkey = [\"key_ci_*\"]\nuser = [\"anna\", \"bob\"]\n\
         organization = [\"acme\"]\nnetwork = [\"10.0.0.0/8\"]",
    ));
    assert_eq!(policy.judge(&ANNA, Some("rm")), DENIED(1));
    for asked in [
        Asked { key: Some("key_x"), ..ANNA },
        Asked { key: None, ..ANNA },
        Asked { user: Some("Anna"), ..ANNA },
        Asked { user: None, ..ANNA },
        Asked { organization: Some("acme2"), ..ANNA },
        Asked { address: Some(IpAddr::V4(Ipv4Addr::new(11, 0, 0, 0))), ..ANNA },
    ] {
        assert_eq!(policy.judge(&asked, Some("rm")), Verdict::Allowed, "{asked:?}");
    }
    assert_eq!(policy.judge(&ANNA, Some("RM")), Verdict::Allowed, "names of tools differ in case");
}

#[test]
fn a_star_means_any_key_and_not_none() {
    let policy = policy(&(DENY_BY_DEFAULT.to_owned() + &allow("key = [\"*\"]")));
    assert_eq!(policy.judge(&ANNA, None), Verdict::Allowed);
    assert_eq!(policy.judge(&STRANGER, None), DEFAULT);
}

#[test]
fn who_may_call_some_tool_may_speak_to_its_server() {
    let policy = policy(
        &(DENY_BY_DEFAULT.to_owned() + &allow("tool = [\"ls\"]\nroute = [\"files\"]\nuser = [\"anna\"]")),
    );
    assert_eq!(policy.judge(&ANNA, None), Verdict::Allowed);
    assert_eq!(policy.judge(&ANNA, Some("ls")), Verdict::Allowed);
    assert_eq!(policy.judge(&ANNA, Some("rm")), DEFAULT);
    assert_eq!(policy.judge(&STRANGER, None), DEFAULT);
    assert_eq!(policy.judge(&Asked { route: "crm", ..ANNA }, None), DEFAULT);
}

#[test]
fn who_may_not_call_some_tool_may_speak_to_its_server_too() {
    let policy = policy(&deny("tool = [\"*\"]"));
    assert_eq!(policy.judge(&STRANGER, None), Verdict::Allowed);
    assert_eq!(policy.judge(&STRANGER, Some("")), DENIED(1));
}

#[test]
fn an_address_is_the_same_in_every_form() {
    let policy = policy(&deny("network = [\"10.0.0.0/8\", \"2001:db8::/32\"]"));
    for (address, verdict) in [
        ("10.255.0.1", DENIED(1)),
        ("::ffff:10.255.0.1", DENIED(1)),
        ("2001:db8:1::2", DENIED(1)),
        ("::a00:1", Verdict::Allowed),
        ("2001:db9::", Verdict::Allowed),
    ] {
        let address = Some(address.parse().expect("an address"));
        assert_eq!(policy.judge(&Asked { address, ..STRANGER }, None), verdict, "{address:?}");
    }
}

#[test]
fn an_address_that_nobody_can_tell_is_allowed_by_no_network_and_denied_by_each() {
    let unknown = Asked { address: None, ..STRANGER };
    let allowing = policy(&(DENY_BY_DEFAULT.to_owned() + &allow("network = [\"10.0.0.0/8\"]")));
    assert_eq!(allowing.judge(&STRANGER, None), Verdict::Allowed);
    assert_eq!(allowing.judge(&unknown, None), DEFAULT);
    let denying = policy(&deny("network = [\"11.0.0.0/8\"]"));
    assert_eq!(denying.judge(&STRANGER, None), Verdict::Allowed);
    assert_eq!(denying.judge(&unknown, None), DENIED(1));
}

#[test]
fn a_key_takes_away_from_the_rules_and_adds_nothing() {
    let policy = policy(&(deny("tool = [\"rm\"]") + &allow("")));
    let patterns = |texts: &[&str]| -> Vec<Pattern> { texts.iter().copied().map(Pattern::new).collect() };
    let (routes, tools) = (patterns(&["fi*"]), patterns(&["rm", "l*"]));
    let asked = Asked { key_routes: Some(&routes), key_tools: Some(&tools), ..ANNA };
    assert_eq!(policy.judge(&asked, Some("ls")), Verdict::Allowed);
    assert_eq!(policy.judge(&asked, None), Verdict::Allowed);
    assert_eq!(policy.judge(&asked, Some("rm")), DENIED(1));
    assert_eq!(policy.judge(&asked, Some("cat")), Verdict::Denied(Reason::KeyTools));
    let elsewhere = Asked { route: "crm", ..asked };
    assert_eq!(policy.judge(&elsewhere, None), Verdict::Denied(Reason::KeyRoutes));
    let nothing = Asked { key_tools: Some(&[]), ..ANNA };
    assert_eq!(policy.judge(&nothing, Some("ls")), Verdict::Denied(Reason::KeyTools));
}

#[test]
fn bodies_are_read_where_the_tool_decides_and_nowhere_else() {
    let policy = policy(
        &(deny("route = [\"crm\"]\nuser = [\"eve\"]")
            + &deny("route = [\"crm\"]\ntool = [\"rm\"]")
            + &allow("route = [\"files\"]\nuser = [\"anna\"]")
            + &deny("tool = [\"rm\"]")),
    );
    let crm = Asked { route: "crm", ..ANNA };
    assert!(policy.concerns_tools(&crm));
    assert!(!policy.concerns_tools(&Asked { user: Some("eve"), ..crm }), "denied whatever the tool");
    assert!(!policy.concerns_tools(&ANNA), "allowed whatever the tool");
    assert!(policy.concerns_tools(&STRANGER));
    assert!(policy.concerns_tools(&Asked { key_tools: Some(&[]), ..ANNA }));
}

#[test]
fn where_bodies_are_not_read_no_tool_makes_a_difference() {
    let mut random = fastrand::Rng::with_seed(3);
    let (routes, users, tools) = (["files", "crm"], ["anna", "bob", "eve"], ["rm", "rmdir", "ls", ""]);
    let mut unread = 0;
    for _ in 0..2_000 {
        let mut text =
            if random.bool() { DENY_BY_DEFAULT.to_owned() + &allow("key = [\"x\"]") } else { String::new() };
        for _ in 0..random.usize(1..4) {
            let mut lists = String::new();
            for (key, values) in
                [("route", &routes[..]), ("user", &users[..]), ("tool", &["rm*", "ls", "*"][..])]
            {
                if random.u8(..5) < 2 {
                    lists += &format!("{key} = [\"{}\"]\n", values[random.usize(..values.len())]);
                }
            }
            text += &if random.bool() { allow(&lists) } else { deny(&lists) };
        }
        // What can never decide is refused by the configuration already.
        let whole = format!(
            "{text}[[route]]\nname = \"files\"\nupstream = \"http://h\"\n[[route]]\nname = \"crm\"\nupstream = \"http://g\"\n"
        );
        let Ok(config) = load(&Source { text: &whole, ..Source::default() }) else { continue };
        let policy = Policy::compile(&config.policy);
        for (route, user) in routes.iter().flat_map(|route| users.map(|user| (route, user))) {
            let asked = Asked { route, user: Some(user), ..STRANGER };
            if !policy.concerns_tools(&asked) {
                unread += 1;
                let verdict = policy.judge(&asked, None);
                let same = tools.iter().all(|tool| policy.judge(&asked, Some(tool)) == verdict);
                assert!(same, "{asked:?}\n{text}");
            }
        }
    }
    assert!(unread > 1_000, "{unread}");
}
