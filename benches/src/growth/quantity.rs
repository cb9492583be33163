//! What grows, as data: its steps, and for each how mcpmeter is set up and loaded. Adding one is adding a variant.

use std::time::Duration;

use crate::contender::Variant;
use crate::exchange::Exchange;
use crate::table::group_digits;
use crate::workload::{Pace, Workload};

/// Connections where they are not what grows.
const CONNECTIONS: usize = 16;

/// Calls per second that make a backlog known to last: slow enough that it grows little while it is measured.
const TRICKLE: u32 = 1_000;

/// Load before each window.
const WARM_UP: Duration = Duration::from_millis(500);

/// Fewer calls than these are made in a second on any machine.
const SLOWEST_CALLS_PER_SECOND: f64 = 2_000.0;

/// The quantities `--only` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Quantity {
    /// Open connections, all of them calling.
    Connections,
    /// Live sessions, which the calls take turns in.
    Sessions,
    /// Routes in the configuration, the last of which is called.
    Routes,
    /// Bytes of an answer.
    Bodies,
    /// Rows that wait in the outbox while PostgreSQL is stopped.
    Backlog,
}

/// One step of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    /// What grows.
    pub(crate) quantity: Quantity,
    /// How much of it.
    pub(crate) size: u64,
}

impl Quantity {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 5] =
        [Self::Connections, Self::Sessions, Self::Routes, Self::Bodies, Self::Backlog];

    /// Its points, smallest first.
    pub(crate) fn points(self) -> impl Iterator<Item = Point> {
        let sizes: &[u64] = match self {
            Self::Connections => &[1, 4, 16, 64, 256, 1_024],
            Self::Sessions => &[10, 100, 1_000, 10_000],
            Self::Routes => &[1, 10, 100, 1_000, 10_000],
            Self::Bodies => &[300, 3_000, 30_000, 300_000, 3_000_000],
            Self::Backlog => &[0, 10_000, 100_000],
        };
        sizes.iter().map(move |size| Point { quantity: self, size: *size })
    }

    /// What its sizes count.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Sessions => "live sessions",
            Self::Routes => "routes",
            Self::Bodies => "bytes of an answer",
            Self::Backlog => "rows in the outbox",
        }
    }
}

impl Point {
    /// What the table calls it.
    pub(crate) fn name(self) -> String {
        format!("{} {}", group_digits(self.size), self.quantity.unit())
    }

    /// How mcpmeter is set up.
    pub(crate) fn variant(self) -> Variant {
        let further_routes = if self.quantity == Quantity::Routes { self.size as usize - 1 } else { 0 };
        Variant { further_routes, ..Variant::default() }
    }

    /// The load.
    pub(crate) fn workload(self) -> Workload {
        let closed = Pace::Closed { connections: CONNECTIONS };
        let (exchange, pace) = match self.quantity {
            Quantity::Connections => (Exchange::Small, Pace::Closed { connections: self.size as usize }),
            Quantity::Sessions => (
                Exchange::Small,
                Pace::Sessions { connections: CONNECTIONS.min(self.size as usize), sessions: self.size },
            ),
            Quantity::Routes => (Exchange::Small, closed),
            Quantity::Bodies => (self.exchange(), closed),
            Quantity::Backlog => (Exchange::Small, Pace::Open { per_second: TRICKLE }),
        };
        Workload { name: "growth", about: self.quantity.unit(), exchange, pace }
    }

    fn exchange(self) -> Exchange {
        let promised = |exchange: &Exchange| exchange.answer_body().len() as u64;
        let sized = [Exchange::Small, Exchange::Kb3, Exchange::Kb30, Exchange::Kb300, Exchange::Mb3];
        let nearest = sized.into_iter().min_by_key(|exchange| promised(exchange).abs_diff(self.size));
        nearest.expect("there are some")
    }

    /// The load that makes the backlog, as fast as it goes.
    pub(crate) fn filling(self) -> Workload {
        let pace = Pace::Closed { connections: CONNECTIONS };
        Workload { name: "growth", about: "fills the outbox", exchange: Exchange::Small, pace }
    }

    /// How long the load lasts before the window: every session has to have been seen.
    pub(crate) fn warm_up(self) -> Duration {
        match self.quantity {
            Quantity::Sessions => {
                WARM_UP.max(Duration::from_secs_f64(self.size as f64 / SLOWEST_CALLS_PER_SECOND))
            }
            _ => WARM_UP,
        }
    }

    /// Calls that the load before the window has to make.
    pub(crate) fn least_calls_before(self) -> u64 {
        if self.quantity == Quantity::Sessions { self.size } else { 1 }
    }

    /// The bytes that the CPU of a call is also divided by.
    pub(crate) fn body_bytes(self) -> Option<u64> {
        (self.quantity == Quantity::Bodies).then(|| self.exchange().answer_body().len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_of_a_body_is_another_exchange_of_about_that_size() {
        for point in Quantity::Bodies.points() {
            let bytes = point.body_bytes().unwrap();
            assert!(bytes.abs_diff(point.size) <= point.size / 10, "{bytes} for {}", point.size);
        }
    }

    #[test]
    fn the_route_that_is_called_is_one_of_those_counted() {
        let further: Vec<_> = Quantity::Routes.points().map(|point| point.variant().further_routes).collect();
        assert_eq!(further, [0, 9, 99, 999, 9_999]);
    }

    #[test]
    fn points_are_named_with_their_unit() {
        let last = Quantity::Sessions.points().last().unwrap();
        assert_eq!(last.name(), "10,000 live sessions");
        assert_eq!(last.warm_up(), Duration::from_secs(5));
    }
}
