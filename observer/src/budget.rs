//! How much of something one instance may keep at a time, over all its clients: what each client may have is bounded
//! elsewhere, but there may be many. Whoever finds nothing left does without; nobody waits.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What may be kept.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: Arc<AtomicUsize>,
}

/// A part of a budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    amount: usize,
    used: Arc<AtomicUsize>,
}

impl Budget {
    pub(crate) fn of(limit: usize) -> Self {
        Self { limit, used: Arc::default() }
    }

    /// A part of what is left; `None` if that is less.
    pub(crate) fn take(&self, amount: usize) -> Option<Permit> {
        // Counted first, so that two at once cannot both take the last.
        let before = self.used.fetch_add(amount, Relaxed);
        let permit = Permit { amount, used: Arc::clone(&self.used) };
        (before + amount <= self.limit).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.used.fetch_sub(self.amount, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_as_much_as_the_limit_and_again_what_was_given_back() {
        let budget = Budget::of(3);
        let two = budget.take(2);
        assert!(two.is_some() && budget.take(2).is_none());
        let one = budget.take(1);
        assert!(one.is_some() && budget.take(1).is_none());
        drop(two);
        assert!(budget.take(2).is_some());
    }
}
