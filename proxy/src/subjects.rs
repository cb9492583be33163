//! What is known of many callers at once, each by a number: found quickly, in bounded memory, and without a stop for
//! everybody while what is old is thrown away.
//!
//! A caller's number is a keyed hash with a key of this process: nobody can choose names that share a place, or that fill
//! one shard. There is room for [`MOST`] callers; when a shard is full, the thirtieth part of it goes that says least
//! ([`Known::worth`]). Who is thrown out begins anew when it comes again.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Callers that are known at a time: a few MiB.
pub(crate) const MOST: usize = SHARDS * MOST_OF_SHARD;
/// A lock for each, held for less than a microsecond, or ten where something is thrown away.
const SHARDS: usize = 64;
const MOST_OF_SHARD: usize = 1_600;
/// How many go at a time, so that a flood of new names pays little for each.
const LEAVING: usize = MOST_OF_SHARD / 32;

/// What is known of one caller. The default is what is known of a new one.
pub(crate) trait Known: Default {
    /// What would be lost with it, compared with others; `None` if it must not be lost.
    fn worth(&self) -> Option<u64>;
}

/// What is known of each caller.
#[derive(Debug)]
pub(crate) struct Subjects<V> {
    key: RandomState,
    shards: Box<[Mutex<HashMap<u64, V>>]>,
}

impl<V: Known> Default for Subjects<V> {
    fn default() -> Self {
        Self { key: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl<V: Known> Subjects<V> {
    /// The number of the caller with this name.
    pub(crate) fn number_of(&self, name: impl Hash) -> u64 {
        self.key.hash_one(name)
    }

    /// Looks at what is known, which may be nothing.
    pub(crate) fn look<T>(&self, number: u64, look: impl FnOnce(Option<&mut V>) -> T) -> T {
        look(self.shard_of(number).get_mut(&number))
    }

    /// Changes what is known; of a new caller too, unless there is no room because nobody may be thrown out.
    pub(crate) fn change<T>(&self, number: u64, change: impl FnOnce(&mut V) -> T) -> Option<T> {
        let mut shard = self.shard_of(number);
        if !shard.contains_key(&number) && shard.len() >= MOST_OF_SHARD {
            make_room(&mut shard);
            if shard.len() >= MOST_OF_SHARD {
                return None;
            }
        }
        Some(change(shard.entry(number).or_default()))
    }

    /// Shows everything, and keeps what is to be kept. Never holds up more than a shard at a time.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&mut V) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, known| keep(known));
            if shard.capacity() > 4 * shard.len().max(64) {
                shard.shrink_to_fit();
            }
        }
    }

    /// How many callers are known.
    pub(crate) fn len(&self) -> usize {
        let len = |shard: &Mutex<HashMap<u64, V>>| shard.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.shards.iter().map(len).sum()
    }

    fn shard_of(&self, number: u64) -> MutexGuard<'_, HashMap<u64, V>> {
        let place = (number >> 32) as usize % self.shards.len();
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room<V: Known>(shard: &mut HashMap<u64, V>) {
    let mut worths: Vec<u64> = shard.values().filter_map(Known::worth).collect();
    let Some(last) = worths.len().checked_sub(1) else { return };
    let (_, limit, _) = worths.select_nth_unstable(LEAVING.min(last));
    let (limit, mut leaving) = (*limit, LEAVING.min(last) + 1);
    shard.retain(|_, known| {
        let leaves = leaving > 0 && known.worth().is_some_and(|worth| worth <= limit);
        leaving -= usize::from(leaves);
        !leaves
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Thing(u64);

    impl Known for Thing {
        fn worth(&self) -> Option<u64> {
            (self.0 < u64::MAX).then_some(self.0)
        }
    }

    #[test]
    fn names_are_told_apart_and_remembered() {
        let subjects = Subjects::<Thing>::default();
        let [anna, none] = [Some("anna"), None].map(|name: Option<&str>| subjects.number_of(name));
        assert_ne!(anna, none);
        assert_eq!(subjects.look(anna, |known| known.map(|thing| thing.0)), None);
        assert_eq!(subjects.change(anna, |thing| thing.0 = 5), Some(()));
        assert_eq!(subjects.look(anna, |known| known.map(|thing| thing.0)), Some(5));
        assert_eq!((subjects.len(), subjects.number_of(Some("anna"))), (1, anna));
        subjects.retain(|thing| thing.0 > 5);
        assert_eq!(subjects.len(), 0);
    }

    #[test]
    fn a_flood_of_names_throws_out_what_says_least_and_nothing_else() {
        let subjects = Subjects::<Thing>::default();
        let kept: Vec<u64> = (0..1_000).map(|number| subjects.number_of(("kept", number))).collect();
        for number in &kept {
            subjects.change(*number, |thing| thing.0 = 1_000_000);
        }
        for number in 0..(MOST as u64 * 5 / 4) {
            subjects.change(subjects.number_of(number), |thing| thing.0 = number % 1_000);
            assert!(number % 10_000 > 0 || subjects.len() <= MOST);
        }
        assert!(kept.iter().all(|number| subjects.look(*number, |known| known.is_some())));
        assert!(subjects.len() > MOST / 2);
    }

    #[test]
    fn where_nobody_may_be_thrown_out_nobody_new_comes_in() {
        let subjects = Subjects::<Thing>::default();
        let refused = (0..(MOST as u64 * 5 / 4)).filter(|number| {
            subjects.change(subjects.number_of(number), |thing| thing.0 = u64::MAX).is_none()
        });
        assert!(refused.count() > 0);
        assert_eq!(subjects.len(), MOST);
    }
}
