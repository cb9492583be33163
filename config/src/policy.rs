//! Who may call what: `[policy]` and `[[rule]]`. Says what is allowed; that it is kept to is the proxy's part.

use crate::Pattern;
use ipnet::IpNet;

/// `[policy]`, and the rules in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What becomes of a request that no rule matches.
    pub default: Effect,
    /// The largest body that is read to find out which tool is called, in bytes. A larger one is answered with 413 where
    /// a rule, a key or a limit depends on the tool; elsewhere bodies of any size pass unread.
    pub max_body_bytes: u64,
    /// How many bytes of such bodies are held at a time, and of those for servers that are programs, all of them together,
    /// beyond the first 4 KiB of each. What finds no room is answered with 503. At least [`Policy::max_body_bytes`].
    pub max_held_bytes: u64,
    /// How long such a body may take, in milliseconds. A slower one is answered with 408.
    pub body_timeout_ms: u64,
    /// The rules. The first one that matches decides.
    pub rules: Vec<Rule>,
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It passes.
    Allow,
    /// It is refused, and recorded as `denied`.
    Deny,
}

/// `[[rule]]`. It matches what every one of its lists has an entry for; a list that is absent (`None`) matches
/// everything. One that is there is never empty.
///
/// A rule that names tools is about calls of tools. What is no call of a tool (the opening of a session, a list, a
/// stream) is matched by such a rule if it allows, and not if it denies: whoever may call some tool may speak to its
/// server, and whoever may not call some tool may do so too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether it allows or denies.
    pub effect: Effect,
    /// The names of routes.
    pub route: Option<Vec<Pattern>>,
    /// The names of tools, as `params.name` of a `tools/call` has them.
    pub tool: Option<Vec<Pattern>>,
    /// The public ids of keys. What comes without a key is matched by none of them, not even by `*`.
    pub key: Option<Vec<Pattern>>,
    /// Users, in the same way.
    pub user: Option<Vec<Pattern>>,
    /// Organisations, in the same way.
    pub organization: Option<Vec<Pattern>>,
    /// Networks that the client's address is in.
    pub network: Option<Vec<IpNet>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            default: Effect::Allow,
            max_body_bytes: 4 << 20,
            max_held_bytes: 256 << 20,
            body_timeout_ms: 60_000,
            rules: Vec::new(),
        }
    }
}

impl Rule {
    /// Whether a request that calls no tool may be matched.
    pub fn concerns_other_requests(&self) -> bool {
        self.tool.is_none() || self.effect == Effect::Allow
    }

    /// Whether nothing is left for the other rule, where that comes later.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let names = |wide: &Option<Vec<Pattern>>, narrow: &Option<Vec<Pattern>>| {
            covers_all(wide.as_deref(), narrow.as_deref(), Pattern::covers)
        };
        let Self { effect: _, route, tool, key, user, organization, network } = self;
        names(route, &other.route)
            && names(tool, &other.tool)
            && names(key, &other.key)
            && names(user, &other.user)
            && names(organization, &other.organization)
            && covers_all(network.as_deref(), other.network.as_deref(), |wide, narrow| wide.contains(narrow))
            && (self.concerns_other_requests() || !other.concerns_other_requests())
    }
}

fn covers_all<T>(wide: Option<&[T]>, narrow: Option<&[T]>, covers: impl Fn(&T, &T) -> bool) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => {
            narrow.iter().all(|narrow| wide.iter().any(|wide| covers(wide, narrow)))
        }
    }
}
