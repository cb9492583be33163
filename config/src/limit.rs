//! How much may be called: `[[limit]]` (rates and concurrency) and `[[quota]]` (calls per day or month).

use crate::Pattern;

/// `[[limit]]`: a rate, or a number at a time, or both, for every subject of a kind by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What clients are told it is called, in `RateLimit`; unique among limits and quotas.
    pub name: String,
    /// Whose calls are counted together.
    pub per: Per,
    /// How many calls in how much time; `None` for any number.
    pub rate: Option<Rate>,
    /// How many calls may come at once after a rest, at least 1; the calls of the rate unless told otherwise. Without a
    /// rate it means nothing.
    pub burst: u32,
    /// How many calls may run at a time; `None` for any number.
    pub concurrency: Option<u32>,
    /// Only calls on these routes; `None` for all.
    pub route: Option<Vec<Pattern>>,
    /// Only calls of these tools; `None` for all, and for lists.
    pub tool: Option<Vec<Pattern>>,
}

/// `[[quota]]`: how many calls there may be in a day or a month. Counted in the store, over all proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What clients are told it is called, in `RateLimit`; unique among limits and quotas.
    pub name: String,
    /// Whose calls are counted together; never [`Per::Tool`], [`Per::Address`] or [`Per::All`].
    pub per: Per,
    /// How many calls. Refused ones do not count.
    pub calls: u64,
    /// In how much time.
    pub period: Period,
}

/// Whose calls are counted together. Calls that lack what they are told apart by (that come without a key, say) are
/// counted together too: leaving it out frees nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    /// Each key's.
    Key,
    /// Each user's.
    User,
    /// Each organisation's.
    Organization,
    /// Those to each server instance.
    Instance,
    /// Those of each tool of each server instance.
    Tool,
    /// Each client address's; of IPv6, each /64's.
    Address,
    /// All of them.
    All,
}

/// `60/min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many calls, at least 1.
    pub calls: u32,
    /// In how many seconds: 1, 60 or 3600.
    pub seconds: u32,
}

/// How much time a quota is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// From midnight to midnight, in UTC.
    Day,
    /// From the first of a month to the first of the next, in UTC.
    Month,
}

impl Per {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Organization => "organization",
            Self::Instance => "instance",
            Self::Tool => "tool",
            Self::Address => "address",
            Self::All => "all",
        }
    }
}

impl Period {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}
