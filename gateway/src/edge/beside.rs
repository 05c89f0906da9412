//! Two futures of which the second rarely has something to say.
//!
//! A connection is polled with every piece that comes or goes. Stops, cuts and idle times are waited for beside
//! it, and polling all of those each time costs as much as the connection itself. Here they are polled when
//! one of them has been woken, and not otherwise.

use futures_util::future::Either;
use futures_util::task::AtomicWaker;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Notes that the second future was woken, and wakes the task.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// Runs both until one of them ends; the first is asked first.
pub(super) async fn beside<A: Future + ?Sized, B: Future>(
    mut first: Pin<&mut A>,
    second: B,
) -> Either<A::Output, B::Output> {
    let mut second = std::pin::pin!(second);
    let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
    let waker = Waker::from(Arc::clone(&bell));
    std::future::poll_fn(move |cx| {
        bell.task.register(cx.waker());
        if let Poll::Ready(out) = first.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(out));
        }
        // Cleared before it is polled, so that a ring during the poll is not lost.
        if bell.rung.swap(false, Ordering::AcqRel) {
            return second.as_mut().poll(&mut Context::from_waker(&waker)).map(Either::Right);
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_second_is_polled_when_it_is_woken() {
        let polls = Cell::new(0);
        let second = async {
            let mut sleep = std::pin::pin!(tokio::time::sleep(Duration::from_secs(5)));
            std::future::poll_fn(|cx| {
                polls.set(polls.get() + 1);
                sleep.as_mut().poll(cx)
            })
            .await;
            "second"
        };
        let mut first = std::pin::pin!(async {
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            std::future::pending::<()>().await;
        });
        assert!(matches!(beside(first.as_mut(), second).await, Either::Right("second")));
        assert_eq!(polls.get(), 2, "once to begin, once at the end");
    }

    #[tokio::test]
    async fn the_first_goes_first() {
        let first = std::pin::pin!(std::future::ready(1));
        assert!(matches!(beside(first, std::future::ready(2)).await, Either::Left(1)));
        let first = std::pin::pin!(std::future::pending::<()>());
        assert!(matches!(beside(first, std::future::ready(2)).await, Either::Right(2)));
    }
}
