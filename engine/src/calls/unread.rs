//! Time in which the reader of a stream, not its vendor, was waited for.
//!
//! Nobody polls a stream whose reader has no room. So from the moment when the vendor has something to give, by what was
//! given or by the vendor's call, until the next poll it is the reader who is waited for.

use futures_util::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// The time that a stream waits for its reader.
pub(super) struct Unread {
    bell: Arc<Bell>,
    /// How a vendor's call reaches it.
    waker: Waker,
    total: Duration,
}

impl Unread {
    /// Of a stream whose beginning was just given to its reader.
    pub(super) fn new() -> Self {
        let bell = Arc::new(Bell::default());
        bell.ring();
        Unread { waker: Waker::from(bell.clone()), bell, total: Duration::ZERO }
    }

    /// The reader asks for more, or never will again. Whether the reader had been waited for, and not the vendor.
    pub(super) fn ends(&mut self) -> bool {
        let since = self.bell.rung.swap(0, Ordering::AcqRel);
        if since == 0 {
            return false;
        }
        self.total += Duration::from_nanos(self.bell.now().saturating_sub(since));
        true
    }

    /// With what the vendor is to be polled on behalf of a reader.
    pub(super) fn context(&self, reader: &Context<'_>) -> Context<'_> {
        self.bell.reader.register(reader.waker());
        Context::from_waker(&self.waker)
    }

    /// Something was given to the reader.
    pub(super) fn begins(&self) {
        self.bell.ring();
    }

    /// All of it so far.
    pub(super) const fn total(&self) -> Duration {
        self.total
    }
}

/// Notes when the vendor first had something to give, and passes the call on.
struct Bell {
    reader: AtomicWaker,
    born: Instant,
    /// Nanoseconds from then, and one; zero = not since the last poll.
    rung: AtomicU64,
}

impl Default for Bell {
    fn default() -> Self {
        Bell { reader: AtomicWaker::new(), born: Instant::now(), rung: AtomicU64::new(0) }
    }
}

impl Bell {
    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn ring(&self) {
        // The first time counts.
        let _earlier = self.rung.compare_exchange(0, self.now(), Ordering::AcqRel, Ordering::Relaxed);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
        self.reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_vendor_that_has_something_waits_for_its_reader() {
        let second = Duration::from_secs(1);
        let mut unread = Unread::new();
        tokio::time::advance(second).await;
        assert!(unread.ends(), "its beginning was given");
        assert_eq!(unread.total().as_secs(), 1);
        let reader = Context::from_waker(Waker::noop());
        let vendor = unread.context(&reader).waker().clone();
        tokio::time::advance(second).await;
        assert!(!unread.ends(), "the vendor has given nothing yet");
        vendor.wake_by_ref();
        tokio::time::advance(second).await;
        vendor.wake();
        assert!(unread.ends(), "it had something from its first call on");
        unread.begins();
        assert!(unread.ends() && !unread.ends());
        assert_eq!(unread.total().as_secs(), 2);
    }
}
