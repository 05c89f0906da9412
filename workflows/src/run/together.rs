//! Several futures at once, looked at in their order.

use futures_util::future::BoxFuture;
use std::future::poll_fn;
use std::task::Poll;

/// Futures under way. Each look goes through all of them in the order in which they were added, so that what
/// happens hangs on what has come from outside and on nothing else: a run can be repeated.
pub(crate) struct Together<'a, T>(Vec<BoxFuture<'a, T>>);

impl<'a, T> Together<'a, T> {
    pub(crate) const fn new() -> Self {
        Together(Vec::new())
    }

    pub(crate) fn push(&mut self, future: BoxFuture<'a, T>) {
        self.0.push(future);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the next of them gives that ends; `None` where there is none.
    pub(crate) async fn next(&mut self) -> Option<T> {
        if self.0.is_empty() {
            return None;
        }
        let (ended, value) = poll_fn(|cx| {
            for (i, f) in self.0.iter_mut().enumerate() {
                if let Poll::Ready(value) = f.as_mut().poll(cx) {
                    return Poll::Ready((i, value));
                }
            }
            Poll::Pending
        })
        .await;
        drop(self.0.remove(ended));
        Some(value)
    }
}
