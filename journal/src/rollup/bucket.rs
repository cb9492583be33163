//! Which stretch of time a call belongs to: 5 minutes, an hour or a day, all counted from 1970 in UTC.
//!
//! A call belongs to the bucket of its `created_at`, whenever it is stored. Pure: no clock.

use mcpmeter_observer::Timestamp;

const MINUTE_US: i64 = 60_000_000;

/// How much time one cell covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// 5 minutes: made from the rows themselves; everything longer is made from this.
    FiveMinutes,
    /// An hour.
    Hour,
    /// A day (UTC).
    Day,
}

impl Span {
    /// Every span, shortest first.
    pub const ALL: [Self; 3] = [Self::FiveMinutes, Self::Hour, Self::Day];

    /// The span as tables' names spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FiveMinutes => "5min",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Its length in microseconds.
    pub const fn us(self) -> i64 {
        match self {
            Self::FiveMinutes => 5 * MINUTE_US,
            Self::Hour => 60 * MINUTE_US,
            Self::Day => 24 * 60 * MINUTE_US,
        }
    }

    /// The beginning of the bucket that the instant belongs to.
    pub const fn start_of(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.div_euclid(self.us()).saturating_mul(self.us()))
    }

    /// The first instant that no longer belongs to the bucket of `at`.
    pub const fn end_of(self, at: Timestamp) -> Timestamp {
        Timestamp(self.start_of(at).0.saturating_add(self.us()))
    }

    /// The span that cells of this one are made of; 5 minutes are made of rows.
    pub(crate) const fn lower(self) -> Option<Self> {
        match self {
            Self::FiveMinutes => None,
            Self::Hour => Some(Self::FiveMinutes),
            Self::Day => Some(Self::Hour),
        }
    }
}

/// The beginnings of the longer buckets that hold the given ones, each once, in order.
pub(crate) fn containing(span: Span, starts: &[Timestamp]) -> Vec<Timestamp> {
    let mut holders: Vec<_> = starts.iter().map(|start| span.start_of(*start)).collect();
    holders.sort_unstable();
    holders.dedup();
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_belongs_to_the_bucket_that_began_last() {
        let five = Span::FiveMinutes.us();
        for (at, start) in [(0, 0), (five - 1, 0), (five, five), (-1, -five), (-five, -five)] {
            assert_eq!(Span::FiveMinutes.start_of(Timestamp(at)), Timestamp(start), "{at}");
        }
        assert_eq!(Span::Day.end_of(Timestamp(1)), Timestamp(86_400_000_000));
    }

    #[test]
    fn every_span_is_made_of_whole_ones_of_the_next_shorter() {
        for span in Span::ALL {
            let Some(lower) = span.lower() else { continue };
            assert_eq!(span.us() % lower.us(), 0);
        }
    }

    #[test]
    fn the_ends_of_time_are_not_an_error() {
        for at in [i64::MIN, i64::MAX] {
            for span in Span::ALL {
                let (start, end) = (span.start_of(Timestamp(at)), span.end_of(Timestamp(at)));
                assert!(start <= end);
            }
        }
    }
}
