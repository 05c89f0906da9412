//! Requests that go on to their end where their client leaves (`on_disconnect: finish`).

use crate::openai::body::Sse;
use crate::tasks::Tasks;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http_body::{Body as HttpBody, Frame};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio_util::sync::CancellationToken;

/// Name of the tasks in which they go on.
const TASK: &str = "finish";

/// Where they go on.
#[derive(Clone, Debug)]
pub(crate) struct Behind {
    tasks: Tasks,
    /// Fires when the server must be gone.
    cut: CancellationToken,
}

impl Behind {
    pub(crate) fn new(tasks: &Tasks, cut: &CancellationToken) -> Behind {
        Behind { tasks: tasks.clone(), cut: cut.clone() }
    }

    fn go_on(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tasks.spawn(TASK, async move {
            tokio::select! {
                biased;
                () = work => {}
                () = cut.cancelled() => {}
            }
        });
    }
}

/// Work that goes on in a task once whoever waits for it leaves. No task runs until then.
pub(crate) struct Staying<T: Send + 'static> {
    /// `None` once it has ended.
    work: Option<BoxFuture<'static, T>>,
    behind: Behind,
}

impl<T: Send> Staying<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static, behind: Behind) -> Self {
        Staying { work: Some(Box::pin(work)), behind }
    }
}

impl<T: Send> Future for Staying<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        let done = work.as_mut().poll(cx);
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

impl<T: Send> Drop for Staying<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            // What it comes to may be a stream, which goes on by itself when it is dropped.
            self.behind.go_on(async move { drop(work.await) });
        }
    }
}

/// A streamed answer that is read to its end once its client leaves.
pub(crate) struct StayingStream {
    /// `None` only while it is dropped.
    answer: Option<Sse>,
    behind: Behind,
}

impl StayingStream {
    pub(crate) fn new(answer: Sse, behind: Behind) -> Self {
        StayingStream { answer: Some(answer), behind }
    }
}

impl HttpBody for StayingStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.answer.as_mut() {
            Some(answer) => Pin::new(answer).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for StayingStream {
    fn drop(&mut self) {
        if let Some(mut answer) = self.answer.take().filter(Sse::is_under_way) {
            self.behind.go_on(async move { while answer.next().await.is_some() {} });
        }
    }
}
