//! The lists by which rules and limits select: names with `*`, routes that have to exist, networks.

use std::net::IpAddr;

use ipnet::IpNet;

use super::found::Found;
use super::section::{Reading, Section};
use super::suggestion;
use crate::{Pattern, Problem, Route};

/// The names of all routes; absent where not all of them could be read, so that none can be said not to exist.
pub(super) type RouteNames<'a> = Option<Vec<&'a str>>;

/// What routes there are, of those that the file has.
pub(super) fn names_of(routes: &[Route], number_in_file: usize) -> RouteNames<'_> {
    let complete = !routes.is_empty() && routes.len() == number_in_file;
    complete.then(|| routes.iter().map(|route| route.name.as_str()).collect())
}

pub(super) fn read_patterns(section: &mut Section<'_, '_>, key: &'static str) -> Option<Vec<Pattern>> {
    let patterns = section.each(key, |found| found.as_full_text().map(Pattern::new));
    refuse_empty(section, key, patterns)
}

/// As [`read_patterns`]; each has to match a route.
pub(super) fn read_routes(section: &mut Section<'_, '_>, known: &RouteNames<'_>) -> Option<Vec<Pattern>> {
    let patterns = section.each("route", |found| decode_route(found, known));
    refuse_empty(section, "route", patterns)
}

pub(super) fn read_networks(section: &mut Section<'_, '_>) -> Option<Vec<IpNet>> {
    let networks = section.each("network", decode_network);
    refuse_empty(section, "network", networks)
}

/// A list without entries matches nothing, which nobody means.
fn refuse_empty<T>(section: &mut Section<'_, '_>, key: &str, list: Reading<Vec<T>>) -> Option<Vec<T>> {
    let list = list.valid()?;
    if list.is_empty() {
        let full_key = section.full_key(key);
        let problem = Problem::new("list-empty", format!("`{full_key}` is empty"))
            .at(section.place_of(&full_key))
            .label("matches nothing")
            .help(format!("leave `{key}` out to match anything"));
        section.report(problem);
    }
    Some(list)
}

fn decode_route(found: &Found<'_>, known: &RouteNames<'_>) -> Result<Pattern, Problem> {
    let text = found.as_full_text()?;
    let pattern = Pattern::new(text);
    let Some(known) = known.as_ref().filter(|known| !known.iter().any(|name| pattern.matches(name))) else {
        return Ok(pattern);
    };
    let problem = Problem::new("route-unknown", format!("there is no route `{text}`")).label("no route");
    Err(match suggestion::find_nearest(text, known.iter().copied()) {
        Some(nearest) => problem.help(format!("did you mean \"{nearest}\"?")),
        None => problem.help(format!("the routes are: {}", known.join(", "))),
    })
}

/// A network, or the address of one machine.
fn decode_network(found: &Found<'_>) -> Result<IpNet, Problem> {
    let text = found.as_full_text()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = text.parse().map_err(|_| {
        Problem::new("value-invalid", "it is not a network")
            .label("not a network")
            .help("write it like \"10.0.0.0/8\", \"2001:db8::/32\" or \"127.0.0.1\"")
    })?;
    if network.addr() != network.network() {
        let meant = network.trunc();
        return Err(Problem::new("value-invalid", "it has an address where a network begins")
            .label("bits behind the prefix")
            .help(format!("write \"{meant}\", or the address alone")));
    }
    if let IpNet::V6(v6) = network
        && v6.addr().to_ipv4_mapped().is_some()
    {
        // Addresses are compared in their shortest form, which for these is that of IPv4.
        return Err(Problem::new("value-invalid", "it is a network of IPv4 in the form of IPv6")
            .label("never matches")
            .help("write it as IPv4, like \"10.0.0.0/8\""));
    }
    Ok(network)
}
