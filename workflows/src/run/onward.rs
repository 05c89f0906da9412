//! An answer that is lost after the client has seen a part of it: another call goes on from there.

use super::At;
use super::pump::{Pump, Stop};
use crate::budget::Budget;
use crate::world::{Ask, Failure, Generated};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::sync::Arc;
use types::chat::{Message, ResponseFormat, Role};
use types::completion::Delta;
use types::matrix::Model;
use types::run::Purpose;
use types::{Chunk, Completion, provider};

/// Most calls that go on with one answer.
pub(crate) const MOST: u32 = 2;
/// Their attempts are counted from here: behind those of hedges, before those of streams that were lost unseen.
const ATTEMPT: u32 = 50;
/// What the next model is told.
const GO_ON: &str = "Your answer was cut off. Go on exactly where it stops, with the very next character. Repeat \
    nothing of it, and say nothing about the interruption.";

/// A call that goes on with an answer.
struct Next {
    model: Arc<Model>,
    head: Vec<Chunk>,
    rest: BoxStream<'static, Result<Chunk, provider::Error>>,
    budget: Arc<Budget>,
}

/// Has others go on with an answer for as long as it is lost. Gives why the last of them stopped, and from what it
/// is paid; what stopped before is paid for already.
pub(super) async fn go_on(
    at: &At<'_>,
    first: &Ask,
    pump: &mut Pump<'_>,
    mut stop: Option<Stop>,
    mut budget: Arc<Budget>,
) -> (Option<Stop>, Arc<Budget>) {
    let mut avoid = vec![pump.model().id.clone()];
    for n in 0..MOST {
        match &stop {
            Some(Stop::Upstream(e)) if Failure::Provider(e.clone()).is_lost() => {}
            _ => break,
        }
        let Some(next) = open(at, question(at, first, pump.so_far(), &avoid, n)).await else { break };
        at.spend(&budget);
        at.host.input.trace.with(|run| run.continued = Some(next.model.id.clone()));
        avoid.push(next.model.id.clone());
        pump.go_on();
        stop = pump.pass(next.head, next.rest, &next.budget).await;
        budget = next.budget;
    }
    (stop, budget)
}

/// The question to the next model; `None` where nobody could go on: what was lost is no plain text, or was whole.
fn question(at: &At<'_>, first: &Ask, partial: &Completion, avoid: &[Arc<str>], n: u32) -> Option<Ask> {
    let [choice] = partial.choices.as_slice() else { return None };
    if choice.text.is_empty() || !choice.tool_calls.is_empty() || choice.finish_reason.is_some() {
        return None;
    }
    let mut ask = first.clone();
    ask.id.attempt = ATTEMPT.saturating_add(n);
    ask.purpose = Purpose::Continue;
    ask.budget = at.budget_of_call();
    ask.avoid.extend_from_slice(avoid);
    let asked = ask.edits.messages.take();
    let mut messages = asked.unwrap_or_else(|| at.host.input.request.messages.clone());
    messages.push(Message::text(Role::Assistant, choice.text.clone()));
    messages.push(Message::text(Role::User, GO_ON));
    ask.edits.messages = Some(messages);
    // The rest of an answer is no answer of any form by itself.
    ask.edits.response_format = Some(ResponseFormat::Text);
    ask.edits.without_tools = true;
    ask.edits.prefill = None;
    Some(ask)
}

async fn open(at: &At<'_>, ask: Option<Ask>) -> Option<Next> {
    let (generated, budget) = at.open(ask?).await.ok()?.split();
    Some(match generated {
        Generated::Stream { model, head, rest, .. } => Next { model, head, rest, budget },
        Generated::Whole { completion, model, .. } => {
            let usage = Some(completion.usage);
            let delta = |c: types::completion::Choice| Delta {
                index: c.index,
                text: Some(c.text),
                finish_reason: c.finish_reason,
                ..Delta::default()
            };
            let choices = completion.choices.into_iter().map(delta).collect();
            let head = vec![Chunk { choices, usage, ..Chunk::default() }];
            Next { model, head, rest: stream::empty().boxed(), budget }
        }
    })
}
