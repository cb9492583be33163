//! Which rounds belong to one multi round-trip request (2026-07-28): the server hands out a `requestState` that may
//! be another one in every round, and only the client's next request says which it goes on from.
//!
//! Keeps hashes, never a state, and of the last rounds only.

use crate::call::Text;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Rounds of one instance that are remembered. A request that goes on from an older one begins a group of its own.
const MAX_ROUNDS: usize = 4096;

/// The groups of states that are not their group's first.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    groups: Mutex<Groups>,
    /// Spares everybody the lock as long as no state ever changed.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Groups {
    by_state: HashMap<Text, Text>,
    oldest_first: VecDeque<Text>,
}

impl Rounds {
    /// The group of the request that goes on from a state: that of the round which handed the state out.
    pub(crate) fn group_of(&self, state: Text) -> Text {
        if !self.any.load(Ordering::Acquire) {
            return state;
        }
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.by_state.get(&state).map_or(state, Text::clone)
    }

    /// A round of a group handed out a state.
    pub(crate) fn note(&self, state: Text, group: &Text) {
        if state == *group {
            return;
        }
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.oldest_first.len() == MAX_ROUNDS
            && let Some(oldest) = groups.oldest_first.pop_front()
        {
            groups.by_state.remove(&oldest);
        }
        if groups.by_state.insert(Text::clone(&state), Text::clone(group)).is_none() {
            groups.oldest_first.push_back(state);
        }
        drop(groups);
        self.any.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_rounds_are_forgotten() {
        let rounds = Rounds::default();
        let group = Text::from("first");
        for n in 0..=MAX_ROUNDS {
            rounds.note(n.to_string().into(), &group);
        }
        assert_eq!(rounds.group_of("0".into()), "0".into(), "forgotten");
        assert_eq!(rounds.group_of("1".into()), group);
        let groups = rounds.groups.lock().expect("whole");
        assert_eq!((groups.by_state.len(), groups.oldest_first.len()), (MAX_ROUNDS, MAX_ROUNDS));
    }
}
