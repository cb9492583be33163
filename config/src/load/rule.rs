//! `[policy]` and `[[rule]]`.

use super::found::Found;
use super::section::{Reading, Section};
use super::selector::{RouteNames, read_networks, read_patterns, read_routes};
use crate::{Effect, Place, Policy, Problem, Rule};

const EFFECTS: [(&str, Effect); 2] = [("allow", Effect::Allow), ("deny", Effect::Deny)];
/// A GiB: bodies that are judged are held whole.
const MAX_BODY_BYTES: u64 = 1 << 30;
/// A TiB: more than there is.
const MAX_HELD_BYTES: u64 = 1 << 40;
const DAY_MS: u64 = 86_400_000;

pub(super) fn read_policy(root: &mut Section<'_, '_>, routes: &RouteNames<'_>) -> Policy {
    let standard = Policy::default();
    let mut section = root.section("policy");
    let default = section.choice("default", standard.default, &EFFECTS);
    let max_body_bytes = section.integer("max_body_bytes", standard.max_body_bytes, 1_024..=MAX_BODY_BYTES);
    let max_held_bytes = section.integer(
        "max_held_bytes",
        standard.max_held_bytes.max(max_body_bytes),
        max_body_bytes..=MAX_HELD_BYTES,
    );
    let body_timeout_ms = section.integer("body_timeout_ms", standard.body_timeout_ms, 100..=DAY_MS);
    section.finish();
    let rules = read_rules(root, routes);
    if default == Effect::Deny && rules.as_ref().is_some_and(|rules| denies_all(rules)) {
        report_denies_all(root);
    }
    Policy { default, max_body_bytes, max_held_bytes, body_timeout_ms, rules: rules.unwrap_or_default() }
}

/// The rules; absent if one of them could not be read.
fn read_rules(root: &mut Section<'_, '_>, routes: &RouteNames<'_>) -> Option<Vec<Rule>> {
    let tables = match root.read("rule", Found::as_tables) {
        Reading::Valid(tables) => tables,
        Reading::Absent => return Some(Vec::new()),
        Reading::Invalid => return None,
    };
    let mut rules: Vec<(Rule, Place)> = Vec::new();
    for element in tables {
        let Some(mut section) = root.element("rule", element) else { continue };
        let place = section.place();
        let Some(rule) = read_rule(&mut section, routes) else {
            section.finish();
            continue;
        };
        if let Some((number, (_, earlier))) =
            (1..).zip(&rules).find(|(_, (earlier, _))| earlier.covers(&rule))
        {
            report_unreachable(&mut section, &place, number, earlier);
        }
        section.finish();
        rules.push((rule, place));
    }
    (rules.len() == tables.len()).then(|| rules.into_iter().map(|(rule, _)| rule).collect())
}

/// Reads everything before it gives up, so that all problems of a rule are found.
fn read_rule(section: &mut Section<'_, '_>, routes: &RouteNames<'_>) -> Option<Rule> {
    let effect = section.require("effect", |found| found.as_choice(&EFFECTS));
    let (route, tool) = (read_routes(section, routes), read_patterns(section, "tool"));
    let (key, user) = (read_patterns(section, "key"), read_patterns(section, "user"));
    let (organization, network) = (read_patterns(section, "organization"), read_networks(section));
    Some(Rule { effect: effect?, route, tool, key, user, organization, network })
}

fn report_unreachable(section: &mut Section<'_, '_>, place: &Place, number: usize, earlier: &Place) {
    let problem = Problem::new("rule-unreachable", format!("rule {number} matches all that this rule does"))
        .at(place.clone())
        .label("never decides")
        .related(earlier, "always decides first");
    section.report(problem.help("the first rule that matches decides: put the narrower one first"));
}

fn denies_all(rules: &[Rule]) -> bool {
    rules.iter().all(|rule| rule.effect == Effect::Deny)
}

fn report_denies_all(root: &mut Section<'_, '_>) {
    let problem =
        Problem::new("policy-denies-all", "no rule allows anything, and `policy.default` is \"deny\"")
            .at(root.place_of("policy.default"))
            .label("refuses every request")
            .help(
                "add a rule that allows something:\n[[rule]]\neffect = \"allow\"\nroute = [\"everything\"]",
            );
    root.report(problem);
}
