//! Wrong tokens, counted by where they come from. Bounded, whoever tries; nobody is made to wait, because a token cannot
//! be guessed at any speed at which it could be tried (`admin.token` has a least length).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Wrong tokens from one network in a [`WINDOW`] that are told so; for more there is 429.
const MAX_WRONG: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Networks that are told apart; the others count as one.
const MAX_NETWORKS: usize = 1_024;

/// Who has tried what, of late.
#[derive(Default)]
pub(super) struct Attempts {
    networks: Mutex<HashMap<IpAddr, Window>>,
}

struct Window {
    since: Instant,
    wrong: u32,
}

/// What a wrong token is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The first of its network for a while.
    First(String),
    /// One more.
    Again,
    /// One too many; so many seconds are left of the window.
    TooMany { seconds: u64 },
}

impl Attempts {
    pub(super) fn note_wrong(&self, address: IpAddr, now: Instant) -> Wrong {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut network = network_of(address);
        if networks.len() >= MAX_NETWORKS && !networks.contains_key(&network) {
            networks.retain(|_, window| now.duration_since(window.since) < WINDOW);
            if networks.len() >= MAX_NETWORKS {
                network = Ipv4Addr::UNSPECIFIED.into();
            }
        }
        let window = networks.entry(network).or_insert(Window { since: now, wrong: 0 });
        if now.duration_since(window.since) >= WINDOW {
            *window = Window { since: now, wrong: 0 };
        }
        window.wrong = window.wrong.saturating_add(1);
        match window.wrong {
            1 => Wrong::First(network.to_string()),
            2..=MAX_WRONG => Wrong::Again,
            _ => Wrong::TooMany { seconds: (WINDOW - now.duration_since(window.since)).as_secs() + 1 },
        }
    }
}

/// Whoever has one IPv6 address has the 2^64 beside it.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_many_attempts_a_minute() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let note = |address: &str, seconds| {
            attempts.note_wrong(address.parse().expect("an address"), start + Duration::from_secs(seconds))
        };
        assert_eq!(note("2001:db8::1", 0), Wrong::First("2001:db8::".to_owned()));
        for _ in 1..MAX_WRONG {
            assert_eq!(note("2001:db8::2", 1), Wrong::Again);
        }
        assert_eq!(note("2001:db8::3", 10), Wrong::TooMany { seconds: 51 });
        assert!(matches!(note("2001:db8:0:1::3", 10), Wrong::First(_)), "another network");
        assert!(matches!(note("2001:db8::1", 60), Wrong::First(_)), "another minute");
    }

    #[test]
    fn however_many_come_no_more_are_remembered_than_there_is_room_for() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        for number in 1..10_000_u32 {
            attempts.note_wrong(Ipv4Addr::from(number).into(), start);
        }
        let remembered = || attempts.networks.lock().expect("not poisoned").len();
        assert!(remembered() <= MAX_NETWORKS + 1, "{}", remembered());
        let unknown = attempts.note_wrong([203, 0, 113, 1].into(), start);
        assert!(matches!(unknown, Wrong::TooMany { .. }), "those without room count as one");
        attempts.note_wrong([203, 0, 113, 1].into(), start + WINDOW);
        assert_eq!(remembered(), 1, "a minute later they are forgotten");
    }
}
