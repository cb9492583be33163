//! Rules, limits and quotas: what they mean, and what is wrong with them.

use mcpmeter_config::{
    Config, Effect, Pattern, Per, Period, Place, Policy, Problem, Problems, Rate, Source, load,
};

const ROUTES: &str = "[[route]]\nname = \"files\"\nupstream = \"http://h\"\n\
                      [[route]]\nname = \"crm\"\nupstream = \"http://g\"\n";
/// Where what a test writes begins.
const LINES: usize = 6;

fn loaded(text: &str) -> Result<Config, Problems> {
    load(&Source { text: &format!("{ROUTES}{text}"), ..Source::default() })
}

fn config(text: &str) -> Config {
    loaded(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems with their places in what a test writes.
fn problems(text: &str) -> Vec<(&'static str, usize, usize)> {
    let Err(problems) = loaded(text) else { panic!("no problem in\n{text}") };
    let place = |problem: &Problem| match &problem.place {
        Place::File(position) => (problem.code, position.line - LINES, position.column),
        _ => (problem.code, 0, 0),
    };
    problems.iter().map(place).collect()
}

fn only_problem(text: &str) -> Problem {
    let Err(problems) = loaded(text) else { panic!("no problem in\n{text}") };
    assert_eq!(problems.iter().len(), 1, "{problems}");
    problems.iter().next().cloned().expect("one")
}

#[test]
fn without_rules_everything_is_allowed_and_nothing_limited() {
    let config = config("");
    let policy = Policy {
        default: Effect::Allow,
        max_body_bytes: 4 << 20,
        max_held_bytes: 256 << 20,
        body_timeout_ms: 60_000,
        rules: Vec::new(),
    };
    assert_eq!(config.policy, policy);
    assert!(config.limits.is_empty() && config.quotas.is_empty());
}

#[test]
fn a_rule_has_the_lists_that_are_written() {
    let config = config(
        "[policy]\ndefault = \"deny\"\n[[rule]]\neffect = \"allow\"\nroute = [\"fi*\"]\ntool = [\"a\", \"b*\"]\n\
         network = [\"10.0.0.0/8\", \"::1\", \"::ffff:10.1.2.3\"]\n",
    );
    let rule = &config.policy.rules[0];
    assert_eq!((config.policy.default, rule.effect), (Effect::Deny, Effect::Allow));
    assert_eq!(rule.route, Some(vec![Pattern::new("fi*")]));
    assert_eq!(rule.tool.as_ref().map(Vec::len), Some(2));
    let networks: Vec<_> = rule.network.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "::1/128", "10.1.2.3/32"]);
    assert_eq!((&rule.key, &rule.user, &rule.organization), (&None, &None, &None));
}

#[test]
fn what_is_wrong_with_a_rule_is_said_where_it_stands() {
    for (text, expected) in [
        ("[[rule]]\ntool = [\"a\"]", vec![("key-missing", 1, 1)]),
        ("[[rule]]\neffect = \"Deny\"", vec![("value-choice", 2, 10)]),
        ("[[rule]]\neffect = \"deny\"\ntool = []", vec![("list-empty", 3, 8)]),
        ("[[rule]]\neffect = \"deny\"\ntool = \"a\"", vec![("value-type", 3, 8)]),
        ("[[rule]]\neffect = \"deny\"\ntool = [\"\"]", vec![("value-invalid", 3, 9)]),
        ("[[rule]]\neffect = \"deny\"\nroute = [\"crm\", \"file\"]", vec![("route-unknown", 3, 17)]),
        ("[[rule]]\neffect = \"deny\"\nnetwork = [\"10.0.0.1/8\"]", vec![("value-invalid", 3, 12)]),
        ("[[rule]]\neffect = \"deny\"\nnetwork = [\"::ffff:10.0.0.0/104\"]", vec![("value-invalid", 3, 12)]),
        ("[[rule]]\neffect = \"deny\"\nnetwork = [\"ten\"]", vec![("value-invalid", 3, 12)]),
        ("[[rule]]\neffect = \"deny\"\ntools = [\"a\"]", vec![("key-unknown", 3, 1)]),
        ("[rule]\neffect = \"deny\"", vec![("value-type", 1, 1)]),
        ("[policy]\ndefault = \"no\"", vec![("value-choice", 2, 11)]),
        ("[policy]\nmax_body_bytes = 8192\nmax_held_bytes = 8191", vec![("value-range", 3, 18)]),
        ("[policy]\nbody_timeout_ms = 0", vec![("value-range", 2, 19)]),
        ("[policy]\nmax_body_bytes = 1", vec![("value-range", 2, 18)]),
        ("[policy]\ndefault = \"deny\"", vec![("policy-denies-all", 2, 11)]),
        (
            "[[rule]]\neffect = 1\nroute = [\"x\"]\nnetwork = []",
            vec![("value-type", 2, 10), ("route-unknown", 3, 10), ("list-empty", 4, 11)],
        ),
    ] {
        assert_eq!(problems(text), expected, "{text}");
    }
    let problem = only_problem("[[rule]]\neffect = \"deny\"\nroute = [\"file\"]");
    assert_eq!(problem.help.as_deref(), Some("did you mean \"files\"?"));
}

#[test]
fn a_broken_route_makes_no_rule_wrong() {
    let text = "[[route]]\nname = \"third\"\n[[rule]]\neffect = \"deny\"\nroute = [\"third\"]";
    assert_eq!(problems(text), [("key-missing", 1, 1)]);
}

#[test]
fn a_rule_that_can_never_decide_is_told_with_the_one_that_does() {
    let deny = |lists: &str| format!("[[rule]]\neffect = \"deny\"\n{lists}\n");
    let allow = |lists: &str| format!("[[rule]]\neffect = \"allow\"\n{lists}\n");
    for (first, second) in [
        (allow(""), deny("tool = [\"a\"]")),
        (deny("route = [\"*\"]"), allow("route = [\"crm\"]\ntool = [\"a\"]")),
        (deny("tool = [\"a*\", \"b\"]"), deny("tool = [\"ab\", \"b\"]\nuser = [\"u\"]")),
        (deny("network = [\"10.0.0.0/8\"]"), allow("network = [\"10.1.0.0/16\", \"10.0.0.1\"]")),
        (allow("tool = [\"*\"]"), allow("tool = [\"a\"]")),
    ] {
        assert_eq!(
            problems(&format!("{first}{second}")),
            [("rule-unreachable", 4 + first.lines().count() - 3, 1)]
        );
    }
    for (first, second) in [
        (deny("tool = [\"a\"]"), allow("")),
        (deny("tool = [\"a\"]"), allow("tool = [\"a*\"]")),
        (deny("key = [\"*\"]"), deny("")),
        // Without it, nobody who may call no tool could open a session either.
        (deny("tool = [\"*\"]"), allow("tool = [\"a\"]")),
        (deny("network = [\"10.0.0.0/8\"]"), allow("network = [\"10.0.0.0/7\"]")),
        (deny("route = [\"crm\"]\ntool = [\"a\"]"), deny("tool = [\"a\"]")),
    ] {
        config(&format!("{first}{second}"));
    }
}

#[test]
fn limits_and_quotas_have_names_and_defaults() {
    let config = config(
        "[[limit]]\nper = \"key\"\nrate = \"60/min\"\n\
         [[limit]]\nper = \"key\"\nconcurrency = 3\ntool = [\"*\"]\n\
         [[limit]]\nname = \"mine\"\nper = \"all\"\nrate = \" 7 / s \"\nburst = 1\n\
         [[quota]]\nper = \"user\"\ncalls = 5\nperiod = \"month\"\n",
    );
    let names: Vec<_> = config.limits.iter().map(|limit| limit.name.as_str()).collect();
    assert_eq!(names, ["key", "key-2", "mine"]);
    let [first, second, third] = config.limits.as_slice() else { panic!("three") };
    assert_eq!((first.rate, first.burst), (Some(Rate { calls: 60, seconds: 60 }), 60));
    assert_eq!((second.rate, second.concurrency), (None, Some(3)));
    assert_eq!((third.rate, third.burst, third.per), (Some(Rate { calls: 7, seconds: 1 }), 1, Per::All));
    let quota = &config.quotas[0];
    assert_eq!((quota.name.as_str(), quota.calls, quota.period), ("user-month", 5, Period::Month));
}

#[test]
fn what_is_wrong_with_a_limit_is_said_where_it_stands() {
    for (text, expected) in [
        ("[[limit]]\nrate = \"1/s\"", vec![("key-missing", 1, 1)]),
        ("[[limit]]\nper = \"key\"", vec![("key-missing", 1, 1)]),
        ("[[limit]]\nper = \"key\"\nrate = \"60/m\"", vec![("value-invalid", 3, 8)]),
        ("[[limit]]\nper = \"key\"\nrate = \"0/s\"", vec![("value-invalid", 3, 8)]),
        ("[[limit]]\nper = \"key\"\nrate = \"1000001/s\"", vec![("value-invalid", 3, 8)]),
        ("[[limit]]\nper = \"key\"\nrate = 60", vec![("value-type", 3, 8)]),
        ("[[limit]]\nper = \"key\"\nconcurrency = 0", vec![("value-range", 3, 15)]),
        ("[[limit]]\nper = \"key\"\nconcurrency = 1\nburst = 2", vec![("key-unused", 4, 1)]),
        ("[[limit]]\nper = \"keys\"\nrate = \"1/s\"", vec![("value-choice", 2, 7)]),
        ("[[limit]]\nname = \"A b\"\nper = \"key\"\nrate = \"1/s\"", vec![("value-invalid", 2, 8)]),
        ("[[limit]]\nper = \"key\"\nrate = \"1/s\"\nroute = [\"x\"]", vec![("route-unknown", 4, 10)]),
        (
            "[[limit]]\nname = \"n\"\nper = \"key\"\nrate = \"1/s\"\n[[quota]]\nname = \"n\"\nper = \"key\"\ncalls = 1\nperiod = \"day\"",
            vec![("limit-duplicate-name", 6, 8)],
        ),
        (
            "[[quota]]\nper = \"user\"\ncalls = 1\nperiod = \"day\"\n[[quota]]\nper = \"user\"\ncalls = 2\nperiod = \"day\"",
            vec![("quota-duplicate", 5, 1)],
        ),
        ("[[quota]]\nper = \"tool\"\ncalls = 1\nperiod = \"day\"", vec![("value-choice", 2, 7)]),
        ("[[quota]]", vec![("key-missing", 1, 1), ("key-missing", 1, 1), ("key-missing", 1, 1)]),
        (
            "[[quota]]\nper = \"key\"\ncalls = 0\nperiod = \"week\"",
            vec![("value-range", 3, 9), ("value-choice", 4, 10)],
        ),
    ] {
        assert_eq!(problems(text), expected, "{text}");
    }
}

#[test]
fn variables_set_the_policy_and_no_rule() {
    let environment = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let load = |environment: &[(String, String)]| {
        let text = format!("{ROUTES}[[rule]]\neffect = \"allow\"\n");
        load(&Source { text: &text, environment, ..Source::default() })
    };
    let config = load(&environment("MCPMETER_POLICY__DEFAULT", "deny")).expect("valid");
    assert_eq!(config.policy.default, Effect::Deny);
    let problems = load(&environment("MCPMETER_RULE__EFFECT", "deny")).expect_err("a rule of which name?");
    let help = problems.iter().next().and_then(|problem| problem.help.clone());
    assert_eq!(help.as_deref(), Some("rules are set in the file only, as [[rule]]"));
}
