//! A stream on its way to the client: what passes is counted, and the ledger closed when it ends.

use super::open::{End, Open};
use crate::breaker::Breaker;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;
use types::provider::Error;
use types::{Chunk, Usage};

struct Tracked {
    inner: BoxStream<'static, Result<Chunk, Error>>,
    open: Open,
    breaker: Option<Arc<Breaker>>,
    usage: Option<Usage>,
    output_bytes: usize,
    first_content: Option<Instant>,
    model: String,
}

/// Counts `head`, which has passed already, and everything that follows.
pub(super) fn track(
    open: Open,
    head: &[Chunk],
    rest: BoxStream<'static, Result<Chunk, Error>>,
    breaker: Option<Arc<Breaker>>,
) -> BoxStream<'static, Result<Chunk, Error>> {
    let mut t = Tracked {
        inner: rest,
        open,
        breaker,
        usage: None,
        output_bytes: 0,
        first_content: Some(Instant::now()),
        model: String::new(),
    };
    for chunk in head {
        t.note(chunk);
    }
    t.boxed()
}

impl Tracked {
    fn note(&mut self, chunk: &Chunk) {
        if self.model.is_empty() {
            self.model.clone_from(&chunk.model);
        }
        if chunk.usage.is_some() {
            self.usage = chunk.usage;
        }
        for d in &chunk.choices {
            self.output_bytes = self.output_bytes.saturating_add(d.bytes());
        }
    }

    fn end(&mut self, error: Option<&Error>, cut: bool) {
        let model = std::mem::take(&mut self.model);
        self.open.close(&End {
            error,
            cut,
            usage: self.usage,
            output_bytes: self.output_bytes,
            first_content: self.first_content,
            reported_model: &model,
        });
        // The call was counted as answered at its first content; a later break counts against the model.
        if let (Some(e), Some(breaker)) = (error, &self.breaker) {
            breaker.broke(e, Instant::now());
        }
    }
}

impl Stream for Tracked {
    type Item = Result<Chunk, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = std::task::ready!(self.inner.poll_next_unpin(cx));
        match &item {
            Some(Ok(chunk)) => self.note(chunk),
            Some(Err(e)) => self.end(Some(e), false),
            None => self.end(None, false),
        }
        Poll::Ready(item)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if !self.open.closed && self.open.purse.is_stopped() {
            // What was reported so far is of its beginning; all of it is estimated.
            self.usage = None;
            self.end(None, true);
        }
        if !self.open.closed {
            let error =
                Error::new(types::provider::ErrorKind::Cancelled, &self.open.model, "the client left");
            let model = std::mem::take(&mut self.model);
            self.open.close(&End {
                error: Some(&error),
                cut: true,
                usage: self.usage,
                output_bytes: self.output_bytes,
                first_content: self.first_content,
                reported_model: &model,
            });
        }
    }
}
