//! Time that passes only when nothing else can happen.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// Turns without any progress after which a run is stuck.
const MAX_TURNS: usize = 1_000_000;

/// A simulated clock.
pub(super) struct Clock(Mutex<State>);

struct State {
    now: Instant,
    /// Sleepers by the moment they wait for, in the order in which they came.
    sleepers: BTreeMap<(Instant, u64), Waker>,
    next: u64,
}

/// A wait on the simulated clock.
pub(super) struct Sleep<'a> {
    clock: &'a Clock,
    until: Instant,
    id: Option<u64>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl Clock {
    pub(super) fn new() -> Self {
        Clock(Mutex::new(State { now: Instant::now(), sleepers: BTreeMap::new(), next: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Instant {
        self.lock().now
    }

    pub(super) fn sleep(&self, time: Duration) -> Sleep<'_> {
        self.sleep_until(self.now() + time)
    }

    pub(super) fn sleep_until(&self, until: Instant) -> Sleep<'_> {
        Sleep { clock: self, until, id: None }
    }

    /// Runs a future to its end; whenever it can only wait, the next moment that somebody waits for comes at once.
    /// `None`: it waits for something that never comes.
    pub(super) fn drive<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(flag.clone());
        let mut cx = Context::from_waker(&waker);
        for _ in 0..MAX_TURNS {
            if flag.0.swap(false, Ordering::AcqRel) {
                if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                    return Some(value);
                }
                continue;
            }
            let first = {
                let mut s = self.lock();
                let ((until, _), waker) = s.sleepers.pop_first()?;
                s.now = s.now.max(until);
                waker
            };
            first.wake();
        }
        None
    }
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock;
        let mut s = clock.lock();
        if let Some(id) = self.id.take() {
            s.sleepers.remove(&(self.until, id));
        }
        if s.now >= self.until {
            return Poll::Ready(());
        }
        let id = s.next;
        s.next = id.wrapping_add(1);
        s.sleepers.insert((self.until, id), cx.waker().clone());
        drop(s);
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.clock.lock().sleepers.remove(&(self.until, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_passes_at_once_and_in_order() {
        let clock = Clock::new();
        let start = clock.now();
        let order = Mutex::new(Vec::new());
        let wait = |s| {
            let (clock, order) = (&clock, &order);
            async move {
                clock.sleep(Duration::from_secs(s)).await;
                order.lock().unwrap().push(s);
            }
        };
        clock.drive(async { tokio::join!(wait(3600), wait(5), wait(60)) }).unwrap();
        assert_eq!(*order.lock().unwrap(), [5, 60, 3600]);
        assert_eq!(clock.now() - start, Duration::from_secs(3600));
        assert!(clock.drive(std::future::pending::<()>()).is_none());
    }
}
