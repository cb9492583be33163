//! How many client connections there are at a time (`proxy.max_connections`), over all workers, or at the admin port. Who finds no room waits in
//! front of the door, as it would if we were slow; nobody is turned away, and nobody inside is sent out.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

/// How often the operator is told of it.
const REMIND: Duration = Duration::from_secs(60);

/// Room for connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    seats: Option<Arc<Semaphore>>,
    /// What says how many there are.
    limit: &'static str,
    told_at: Arc<Mutex<Option<Instant>>>,
}

/// A connection's room, until it is dropped. The default is one beyond the limit.
#[derive(Debug, Default)]
pub(crate) struct Seat(#[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

impl Room {
    /// Room for this many, as `limit` says; zero is any number.
    pub(crate) fn of(connections: usize, limit: &'static str) -> Self {
        let seats = (connections > 0).then(|| Arc::new(Semaphore::new(connections)));
        Self { seats, limit, told_at: Arc::default() }
    }

    /// Waits until there is room.
    pub(crate) async fn wait_for_seat(&self) -> Seat {
        let Some(seats) = &self.seats else { return Seat::default() };
        if let Ok(seat) = Arc::clone(seats).try_acquire_owned() {
            return Seat(Some(seat));
        }
        self.tell();
        // It is never closed.
        Seat(Arc::clone(seats).acquire_owned().await.ok())
    }

    fn tell(&self) {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_none_or(|at| at.elapsed() > REMIND) {
            *told_at = Some(Instant::now());
            warn!("{limit} is reached; new connections wait", limit = self.limit);
        }
    }
}
