//! The time of leases, waits and expiry.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A store's clock: Unix milliseconds that never go back within a process. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    latest: Arc<AtomicI64>,
    system: bool,
}

impl Clock {
    /// The machine's clock; a step back holds it still until the machine has caught up.
    #[must_use]
    pub fn system() -> Self {
        Clock { latest: Arc::new(AtomicI64::new(0)), system: true }
    }

    /// One that stands at `ms` and moves only by [`Clock::pass`].
    #[must_use]
    pub fn manual(ms: i64) -> Self {
        Clock { latest: Arc::new(AtomicI64::new(ms)), system: false }
    }

    /// Lets time pass; for the machine's clock it changes nothing.
    pub fn pass(&self, time: Duration) {
        if !self.system {
            self.latest.fetch_add(millis(time), Ordering::AcqRel);
        }
    }

    /// Now, in Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        if !self.system {
            return self.latest.load(Ordering::Acquire);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = millis(since);
        self.latest.fetch_max(now, Ordering::AcqRel).max(now)
    }
}

/// Milliseconds of a duration.
pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back() {
        let clock = Clock::system();
        let first = clock.now_ms();
        assert!(first > 1_700_000_000_000, "{first}");
        clock.latest.fetch_add(3_600_000, Ordering::AcqRel);
        let ahead = clock.now_ms();
        assert!(ahead >= first + 3_600_000);
        assert_eq!(clock.now_ms(), ahead, "it holds still");

        let clock = Clock::manual(5);
        clock.clone().pass(Duration::from_secs(1));
        assert_eq!(clock.now_ms(), 1_005);
    }
}
