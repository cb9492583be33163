//! How much of bodies is held in memory because it has to be judged before it may go on. Whoever uploads slowly costs
//! memory and nothing else, so there is an end to it. Never makes anyone wait: who finds no room is told so.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Not counted: a small call is never refused because others hold much. A stream of HTTP/2 that holds as much costs about as
/// much by itself.
const FREE: u64 = 4 << 10;

/// What is held at a time, kept over reloads.
#[derive(Debug, Default)]
pub(crate) struct HeldBytes(AtomicU64);

impl HeldBytes {
    /// How many there are.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Room for one body, which has none of it yet; for all of them together there are `max` bytes.
    pub(crate) fn hold(self: &Arc<Self>, max: u64) -> Hold {
        Hold { all: Arc::clone(self), max, bytes: 0 }
    }
}

/// One body's share, until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    all: Arc<HeldBytes>,
    max: u64,
    bytes: u64,
}

impl Hold {
    /// Makes room for a body of so many bytes; `false` if there is none.
    pub(crate) fn grow_to(&mut self, len: u64) -> bool {
        let more = len.saturating_sub(FREE).saturating_sub(self.bytes);
        // Counted first, so that two at once cannot both take the last room.
        let before = self.all.0.fetch_add(more, Relaxed);
        self.bytes += more;
        more == 0 || before.saturating_add(more) <= self.max
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_as_much_as_allowed_and_small_bodies_need_none() {
        let held = Arc::<HeldBytes>::default();
        let [mut one, mut other, mut small] = [0; 3].map(|_| held.hold(1_000));
        assert!(one.grow_to(FREE + 600) && one.grow_to(FREE + 800), "it grows");
        assert!(!other.grow_to(FREE + 201));
        assert!(small.grow_to(FREE));
        drop(other);
        let mut third = held.hold(1_000);
        assert!(third.grow_to(FREE + 200), "who found no room has taken none with it");
        drop((one, third));
        assert!(small.grow_to(FREE + 1_000), "who has left leaves room");
    }
}
