//! An answer as it streams: what each event adds, and the whole that they come to.

use super::{Choice, Completion, FinishReason, Usage};
use crate::chat::ToolCall;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::sync::Arc;

/// One event of a streamed answer, in canonical form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// The vendor's identifier, "" if the event carries none.
    pub id: String,
    /// The model as the vendor names it, "" if the event carries none.
    pub model: String,
    /// Unix time in seconds, 0 if the event carries none.
    pub created: i64,
    /// What is new, per choice; empty for a usage-only event.
    pub choices: Vec<Delta>,
    /// Usage so far (totals, not increments), where the event carries it.
    pub usage: Option<Usage>,
    /// As of [`Completion::extra`], where the event carries any.
    pub extra: Option<Arc<Map<String, Value>>>,
    /// [`Chunk::extra`] has what the request asked for by name: the event goes out though it has no choices.
    pub asked: bool,
    /// The event's JSON in chat-completions form as it came, when the dialect is ours.
    pub raw: Option<Bytes>,
}

impl Chunk {
    /// Whether a client would see something: text, reasoning, a refusal, a tool call, what stands beside them or an end.
    #[must_use]
    pub fn has_content(&self) -> bool {
        self.choices.iter().any(|d| {
            d.text.as_deref().is_some_and(|t| !t.is_empty())
                || d.reasoning.as_deref().is_some_and(|t| !t.is_empty())
                || d.refusal.as_deref().is_some_and(|t| !t.is_empty())
                || !d.tool_calls.is_empty()
                || d.beside.is_some()
                || d.finish_reason.is_some()
        })
    }
}

impl Delta {
    /// Bytes that it adds to [`Choice::bytes`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = [&self.text, &self.reasoning, &self.refusal].into_iter().flatten().map(String::len);
        let calls = self.tool_calls.iter();
        let calls = calls.map(|c| c.name.as_ref().map_or(0, String::len).saturating_add(c.arguments.len()));
        texts.chain(calls).fold(0, usize::saturating_add)
    }
}

/// What one event adds to one choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Position among the choices.
    pub index: u32,
    /// The event names the role.
    pub role: bool,
    /// New text.
    pub text: Option<String>,
    /// New reasoning text.
    pub reasoning: Option<String>,
    /// New refusal text.
    pub refusal: Option<String>,
    /// Pieces of tool calls.
    pub tool_calls: Vec<ToolCallDelta>,
    /// The end of this choice.
    pub finish_reason: Option<FinishReason>,
    /// `logprobs` of what is new.
    pub logprobs: Option<Value>,
    /// What is new of [`Choice::beside`].
    pub beside: Option<Value>,
}

/// Adds what an event tells to what was told before: lists grow, members of objects likewise, and so do the pieces of
/// `audio`; other values stay.
pub fn grow(told: &mut Option<Value>, more: Option<Value>) {
    fn add(told: &mut Value, more: Value) {
        match (told, more) {
            (Value::Array(told), Value::Array(more)) => told.extend(more),
            (Value::Object(told), Value::Object(more)) => {
                for (key, value) in more {
                    let piece = matches!(key.as_str(), "data" | "transcript");
                    match (told.entry(key).or_insert(Value::Null), value) {
                        (Value::String(told), Value::String(more)) if piece => told.push_str(&more),
                        (told, value) => add(told, value),
                    }
                }
            }
            (told @ Value::Null, more) => *told = more,
            _ => {}
        }
    }
    match (told.as_mut(), more) {
        (Some(told), Some(more)) => add(told, more),
        (None, more) => *told = more,
        (Some(_), None) => {}
    }
}

/// A piece of a tool call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolCallDelta {
    /// From 0, stable within the choice.
    pub index: u32,
    /// In the first piece only.
    pub id: Option<String>,
    /// In the first piece only.
    pub name: Option<String>,
    /// A piece of the arguments' text.
    pub arguments: String,
    /// As of [`ToolCall::custom`], in every piece.
    pub custom: bool,
    /// As of [`ToolCall::extra_content`], in one piece.
    pub extra_content: Option<Value>,
}

/// Folds chunks into a completion. A plain state machine.
#[derive(Clone, Debug, Default)]
pub struct Accumulator {
    completion: Completion,
}

/// More choices or tool calls than this in one answer are ignored: the vendor is broken or hostile.
const MAX_PARALLEL: usize = 256;
/// And more further members than this.
const MAX_EXTRA: usize = 64;

impl Accumulator {
    /// Takes one chunk in.
    pub fn push(&mut self, chunk: &Chunk) {
        let c = &mut self.completion;
        if c.id.is_empty() {
            c.id.clone_from(&chunk.id);
        }
        if c.model.is_empty() {
            c.model.clone_from(&chunk.model);
        }
        if c.created == 0 {
            c.created = chunk.created;
        }
        for (key, value) in chunk.extra.iter().flat_map(|extra| extra.iter()) {
            let extra = c.extra.get_or_insert_default();
            if extra.len() < MAX_EXTRA {
                extra.entry(key).or_insert_with(|| value.clone());
            }
        }
        if let Some(u) = chunk.usage {
            c.usage = u;
        }
        for d in &chunk.choices {
            let place = match c.choices.iter().position(|x| x.index == d.index) {
                Some(p) => p,
                None if c.choices.len() < MAX_PARALLEL => {
                    c.choices.push(Choice { index: d.index, ..Choice::default() });
                    c.choices.len().saturating_sub(1)
                }
                None => continue,
            };
            if let Some(choice) = c.choices.get_mut(place) {
                fold(choice, d);
            }
        }
    }

    /// What has arrived so far.
    #[must_use]
    pub fn so_far(&self) -> &Completion {
        &self.completion
    }

    /// The completion, choices in order of their index.
    #[must_use]
    pub fn finish(mut self) -> Completion {
        self.completion.choices.sort_by_key(|c| c.index);
        self.completion
    }
}

fn fold(choice: &mut Choice, d: &Delta) {
    if let Some(t) = &d.text {
        choice.text.push_str(t);
    }
    if let Some(t) = &d.reasoning {
        choice.reasoning.push_str(t);
    }
    if let Some(t) = &d.refusal {
        choice.refusal.get_or_insert_default().push_str(t);
    }
    for t in &d.tool_calls {
        let i = t.index as usize;
        if i >= MAX_PARALLEL {
            continue;
        }
        while choice.tool_calls.len() <= i {
            choice.tool_calls.push(ToolCall::default());
        }
        if let Some(call) = choice.tool_calls.get_mut(i) {
            if let Some(id) = &t.id {
                call.id.clone_from(id);
            }
            if let Some(name) = &t.name {
                call.name.push_str(name);
            }
            call.arguments.push_str(&t.arguments);
            call.custom |= t.custom;
            if t.extra_content.is_some() {
                call.extra_content.clone_from(&t.extra_content);
            }
        }
    }
    if d.finish_reason.is_some() {
        choice.finish_reason.clone_from(&d.finish_reason);
    }
    grow(&mut choice.logprobs, d.logprobs.clone());
    grow(&mut choice.beside, d.beside.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_fold_into_the_same_completion_whatever_the_split() {
        let mut a = Accumulator::default();
        let piece = |t: &str| Chunk {
            choices: vec![Delta { text: Some(t.into()), ..Delta::default() }],
            ..Chunk::default()
        };
        for t in ["Hel", "", "lo"] {
            a.push(&piece(t));
        }
        let call = |id: Option<&str>, args: &str| Chunk {
            choices: vec![Delta {
                tool_calls: vec![ToolCallDelta {
                    index: 0,
                    id: id.map(Into::into),
                    name: id.map(|_| "f".into()),
                    arguments: args.into(),
                    ..ToolCallDelta::default()
                }],
                ..Delta::default()
            }],
            ..Chunk::default()
        };
        a.push(&call(Some("c1"), "{\"a\""));
        a.push(&call(None, ":1}"));
        a.push(&Chunk {
            choices: vec![Delta { finish_reason: Some(FinishReason::ToolCalls), ..Delta::default() }],
            usage: Some(Usage { input: 3, output: 2, ..Usage::default() }),
            ..Chunk::default()
        });
        let c = a.finish();
        assert_eq!((c.usage.input, c.usage.output), (3, 2));
        assert_eq!(c.text(), "Hello");
        assert_eq!(
            c.tool_calls()[0],
            ToolCall {
                id: "c1".into(),
                name: "f".into(),
                arguments: "{\"a\":1}".into(),
                ..ToolCall::default()
            }
        );
        assert_eq!(c.usage.output, 2);
    }

    #[test]
    fn all_that_a_model_wrote_is_counted_whole_and_in_pieces() {
        let mut all = Accumulator::default();
        let text = |t: &str| Some(t.to_owned());
        let call = ToolCallDelta {
            id: text("id"),
            name: text("name"),
            arguments: "{}".into(),
            ..ToolCallDelta::default()
        };
        let deltas = [
            Delta { text: text("four"), ..Delta::default() },
            Delta { reasoning: text("hm"), ..Delta::default() },
            Delta { refusal: text("never"), ..Delta::default() },
            Delta { tool_calls: vec![call], ..Delta::default() },
        ];
        let sum: usize = deltas.iter().map(Delta::bytes).sum();
        for delta in deltas {
            all.push(&Chunk { choices: vec![delta], ..Chunk::default() });
        }
        assert_eq!((sum, all.finish().bytes()), (17, 17));
    }

    #[test]
    fn what_counts_tokens_grows_with_them() {
        let told = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        let mut all = Accumulator::default();
        for (probabilities, beside) in [
            (r#"{"content":[1],"refusal":null}"#, r#"{"audio":{"id":"a","data":"AA=="}}"#),
            (r#"{"content":[2,3],"refusal":null}"#, r#"{"annotations":[{"a":1}],"audio":{"data":"BB=="}}"#),
            (
                r#"{"content":[],"refusal":[4]}"#,
                r#"{"annotations":[{"a":2}],"audio":{"id":"b","expires_at":7}}"#,
            ),
        ] {
            let delta =
                Delta { logprobs: Some(told(probabilities)), beside: Some(told(beside)), ..Delta::default() };
            let extra = Some(Arc::new(Map::from_iter([("service_tier".to_owned(), told("\"flex\""))])));
            all.push(&Chunk { choices: vec![delta, Delta::default()], extra, ..Chunk::default() });
        }
        let mut whole = all.finish();
        let choice = whole.choices.first().unwrap();
        assert_eq!(choice.logprobs, Some(told(r#"{"content":[1,2,3],"refusal":[4]}"#)));
        let beside =
            r#"{"audio":{"id":"a","data":"AA==BB==","expires_at":7},"annotations":[{"a":1},{"a":2}]}"#;
        assert_eq!(choice.beside, Some(told(beside)));
        assert_eq!(whole.extra.as_ref().unwrap()["service_tier"], "flex");
        whole.changed();
        assert_eq!((&whole.choices[0].logprobs, &whole.choices[0].beside), (&None, &None));
    }
}
