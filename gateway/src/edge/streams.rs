//! Streams of HTTP/2: each is a task, which ends when its client takes nothing of its answer.
//!
//! A connection that nobody reads is seen at its socket. One whose client gives a single stream no window stays writable,
//! and the body of that stream is asked for nothing more: neither its deadline nor anything else within it is looked at
//! again. So the time is kept here, where the stream is carried, from each piece of a body to the next wish for one.

use crate::config::server::Stream;
use crate::metrics::{Cut, Metrics};
use crate::tasks::Tasks;
use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

tokio::task_local! {
    /// Of the stream that the task carries. HTTP/1 has none: there the socket tells.
    static TAKING: Taking;
}

/// How long a client may take nothing of a stream, and until when it may take nothing of this one.
struct Taking {
    stall: Duration,
    /// A piece of so many bytes has that time once.
    piece: usize,
    /// `None` while nothing waits to be taken.
    until: Cell<Option<Instant>>,
}

/// The body is asked for more: what it gave before has been taken.
pub(super) fn taken() {
    let _ = TAKING.try_with(|t| t.until.set(None));
}

/// The body has given so many bytes, which wait to be taken.
pub(super) fn given(bytes: usize) {
    let _ = TAKING.try_with(|t| {
        let times = u32::try_from(bytes.div_ceil(t.piece.max(1)).max(1)).unwrap_or(u32::MAX);
        t.until.set(Some(Instant::now() + t.stall.saturating_mul(times)));
    });
}

/// Runs a stream to its end, or until its client has taken nothing for too long: then it is dropped, which resets it,
/// and the answer is `false`.
async fn carry(stream: impl Future, limits: &Stream) -> bool {
    let taking = Taking { stall: limits.write_stall, piece: limits.buffer_bytes, until: Cell::new(None) };
    let carried = async move {
        let mut stream = pin!(stream);
        let mut stall: Option<Pin<Box<Sleep>>> = None;
        std::future::poll_fn(move |cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            let Some(until) = TAKING.with(|t| t.until.get()) else {
                stall = None;
                return Poll::Pending;
            };
            let sleep = stall.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if sleep.deadline() != until {
                sleep.as_mut().reset(until);
            }
            sleep.as_mut().poll(cx).map(|()| false)
        })
        .await
    };
    TAKING.scope(taking, carried).await
}

/// Lets hyper start the streams of a connection as tasks of ours.
#[derive(Clone)]
pub(super) struct Executor {
    pub(super) tasks: Tasks,
    pub(super) limits: Stream,
    pub(super) metrics: Arc<Metrics>,
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let (limits, metrics) = (self.limits.clone(), self.metrics.clone());
        self.tasks.spawn("http2_stream", async move {
            if !carry(stream, &limits).await {
                metrics.cut(Cut::WriteStall);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Whether a stream is carried to its end that gives a piece of so many bytes, which is taken after `pause`, and then
    /// says nothing for an hour; and how many seconds went by.
    async fn check(bytes: usize, pause: u64, want: (bool, u64)) {
        struct Held(Arc<AtomicBool>);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let limits =
            Stream { write_stall: Duration::from_secs(30), buffer_bytes: 1_000, ..Stream::default() };
        let dropped = Arc::new(AtomicBool::new(false));
        let held = Held(dropped.clone());
        let begin = Instant::now();
        let stream = async move {
            let _held = held;
            for _ in 0..2 {
                given(bytes);
                tokio::time::sleep(Duration::from_secs(pause)).await;
                taken();
            }
            tokio::time::sleep(Duration::from_secs(3_600)).await;
        };
        assert_eq!((carry(stream, &limits).await, begin.elapsed().as_secs()), want, "{bytes} {pause}");
        assert!(dropped.load(Ordering::SeqCst), "what a stream holds goes with it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_taken_ends_a_stream_and_silence_does_not() {
        check(1, 20, (true, 3_640)).await;
        check(1, 31, (false, 30)).await;
        check(0, 31, (false, 30)).await;
        // A large piece has as often the time as it has pieces.
        check(2_001, 80, (true, 3_760)).await;
        check(2_001, 91, (false, 90)).await;
    }

    #[test]
    fn without_a_stream_nothing_is_kept() {
        given(1);
        taken();
    }
}
