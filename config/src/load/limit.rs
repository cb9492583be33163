//! `[[limit]]` and `[[quota]]`.

use std::collections::BTreeMap;

use super::found::Found;
use super::section::{Reading, Section};
use super::selector::{RouteNames, read_patterns, read_routes};
use crate::{Limit, Per, Period, Place, Problem, Quota, Rate};

/// More calls in a second than one machine can carry.
const MAX_CALLS: u64 = 1_000_000;
/// More than anybody has made.
const MAX_QUOTA: u64 = 1_000_000_000_000;
/// As long as a DNS label.
const MAX_NAME_BYTES: usize = 63;

const OF_LIMITS: [(&str, Per); 7] = [
    ("key", Per::Key),
    ("user", Per::User),
    ("organization", Per::Organization),
    ("instance", Per::Instance),
    ("tool", Per::Tool),
    ("address", Per::Address),
    ("all", Per::All),
];
const OF_QUOTAS: [(&str, Per); 4] = [
    ("key", Per::Key),
    ("user", Per::User),
    ("organization", Per::Organization),
    ("instance", Per::Instance),
];
const PERIODS: [(&str, Period); 2] = [("day", Period::Day), ("month", Period::Month)];

/// Reads both, whose names clients see side by side.
pub(super) fn read_limits(root: &mut Section<'_, '_>, routes: &RouteNames<'_>) -> (Vec<Limit>, Vec<Quota>) {
    let mut taken = BTreeMap::new();
    let limits = each(root, "limit", |section| read_limit(section, routes, &mut taken));
    let mut counted = Vec::new();
    let quotas = each(root, "quota", |section| read_quota(section, &mut taken, &mut counted));
    (limits, quotas)
}

fn each<T>(
    root: &mut Section<'_, '_>,
    key: &'static str,
    mut read: impl FnMut(&mut Section<'_, '_>) -> Option<T>,
) -> Vec<T> {
    let Reading::Valid(tables) = root.read(key, Found::as_tables) else { return Vec::new() };
    let mut values = Vec::new();
    for element in tables {
        let Some(mut section) = root.element(key, element) else { continue };
        values.extend(read(&mut section));
        section.finish();
    }
    values
}

/// Reads everything before it gives up, so that all problems of a limit are found.
fn read_limit(
    section: &mut Section<'_, '_>,
    routes: &RouteNames<'_>,
    taken: &mut BTreeMap<String, Place>,
) -> Option<Limit> {
    let per = section.require("per", |found| found.as_choice(&OF_LIMITS));
    let name = read_name(section, per.map(|per| per.as_str().to_owned()), taken);
    let rate = section.read("rate", decode_rate);
    let burst = section.optional_integer("burst", 1..=MAX_CALLS).and_then(|burst| u32::try_from(burst).ok());
    let concurrency = section.optional_integer("concurrency", 1..=MAX_CALLS);
    let concurrency = concurrency.and_then(|number| u32::try_from(number).ok());
    let (route, tool) = (read_routes(section, routes), read_patterns(section, "tool"));
    if rate.is_absent() && !section.has("concurrency") {
        report_no_limit(section);
    }
    if rate.is_absent() && section.has("burst") {
        report_idle_burst(section);
    }
    let rate = rate.valid();
    let burst = burst.or(rate.map(|rate| rate.calls)).unwrap_or(1);
    Some(Limit { name: name?, per: per?, rate, burst, concurrency, route, tool })
}

fn read_quota(
    section: &mut Section<'_, '_>,
    taken: &mut BTreeMap<String, Place>,
    counted: &mut Vec<(Per, Period, Place)>,
) -> Option<Quota> {
    let per = section.require("per", |found| found.as_choice(&OF_QUOTAS));
    let calls = section.require("calls", |found| found.as_integer(&(1..=MAX_QUOTA)));
    let period = section.require("period", |found| found.as_choice(&PERIODS));
    let standard = per.zip(period).map(|(per, period)| format!("{}-{}", per.as_str(), period.as_str()));
    let name = read_name(section, standard, taken);
    let (name, per, calls, period) = (name?, per?, calls?, period?);
    match counted.iter().find(|(other, same, _)| (*other, *same) == (per, period)) {
        Some((_, _, first)) => report_second_quota(section, per, period, first),
        None => counted.push((per, period, section.place())),
    }
    Some(Quota { name, per, calls, period })
}

/// The smaller one would always be used up first.
fn report_second_quota(section: &mut Section<'_, '_>, per: Per, period: Period, first: &Place) {
    let (per, period) = (per.as_str(), period.as_str());
    let problem = Problem::new("quota-duplicate", format!("two quotas are per {per} and {period}"))
        .at(section.place())
        .label("the second")
        .related(first, "the first");
    section.report(problem.help("keep the smaller one: the other one would never be reached"));
}

/// The name, or the standard one with a number if that is taken.
fn read_name(
    section: &mut Section<'_, '_>,
    standard: Option<String>,
    taken: &mut BTreeMap<String, Place>,
) -> Option<String> {
    let (name, place) = match section.read("name", decode_name) {
        Reading::Valid(name) => {
            let key = section.full_key("name");
            (name, section.place_of(&key))
        }
        Reading::Invalid => return None,
        Reading::Absent => {
            let standard = standard?;
            let numbered = (2..).map(|number| format!("{standard}-{number}"));
            let free =
                std::iter::once(standard.clone()).chain(numbered).find(|name| !taken.contains_key(name));
            (free?, section.place())
        }
    };
    if let Some(first) = taken.get(&name) {
        let problem = Problem::new("limit-duplicate-name", format!("two limits are named `{name}`"))
            .at(place)
            .label("the second")
            .related(first, "the first");
        section.report(problem);
    } else {
        taken.insert(name.clone(), place);
    }
    Some(name)
}

fn decode_name(found: &Found<'_>) -> Result<String, Problem> {
    let name = found.as_full_text()?;
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if name.len() <= MAX_NAME_BYTES && name.bytes().all(valid) {
        return Ok(name.to_owned());
    }
    Err(Problem::new("value-invalid", "it cannot stand in a header")
        .label("not a name")
        .help(format!("lower-case letters, digits, `-` and `_`, at most {MAX_NAME_BYTES}")))
}

fn decode_rate(found: &Found<'_>) -> Result<Rate, Problem> {
    let text = found.as_text()?;
    let rate = text.split_once('/').and_then(|(calls, unit)| {
        let seconds = match unit.trim() {
            "s" => 1,
            "min" => 60,
            "h" => 3_600,
            _ => return None,
        };
        let calls = calls.trim().parse().ok().filter(|calls| (1..=MAX_CALLS).contains(&u64::from(*calls)))?;
        Some(Rate { calls, seconds })
    });
    rate.ok_or_else(|| {
        Problem::new("value-invalid", "it is not a rate")
            .label("not a rate")
            .help(format!("write it like \"10/s\", \"60/min\" or \"1000/h\", with at most {MAX_CALLS} calls"))
    })
}

fn report_no_limit(section: &mut Section<'_, '_>) {
    let problem = Problem::new("key-missing", "a limit needs `rate` or `concurrency`")
        .at(section.place())
        .label("limits nothing")
        .help("write rate = \"60/min\", or concurrency = 4, or both");
    section.report(problem);
}

fn report_idle_burst(section: &mut Section<'_, '_>) {
    let problem = Problem::new("key-unused", "`limit.burst` does nothing without a rate")
        .at(section.place_in_file("burst"))
        .label("does nothing here");
    section.report(problem.help("take it out, or add `rate`"));
}
