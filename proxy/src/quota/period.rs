//! The day or month that an instant belongs to, in UTC. Pure.

use jiff::{Timestamp as Instant, ToSpan, civil::Date, tz::TimeZone};
use mcpmeter_config::Period;
use mcpmeter_observer::Timestamp;
use std::ops::Range;

const DAY_US: i64 = 86_400_000_000;

/// From its first instant to the first of the next.
pub(super) fn of(period: Period, now: Timestamp) -> Range<Timestamp> {
    let day = now.0.div_euclid(DAY_US).saturating_mul(DAY_US);
    let day = Timestamp(day)..Timestamp(day.saturating_add(DAY_US));
    match period {
        Period::Day => day,
        // Of a clock that is thousands of years off, a day has to do.
        Period::Month => month_of(now).unwrap_or(day),
    }
}

fn month_of(now: Timestamp) -> Option<Range<Timestamp>> {
    let date = Instant::from_microsecond(now.0).ok()?.to_zoned(TimeZone::UTC).date();
    let first = date.first_of_month();
    Some(midnight(first)?..midnight(first.checked_add(1.month()).ok()?)?)
}

fn midnight(date: Date) -> Option<Timestamp> {
    Some(Timestamp(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<Instant>().expect("an instant").as_microsecond())
    }

    #[test]
    fn days_and_months_begin_at_midnight_in_utc() {
        for (now, period, from, to) in [
            ("2026-03-01T00:00:00Z", Period::Day, "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"),
            ("2026-02-28T23:59:59.999999Z", Period::Day, "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("2026-02-28T23:59:59.999999Z", Period::Month, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("2028-02-29T12:00:00Z", Period::Month, "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            ("2026-12-31T00:00:00Z", Period::Month, "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("1969-12-31T23:00:00Z", Period::Day, "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z"),
            // Midnight somewhere else.
            ("2026-03-31T23:30:00-02:00", Period::Month, "2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z"),
        ] {
            assert_eq!(of(period, at(now)), at(from)..at(to), "{now}");
        }
        for end in [Timestamp(i64::MAX), Timestamp(i64::MIN)] {
            assert!(of(Period::Month, end).start <= end);
        }
    }
}
