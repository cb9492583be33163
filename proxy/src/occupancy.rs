//! How many exchanges a route has at a time (`max_exchanges`). Never makes anyone wait: who finds no room is told so.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// The exchanges of a route, kept over reloads.
#[derive(Debug, Default)]
pub(crate) struct Occupancy(AtomicU32);

impl Occupancy {
    /// Room for one more exchange, until the guard is dropped; `None` if there are `limit` already.
    pub(crate) fn enter(self: &Arc<Self>, limit: u32) -> Option<Place> {
        // Counted first, so that two at once cannot both take the last place.
        let place = (self.0.fetch_add(1, Relaxed), Place(Arc::clone(self)));
        (place.0 < limit).then_some(place.1)
    }
}

/// An exchange's room.
#[derive(Debug)]
pub(crate) struct Place(Arc<Occupancy>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_as_many_as_allowed() {
        let occupancy = Arc::<Occupancy>::default();
        let places: Vec<_> = (0..3).map(|_| occupancy.enter(2)).collect();
        assert_eq!(places.iter().flatten().count(), 2);
        drop(places);
        assert!(occupancy.enter(1).is_some(), "who was refused has left, too");
    }
}
