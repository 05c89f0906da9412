//! The seam of the wall clock: what day it is, for limits, records and dates of rules. How long something takes is
//! measured by tokio's clock.

use std::fmt;
use std::sync::Arc;

/// Tells the time; a cheap handle. Whoever makes an engine gives it one: the machine's, or one that a test sets.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// One that says what `unix_ms` gives: Unix time in milliseconds. It is read for every request and must not block.
    #[must_use]
    pub fn new(unix_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(unix_ms))
    }

    /// One that stands still at that Unix time, in milliseconds.
    #[must_use]
    pub fn stopped(unix_ms: i64) -> Clock {
        Clock::new(move || unix_ms)
    }

    /// Now, in Unix milliseconds. It may go back, as clocks of machines do that are set.
    #[must_use]
    pub fn unix_ms(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.unix_ms()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[test]
    fn it_says_what_it_is_told() {
        assert_eq!(Clock::stopped(7).unix_ms(), 7);
        let hand = Arc::new(AtomicI64::new(1));
        let read = hand.clone();
        let clock = Clock::new(move || read.load(Ordering::Relaxed));
        let same = clock.clone();
        hand.store(2, Ordering::Relaxed);
        assert_eq!((clock.unix_ms(), same.unix_ms()), (2, 2));
    }
}
