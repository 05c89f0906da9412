//! How many calls may be made beside slow ones: a small share of all calls, so that a provider that is slow for
//! everybody is not asked twice by everybody.

use std::sync::atomic::{AtomicU32, Ordering};

/// Calls that make room for one hedge: hedges are at most 5 % of calls (`reliability.md` §17).
const CALLS: u32 = 20;
/// Hedges that may be saved up.
const SAVED: u32 = 10;

/// Room for hedges, in parts of one. Counts across all requests.
#[derive(Debug)]
pub(crate) struct Hedges(AtomicU32);

impl Default for Hedges {
    fn default() -> Self {
        Hedges(AtomicU32::new(SAVED * CALLS))
    }
}

impl Hedges {
    /// A call that is no hedge makes room for part of one.
    pub(super) fn call(&self) {
        let more = |parts: u32| (parts < SAVED * CALLS).then(|| parts.saturating_add(1));
        // Full is full.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes the room of one hedge, if there is that much.
    pub(super) fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |parts| parts.checked_sub(CALLS)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hedges_are_a_twentieth_of_calls_beyond_what_was_saved() {
        let room = Hedges::default();
        let mut hedges = 0;
        for _ in 0..1_000 {
            room.call();
            hedges += u32::from(room.take());
        }
        assert_eq!(hedges, SAVED + 1_000 / CALLS - 1, "what arrives while it is full is lost");
        (0..10_000).for_each(|_| room.call());
        assert_eq!((0..100).filter(|_| room.take()).count(), 10);
    }
}
