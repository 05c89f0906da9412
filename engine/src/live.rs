//! A streamed answer: the workflow runs inside the stream the client reads, in the client's own task.
//!
//! A slow reader polls less, so the workflow reads less from the provider; a reader that leaves drops the
//! stream, and with it the run and its calls. Nothing is spawned.

use crate::answer::{Event, Head, Live};
use crate::error::{Error, Kind};
use crate::settle::Tree;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use types::completion::{Choice, Delta, ToolCallDelta};
use types::{Chunk, Completion};
use workflows::Ending;

/// Chunks between the run and the client. Small: the provider's own window is the buffer.
pub(crate) const CHUNKS: usize = 16;

/// A run whose chunks go to a client.
pub(crate) struct Flow {
    pub(crate) run: Option<BoxFuture<'static, Ending>>,
    pub(crate) chunks: mpsc::Receiver<Chunk>,
    pub(crate) tree: Tree,
    pub(crate) deadline: Instant,
    pub(crate) ready: VecDeque<Event>,
}

impl Flow {
    /// Runs until the first event is there: until then a failure is a plain error.
    pub(crate) async fn start(mut self, head: impl FnOnce(&mut Tree) -> Head) -> Result<Live, Error> {
        match self.next().await {
            Some(Event::Failed(e)) => Err(e),
            Some(first) => {
                self.ready.push_front(first);
                let head = head(&mut self.tree);
                let events =
                    stream::unfold(self, |mut flow| async move { flow.next().await.map(|e| (e, flow)) });
                Ok(Live { head, events: events.boxed() })
            }
            None => Err(Kind::Internal("the run ended without an event".to_owned()).into()),
        }
    }

    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        let run = self.run.as_mut()?;
        let ending = tokio::select! {
            biased;
            Some(chunk) = self.chunks.recv() => {
                self.tree.first_byte();
                return Some(Event::Chunk(chunk));
            }
            ending = timeout_at(self.deadline, run) => ending,
        };
        self.run = None;
        while let Ok(chunk) = self.chunks.try_recv() {
            self.ready.push_back(Event::Chunk(chunk));
        }
        let last = self.finish(ending.ok());
        self.ready.push_back(last);
        self.ready.pop_front()
    }

    fn finish(&mut self, ending: Option<Ending>) -> Event {
        match ending {
            Some(Ending::Delivered { completion, .. }) => {
                self.tree.first_byte();
                self.ready.extend(chunks(&completion).into_iter().map(Event::Chunk));
                Event::Done(self.tree.delivered())
            }
            Some(Ending::Streamed { .. }) => Event::Done(self.tree.delivered()),
            Some(Ending::Broken { error, .. }) => {
                Event::Failed(self.tree.failed(Kind::Provider(error).into()))
            }
            Some(Ending::Failed(f)) => Event::Failed(self.tree.failed(crate::pipeline::failure(f))),
            None => Event::Failed(self.tree.failed(Kind::Deadline.into())),
        }
    }
}

/// A whole answer as the chunks of a stream: role, content, tool calls, end; per choice.
fn chunks(c: &Completion) -> Vec<Chunk> {
    let chunk = |delta: Delta| Chunk {
        id: c.id.clone(),
        model: c.model.clone(),
        created: c.created,
        choices: vec![delta],
        usage: None,
        raw: None,
    };
    c.choices.iter().flat_map(deltas).map(chunk).collect()
}

fn deltas(choice: &Choice) -> Vec<Delta> {
    let index = choice.index;
    let text = |s: &String| (!s.is_empty()).then(|| s.clone());
    let first = Delta {
        index,
        role: true,
        text: text(&choice.text),
        reasoning: text(&choice.reasoning),
        refusal: choice.refusal.clone(),
        tool_calls: Vec::new(),
        finish_reason: None,
    };
    let calls = choice.tool_calls.iter().zip(0_u32..).map(|(t, i)| Delta {
        index,
        tool_calls: vec![ToolCallDelta {
            index: i,
            id: Some(t.id.clone()),
            name: Some(t.name.clone()),
            arguments: t.arguments.clone(),
        }],
        ..Delta::default()
    });
    let last = Delta { index, finish_reason: choice.finish_reason.clone(), ..Delta::default() };
    std::iter::once(first).chain(calls).chain(std::iter::once(last)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::chat::ToolCall;
    use types::completion::Accumulator;
    use types::{FinishReason, Usage};

    #[test]
    fn a_whole_answer_folds_back_from_its_chunks() {
        let whole = Completion {
            id: "x".into(),
            created: 5,
            model: "m".into(),
            choices: vec![Choice {
                index: 0,
                text: "hi".into(),
                tool_calls: vec![ToolCall { id: "a".into(), name: "f".into(), arguments: "{}".into() }],
                finish_reason: Some(FinishReason::ToolCalls),
                ..Choice::default()
            }],
            usage: Usage::default(),
            raw: None,
        };
        let mut a = Accumulator::default();
        for c in chunks(&whole) {
            a.push(&c);
        }
        assert_eq!(a.finish(), whole);
    }
}
