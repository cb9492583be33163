//! What is valid, and hardly what anybody wants: settings that let in more than they seem to, and rules that never match.
//!
//! A warning changes nothing. It is for a person, at `check` and at every start; what can never be right is a problem.

use ipnet::IpNet;

use crate::{Config, Effect, Identity, Limit, Pattern, Per, Quota, Route, Rule};

/// A network as large as an eighth of all addresses is a mistake for "everywhere".
const EVERYWHERE_BITS: u8 = 3;

/// Everything about a configuration that a person should look at again: one sentence each, lower case, no full stop, no
/// secret; in the order of the file's sections.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(network) = everywhere(&config.proxy.trusted_proxies) {
        warnings.push(format!(
            "`proxy.trusted_proxies` has {network}: any client can say that it has any address; name the proxies"
        ));
    }
    for route in &config.routes {
        if let Identity::Header { networks, user, .. } = &route.identity
            && let Some(network) = everywhere(networks)
        {
            warnings.push(format!(
                "route `{}` believes `{user}` from {network}: anybody can be anyone there; name the proxies that set it",
                route.name
            ));
        }
    }
    let rules = (1..).zip(&config.policy.rules);
    warnings.extend(rules.flat_map(|(number, rule)| of_rule(number, rule, &config.routes)));
    warnings.extend(config.limits.iter().filter_map(|limit| of_limit(limit, &config.routes)));
    warnings.extend(config.quotas.iter().filter_map(|quota| of_quota(quota, &config.routes)));
    warnings
}

fn everywhere(networks: &[IpNet]) -> Option<&IpNet> {
    networks.iter().find(|network| network.prefix_len() <= EVERYWHERE_BITS)
}

/// What callers can be known by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Key,
    User,
    Organization,
}

impl Known {
    const fn noun(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Organization => "organization",
        }
    }

    /// Whether a route can know it of any caller.
    const fn is_known_on(self, route: &Route) -> bool {
        let identity = &route.identity;
        match self {
            Self::Key => matches!(identity, Identity::ApiKey { .. }),
            Self::User => {
                route.user_id.is_some()
                    || identity.tokens().is_some()
                    || matches!(identity, Identity::ApiKey { .. } | Identity::Header { .. })
            }
            Self::Organization => {
                let by_token = match identity.tokens() {
                    Some(tokens) => tokens.organization_claim.is_some(),
                    None => false,
                };
                route.organization_id.is_some()
                    || by_token
                    || matches!(
                        identity,
                        Identity::ApiKey { .. } | Identity::Header { organization: Some(_), .. }
                    )
            }
        }
    }

    /// The names of the routes in question on which it is not known.
    fn missing_on<'a>(self, chosen: Option<&[Pattern]>, routes: &'a [Route]) -> Vec<&'a str> {
        let missing = routes.iter().filter(|route| is_chosen(chosen, route) && !self.is_known_on(route));
        missing.map(|route| route.name.as_str()).collect()
    }
}

/// Whether a list of routes has this one; no list has all.
fn is_chosen(chosen: Option<&[Pattern]>, route: &Route) -> bool {
    chosen.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(&route.name)))
}

fn of_rule(number: usize, rule: &Rule, routes: &[Route]) -> Vec<String> {
    let by = [
        (Known::Key, rule.key.is_some()),
        (Known::User, rule.user.is_some()),
        (Known::Organization, rule.organization.is_some()),
    ];
    let by = || by.iter().filter(|(_, selects)| *selects).map(|(known, _)| *known);
    let concerned = routes.iter().filter(|route| is_chosen(rule.route.as_deref(), route)).count();
    let dead = by().filter_map(|known| {
        let missing = known.missing_on(rule.route.as_deref(), routes);
        let noun = known.noun();
        (missing.len() == concerned && concerned > 0).then(|| {
            format!("rule {number} never matches: it goes by {noun}, and none of its routes ever knows one")
        })
    });
    let mut warnings: Vec<_> = dead.collect();
    let reads_along = |route: &&Route| {
        matches!(&route.identity, Identity::Passthrough { tokens: Some(_) })
            && is_chosen(rule.route.as_deref(), route)
    };
    let open: Vec<_> = routes.iter().filter(reads_along).map(|route| route.name.as_str()).collect();
    if rule.effect == Effect::Deny && by().any(|known| known != Known::Key) && !open.is_empty() {
        warnings.push(format!(
            "rule {number} denies by who calls, and on {} callers need not say who they are: with mode = \"jwt\" they would",
            listed(&open)
        ));
    }
    warnings
}

fn of_limit(limit: &Limit, routes: &[Route]) -> Option<String> {
    let missing = known_by(limit.per)?.missing_on(limit.route.as_deref(), routes);
    counted_as_one("limit", &limit.name, limit.per, &missing)
}

fn of_quota(quota: &Quota, routes: &[Route]) -> Option<String> {
    let missing = known_by(quota.per)?.missing_on(None, routes);
    counted_as_one("quota", &quota.name, quota.per, &missing)
}

fn counted_as_one(kind: &str, name: &str, per: Per, missing: &[&str]) -> Option<String> {
    let noun = per.as_str();
    (!missing.is_empty()).then(|| {
        format!(
            "{kind} `{name}` is per {noun}, and counts all callers of {} as one, because no {noun} is ever known there",
            listed(missing)
        )
    })
}

const fn known_by(per: Per) -> Option<Known> {
    match per {
        Per::Key => Some(Known::Key),
        Per::User => Some(Known::User),
        Per::Organization => Some(Known::Organization),
        Per::Instance | Per::Tool | Per::Address | Per::All => None,
    }
}

/// Some routes, by name.
fn listed(names: &[&str]) -> String {
    let noun = if names.len() == 1 { "route" } else { "routes" };
    format!("{noun} `{}`", names.join("`, `"))
}
