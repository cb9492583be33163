//! Who may call what: the rules of the configuration, and what a key says of itself.
//!
//! The first rule that matches decides, then `policy.default`; a key can only take away from that. A rule that names
//! tools and allows also matches what calls no tool: a client has to open a session before it can call anything. Pure;
//! takes time in the number of rules, and no memory.

use mcpmeter_config::{self as config, Effect, IpNet, Pattern, Rule};
use std::{fmt, net::IpAddr};

/// Who asks, and whom. All of it is known from the head of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The name of the route.
    pub(crate) route: &'a str,
    /// The instance behind it, as its rows call it.
    pub(crate) instance: &'a str,
    /// The client's address; absent if it cannot be told, which no rule takes for an address that it allows, and every rule
    /// for one that it denies.
    pub(crate) address: Option<IpAddr>,
    /// The public id of the key, as rows have it.
    pub(crate) key: Option<&'a str>,
    /// The user, as rows have it.
    pub(crate) user: Option<&'a str>,
    /// The organisation, as rows have it.
    pub(crate) organization: Option<&'a str>,
    /// The routes that the key is for; absent for any.
    pub(crate) key_routes: Option<&'a [Pattern]>,
    /// The tools that the key is for; absent for any.
    pub(crate) key_tools: Option<&'a [Pattern]>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passes.
    Allowed,
    /// It is refused.
    Denied(Reason),
}

/// Why something is denied; for the record and the log, not for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The rule with this number, counted from 1 in the order of the file.
    Rule(usize),
    /// No rule matched.
    Default,
    /// The key is not for this route.
    KeyRoutes,
    /// The key is not for this tool.
    KeyTools,
}

/// The rules in force.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
    default: Effect,
}

impl Policy {
    /// Takes the rules of a configuration over.
    pub(crate) fn compile(config: &config::Policy) -> Self {
        Self { rules: config.rules.clone(), default: config.default }
    }

    /// Whether everybody may do everything.
    pub(crate) fn is_open(&self) -> bool {
        self.rules.is_empty() && self.default == Effect::Allow
    }

    /// Whether what is asked passes: the call of a tool, or, without one, anything else.
    pub(crate) fn judge(&self, asked: &Asked<'_>, tool: Option<&str>) -> Verdict {
        if is_missing(asked.key_routes, asked.route) {
            return Verdict::Denied(Reason::KeyRoutes);
        }
        if tool.is_some_and(|tool| is_missing(asked.key_tools, tool)) {
            return Verdict::Denied(Reason::KeyTools);
        }
        let decides = |rule: &Rule| is_about(rule, asked) && is_about_tool(rule, tool);
        let decisive = (1..).zip(&self.rules).find(|(_, rule)| decides(rule));
        let (effect, reason) = decisive
            .map_or((self.default, Reason::Default), |(number, rule)| (rule.effect, Reason::Rule(number)));
        match effect {
            Effect::Allow => Verdict::Allowed,
            Effect::Deny => Verdict::Denied(reason),
        }
    }

    /// Whether it depends on the tool what becomes of a call, so that the body has to be read.
    pub(crate) fn concerns_tools(&self, asked: &Asked<'_>) -> bool {
        let first = self.rules.iter().find(|rule| is_about(rule, asked));
        asked.key_tools.is_some() || first.is_some_and(|rule| rule.tool.is_some())
    }
}

/// Whether a rule may decide, as far as that does not depend on the tool.
fn is_about(rule: &Rule, asked: &Asked<'_>) -> bool {
    let Rule { effect, route, tool: _, key, user, organization, network } = rule;
    let names = |list: &Option<Vec<Pattern>>, name: Option<&str>| match (list, name) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(patterns), Some(name)) => patterns.iter().any(|pattern| pattern.matches(name)),
    };
    // A client that comes by an IPv6 socket may have an address of IPv4.
    let address = asked.address.map(|address| address.to_canonical());
    let is_in = |networks: &Vec<IpNet>| match address {
        Some(address) => networks.iter().any(|network| network.contains(&address)),
        None => *effect == Effect::Deny,
    };
    names(route, Some(asked.route))
        && names(key, asked.key)
        && names(user, asked.user)
        && names(organization, asked.organization)
        && network.as_ref().is_none_or(is_in)
}

fn is_about_tool(rule: &Rule, tool: Option<&str>) -> bool {
    match (&rule.tool, tool) {
        (None, _) => true,
        (Some(patterns), Some(tool)) => patterns.iter().any(|pattern| pattern.matches(tool)),
        (Some(_), None) => rule.concerns_other_requests(),
    }
}

/// Whether there is a list, and the name is not on it.
fn is_missing(list: Option<&[Pattern]>, name: &str) -> bool {
    list.is_some_and(|patterns| !patterns.iter().any(|pattern| pattern.matches(name)))
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(number) => write!(f, "denied by rule {number}"),
            Self::Default => f.write_str("allowed by no rule, and policy.default is \"deny\""),
            Self::KeyRoutes => f.write_str("the key is not for this route"),
            Self::KeyTools => f.write_str("the key is not for this tool"),
        }
    }
}

#[cfg(test)]
mod tests;
