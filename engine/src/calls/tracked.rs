//! A stream on its way to the client: what passes is counted, and the ledger closed when it ends.

use super::choices::Choices;
use super::open::{End, Open};
use super::unread::Unread;
use crate::breaker::Answering;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Instant;
use types::provider::Error;
use types::{Chunk, Usage};

struct Tracked {
    inner: BoxStream<'static, Result<Chunk, Error>>,
    open: Open,
    answering: Option<Answering>,
    choices: Choices,
    usage: Option<Usage>,
    output_bytes: usize,
    first_content: Option<Instant>,
    model: String,
    unread: Unread,
}

/// Counts `head`, which has passed already, and everything that follows.
pub(super) fn track(
    open: Open,
    head: &[Chunk],
    rest: BoxStream<'static, Result<Chunk, Error>>,
    (answering, choices): (Option<Answering>, Choices),
) -> BoxStream<'static, Result<Chunk, Error>> {
    let mut t = Tracked {
        inner: rest,
        open,
        answering,
        choices,
        usage: None,
        output_bytes: 0,
        first_content: Some(Instant::now()),
        model: String::new(),
        unread: Unread::new(),
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

    /// As [`Unread::ends`].
    fn was_unread(&mut self) -> bool {
        let was = self.unread.ends();
        self.open.unread = self.unread.total();
        was
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
        match (&self.answering, error) {
            (Some(answering), Some(e)) => answering.broke(e, Instant::now()),
            (Some(answering), None) if !cut => answering.ended(Instant::now()),
            _ => {}
        }
    }
}

impl Stream for Tracked {
    type Item = Result<Chunk, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.was_unread();
        loop {
            let Tracked { inner, unread, .. } = &mut *self;
            let mut item = std::task::ready!(inner.poll_next_unpin(&mut unread.context(cx)));
            match &mut item {
                Some(Ok(chunk)) => {
                    if !self.choices.cut(chunk) {
                        continue;
                    }
                    self.note(chunk);
                }
                Some(Err(e)) => self.end(Some(e), false),
                None => {
                    let fewer = self.choices.fewer();
                    self.open.adjusted.extend(fewer);
                    self.end(None, false);
                }
            }
            self.unread.begins();
            return Poll::Ready(item);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let unread = self.was_unread();
        if !self.open.closed && self.open.budget.is_stopped() {
            // What was reported so far is of its beginning; all of it is estimated.
            self.usage = None;
            self.end(None, true);
        }
        if !self.open.closed {
            // However late it is: what it waited for was its reader.
            let error = match unread {
                true => self.open.cancelled("the client left"),
                false => self.open.dropped("the client left"),
            };
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
