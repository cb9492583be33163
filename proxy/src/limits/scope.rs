//! Which calls a limit is about, and whose they are. Pure.

use super::bucket::Held;
use crate::{policy::Asked, subjects::Subjects};
use mcpmeter_config::{Limit, Pattern, Per};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

/// A provider gives each customer a /64 at least, within which addresses are free to choose.
const PREFIX: u128 = !0 << 64;

/// What a limit selects by.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    per: Per,
    route: Option<Vec<Pattern>>,
    tool: Option<Vec<Pattern>>,
}

impl Scope {
    pub(super) fn of(limit: &Limit) -> Self {
        Self { per: limit.per, route: limit.route.clone(), tool: limit.tool.clone() }
    }

    pub(super) fn is_about(&self, route: &str) -> bool {
        matches(self.route.as_deref(), route)
    }

    pub(super) fn concerns_tools(&self) -> bool {
        self.tool.is_some() || self.per == Per::Tool
    }

    /// Tells the caller, or the callers, whose calls these are, and how many they are; nobody if there are none.
    pub(super) fn count(
        &self,
        held: &Subjects<Held>,
        asked: &Asked<'_>,
        calls: &[Option<&str>],
        mut tell: impl FnMut(u64, u32),
    ) {
        if !self.is_about(asked.route) {
            return;
        }
        if !self.concerns_tools() {
            return tell_some(caller(self.per, held, asked), calls.len(), tell);
        }
        // A list of tools is no call of one.
        let tools = calls.iter().flatten().filter(|tool| matches(self.tool.as_deref(), tool));
        if self.per != Per::Tool {
            return tell_some(caller(self.per, held, asked), tools.count(), tell);
        }
        let mut by_tool: BTreeMap<&str, usize> = BTreeMap::new();
        for tool in tools {
            *by_tool.entry(tool).or_default() += 1;
        }
        for (tool, calls) in by_tool {
            tell_some(held.number_of((asked.instance, tool)), calls, &mut tell);
        }
    }
}

fn tell_some(caller: u64, calls: usize, mut tell: impl FnMut(u64, u32)) {
    if calls > 0 {
        tell(caller, u32::try_from(calls).unwrap_or(u32::MAX));
    }
}

fn caller(per: Per, held: &Subjects<Held>, asked: &Asked<'_>) -> u64 {
    match per {
        Per::Key => held.number_of(asked.key),
        Per::User => held.number_of(asked.user),
        Per::Organization => held.number_of(asked.organization),
        Per::Instance => held.number_of(asked.instance),
        Per::Address => held.number_of(asked.address.map(neighbourhood)),
        Per::Tool | Per::All => held.number_of(()),
    }
}

/// The address, as far as somebody cannot choose another one.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & PREFIX)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn matches(patterns: Option<&[Pattern]>, name: &str) -> bool {
    patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(name)))
}
