//! Brownout: after some seconds of much to do, what only improves is left out until there is little to do for a
//! while. One switch for all of it, with a gap between on and off, so that it does not flutter.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// How long four fifths of the places must be taken before it begins.
const BEGINS_AFTER: Duration = Duration::from_secs(5);
/// How long less than half of them must be taken before it ends.
const ENDS_AFTER: Duration = Duration::from_secs(10);
/// Who waited longer for a place says that there is much to do, however many are taken.
const LONG_WAIT: Duration = Duration::from_millis(500);

/// Whether it is on, and since when the load has called for the other.
#[derive(Debug)]
pub(super) struct Brownout {
    on: AtomicBool,
    /// Milliseconds after `start`, and one; 0 = the load calls for what is.
    turning: AtomicU64,
    start: Instant,
}

impl Brownout {
    pub(super) fn new() -> Self {
        Brownout { on: AtomicBool::new(false), turning: AtomicU64::new(0), start: Instant::now() }
    }

    /// Looks at the load: `in_flight` of `max` places are taken, and one was `waited` for.
    pub(super) fn note(&self, in_flight: usize, max: usize, waited: Duration) {
        let on = self.on.load(Relaxed);
        let calls_for_other = match on {
            false => in_flight.saturating_mul(5) >= max.saturating_mul(4) || waited > LONG_WAIT,
            true => in_flight.saturating_mul(2) < max && waited <= LONG_WAIT,
        };
        let since = self.turning.load(Relaxed);
        if !calls_for_other {
            if since != 0 {
                self.turning.store(0, Relaxed);
            }
            return;
        }
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let needed = if on { ENDS_AFTER } else { BEGINS_AFTER };
        if since == 0 {
            self.turning.store(passed, Relaxed);
        } else if Duration::from_millis(passed.saturating_sub(since)) >= needed {
            // Two that get here at once say the same.
            self.turning.store(0, Relaxed);
            self.on.store(!on, Relaxed);
        }
    }

    /// Whether it is on. While it is, whoever asks looks at the load as well: nobody may come in for a while.
    pub(super) fn is_on(&self, in_flight: usize, max: usize) -> bool {
        if self.on.load(Relaxed) {
            self.note(in_flight, max, Duration::ZERO);
        }
        self.on.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_takes_time_to_begin_and_longer_to_end() {
        let b = Brownout::new();
        // Seconds, places taken of ten, whether it is on afterwards.
        let day = [
            (0, 8, false),
            (4, 9, false),
            (1, 7, false),
            (1, 8, false),
            (4, 10, false),
            (1, 8, true),
            (20, 5, true),
            (1, 4, true),
            (9, 4, true),
            (1, 6, true),
            (1, 4, true),
            (10, 4, false),
        ];
        for (i, (seconds, taken, on)) in day.into_iter().enumerate() {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            b.note(taken, 10, Duration::ZERO);
            assert_eq!(b.on.load(Relaxed), on, "step {i}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_though_nobody_comes_in() {
        let b = Brownout::new();
        b.note(9, 10, Duration::ZERO);
        tokio::time::advance(BEGINS_AFTER).await;
        b.note(3, 10, LONG_WAIT * 2);
        assert!(b.is_on(0, 10));
        tokio::time::advance(ENDS_AFTER).await;
        assert!(!b.is_on(0, 10));
    }
}
