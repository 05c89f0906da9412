//! What a model answered: whole, or as chunks of a stream, with what it used.

use crate::chat::ToolCall;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Why a completion ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A natural end or a stop sequence.
    Stop,
    /// The token limit.
    Length,
    /// The model calls tools.
    ToolCalls,
    /// The provider's filter cut it.
    ContentFilter,
    /// Deprecated function call.
    FunctionCall,
    /// A reason this house does not know, as the vendor wrote it.
    #[serde(untagged)]
    Other(String),
}

impl FinishReason {
    /// As written on our wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::ContentFilter => "content_filter",
            FinishReason::FunctionCall => "function_call",
            FinishReason::Other(s) => s,
        }
    }

    /// From our wire form.
    #[must_use]
    pub fn parse(s: &str) -> Self {
        match s {
            "stop" => FinishReason::Stop,
            "length" => FinishReason::Length,
            "tool_calls" => FinishReason::ToolCalls,
            "content_filter" => FinishReason::ContentFilter,
            "function_call" => FinishReason::FunctionCall,
            other => FinishReason::Other(other.to_owned()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Why tokens were estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The vendor reported more input, or none that is a number of tokens: see [`Usage::impossible`].
    ImpossibleInput,
    /// Likewise of the output.
    ImpossibleOutput,
    /// The vendor counted the output and no input, though every call has some: the other half stands as reported.
    MissingInput,
    /// The vendor counted the input and no output, though something was written.
    MissingOutput,
    /// The vendor counted some input, and no text that was sent has so few tokens: see [`Usage::completed`].
    UnlikelyInput,
    /// Likewise of the output.
    UnlikelyOutput,
}

impl Why {
    /// The string used in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Why::ImpossibleInput => "impossible_input",
            Why::ImpossibleOutput => "impossible_output",
            Why::MissingInput => "missing_input",
            Why::MissingOutput => "missing_output",
            Why::UnlikelyInput => "unlikely_input",
            Why::UnlikelyOutput => "unlikely_output",
        }
    }
}

/// Tokens that vendors tell apart and that are paid for like the others of their kind; 0 where they do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// Of the input, audio.
    pub audio_input: u32,
    /// Of the output, audio.
    pub audio_output: u32,
    /// Of the output, tokens of a `prediction` that appeared in the answer.
    pub accepted_prediction: u32,
    /// Of the output, tokens of a `prediction` that did not.
    pub rejected_prediction: u32,
}

impl Details {
    fn is_empty(&self) -> bool {
        *self == Details::default()
    }

    const fn plus(self, o: Details) -> Details {
        Details {
            audio_input: self.audio_input.saturating_add(o.audio_input),
            audio_output: self.audio_output.saturating_add(o.audio_output),
            accepted_prediction: self.accepted_prediction.saturating_add(o.accepted_prediction),
            rejected_prediction: self.rejected_prediction.saturating_add(o.rejected_prediction),
        }
    }

    fn write(self, wire: &mut Value) {
        let mut put = |of: &str, name: &str, n: u32| {
            if n > 0
                && let Some(details) = wire.get_mut(of).and_then(Value::as_object_mut)
            {
                details.insert(name.to_owned(), n.into());
            }
        };
        put("prompt_tokens_details", "audio_tokens", self.audio_input);
        put("completion_tokens_details", "audio_tokens", self.audio_output);
        put("completion_tokens_details", "accepted_prediction_tokens", self.accepted_prediction);
        put("completion_tokens_details", "rejected_prediction_tokens", self.rejected_prediction);
    }
}

/// Tokens used by one call. `input` includes the cached ones (converted once, in the dialect).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: u32,
    /// Of these, read from the provider's cache.
    pub cached_input: u32,
    /// Of these, written to the provider's cache.
    pub cache_write: u32,
    /// Of these, images that were neither read from a cache nor written to one; 0 where the vendor does not tell.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub image: u32,
    /// Output tokens, reasoning included.
    pub output: u32,
    /// Of these, reasoning.
    pub reasoning: u32,
    /// Further kinds of tokens.
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub details: Details,
    /// Estimated by us rather than reported by the provider.
    pub estimated: bool,
    /// Why, where the provider did report something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

impl Usage {
    /// Input and output tokens together.
    #[must_use]
    pub const fn total(self) -> u64 {
        // Two of 32 bits never reach the end of 64.
        (self.input as u64).saturating_add(self.output as u64)
    }

    /// Sum of two calls; estimated if either is.
    #[must_use]
    pub const fn plus(self, o: Usage) -> Usage {
        Usage {
            input: self.input.saturating_add(o.input),
            cached_input: self.cached_input.saturating_add(o.cached_input),
            cache_write: self.cache_write.saturating_add(o.cache_write),
            image: self.image.saturating_add(o.image),
            output: self.output.saturating_add(o.output),
            reasoning: self.reasoning.saturating_add(o.reasoning),
            details: self.details.plus(o.details),
            estimated: self.estimated || o.estimated,
            why: match self.why {
                Some(why) => Some(why),
                None => o.why,
            },
        }
    }

    /// Nothing, for what was reported cannot have been used: whoever knows the call estimates it.
    #[must_use]
    pub fn impossible(why: Why) -> Usage {
        Usage { estimated: true, why: Some(why), ..Usage::default() }
    }

    /// What was reported, and an estimate in the place of what was not: of all of it where nothing was or it cannot be,
    /// else of each half that is missing, or that is too little to be all of it.
    ///
    /// A half is too little where its text is estimated at 256 tokens or more, at about four bytes each, and less than a
    /// sixteenth of that was reported: 64 bytes a token, which no language and no code comes near.
    #[must_use]
    pub fn completed(self, estimate: Usage) -> Usage {
        let Some(reported) = self.reported() else {
            return Usage { why: self.why.or(estimate.why), ..estimate };
        };
        let mut told = reported;
        // What pictures come to nobody knows before the vendor does.
        let sent = estimate.input.saturating_sub(estimate.image);
        if let Some(why) =
            doubt(reported.input, (estimate.input, sent), Why::MissingInput, Why::UnlikelyInput)
        {
            let (input, image) = (estimate.input, estimate.image);
            told = Usage { input, image, estimated: true, why: Some(why), ..told };
        }
        let written = estimate.output;
        if let Some(why) = doubt(reported.output, (written, written), Why::MissingOutput, Why::UnlikelyOutput)
        {
            told = Usage { output: written, estimated: true, why: told.why.or(Some(why)), ..told };
        }
        told
    }

    /// The same of an answer that broke off: what was reported of it may be of its beginning only.
    #[must_use]
    pub fn completed_so_far(self, estimate: Usage) -> Usage {
        let told = self.completed(estimate);
        if told == Usage::default() {
            return told;
        }
        // Output is counted at the end, to which it did not come.
        let why = told.why.filter(|why| !matches!(why, Why::MissingOutput | Why::UnlikelyOutput));
        Usage { output: told.output.max(estimate.output), estimated: true, why, ..told }
    }

    /// What was reported; `None` where it was nothing, or is out of the question.
    #[must_use]
    pub fn reported(self) -> Option<Usage> {
        (self.why.is_none() && self != Usage::default()).then_some(self)
    }

    /// The wire form of OpenAI's `usage`, with `estimated: true` where nobody reported it.
    #[must_use]
    pub fn to_wire(self) -> serde_json::Value {
        let mut wire = serde_json::json!({
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input.saturating_add(self.output),
            "prompt_tokens_details": {"cached_tokens": self.cached_input, "cache_write_tokens": self.cache_write},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        });
        if self.image > 0
            && let Some(details) = wire.get_mut("prompt_tokens_details").and_then(|d| d.as_object_mut())
        {
            details.insert("image_tokens".to_owned(), self.image.into());
        }
        self.details.write(&mut wire);
        if let (true, Some(wire)) = (self.estimated, wire.as_object_mut()) {
            wire.insert("estimated".to_owned(), true.into());
        }
        wire
    }
}

/// Tokens of a text, as they are estimated, below which no count of it is doubted.
const MUCH: u32 = 256;
/// A count of less than one in so many of them is.
const SHORT_BY: u32 = 16;

/// Why what was reported of a half of a call is not all of it: it is estimated at so many tokens, so many of them text.
fn doubt(reported: u32, (all, text): (u32, u32), missing: Why, unlikely: Why) -> Option<Why> {
    match reported {
        0 if all > 0 => Some(missing),
        n if text >= MUCH && n < text / SHORT_BY => Some(unlikely),
        _ => None,
    }
}

/// One choice of a completion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Choice {
    /// Position among the choices.
    pub index: u32,
    /// Assistant text, "" if none.
    pub text: String,
    /// Reasoning text that the vendor shows, "" if none.
    pub reasoning: String,
    /// Text of a refusal.
    pub refusal: Option<String>,
    /// Tool calls.
    pub tool_calls: Vec<ToolCall>,
    /// `None` if the vendor gave none (a lost stream).
    pub finish_reason: Option<FinishReason>,
    /// `logprobs` as the vendor gave them; of a stream, put together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Value>,
    /// Likewise members of the message that only vendor and client read, as an object: [`BESIDE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<Value>,
}

/// Members of a message beside what the house reads. The client sends those back that its next turn needs:
/// `thinking_blocks` are thoughts with the vendor's signature (`LiteLLM`'s name for them), `reasoning_details` are
/// `OpenRouter`'s.
pub const BESIDE: [&str; 4] = ["annotations", "audio", "reasoning_details", "thinking_blocks"];

impl Choice {
    /// A refusal text, or an end by a content filter.
    #[must_use]
    pub fn declined(&self) -> bool {
        self.refusal.as_deref().is_some_and(|r| !r.is_empty())
            || self.finish_reason == Some(FinishReason::ContentFilter)
    }

    /// Bytes of all that the model wrote: text, reasoning, a refusal, names and arguments of calls.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = [self.text.len(), self.reasoning.len(), self.refusal.as_ref().map_or(0, String::len)];
        let calls = self.tool_calls.iter().map(|c| c.name.len().saturating_add(c.arguments.len()));
        texts.into_iter().chain(calls).fold(0, usize::saturating_add)
    }
}

/// A whole answer of one call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Completion {
    /// The vendor's identifier.
    pub id: String,
    /// Unix time in seconds as the vendor gave it, else 0.
    pub created: i64,
    /// The model as the vendor names it in its answer.
    pub model: String,
    /// At least one after a successful call.
    pub choices: Vec<Choice>,
    /// What was used.
    pub usage: Usage,
    /// Further members of the answer that go out to the client: `service_tier`, `system_fingerprint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<Map<String, Value>>>,
    /// The answer in chat-completions form as it came, when the dialect is ours.
    #[serde(with = "raw", skip_serializing_if = "Option::is_none")]
    pub raw: Option<Bytes>,
}

/// JSON as it came, written as the string it is. What is no text was no JSON and is left out.
mod raw {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the form that serde calls")]
    pub(super) fn serialize<S: Serializer>(raw: &Option<Bytes>, to: S) -> Result<S::Ok, S::Error> {
        raw.as_ref().and_then(|b| std::str::from_utf8(b).ok()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Bytes::from))
    }
}

impl Completion {
    /// Text of the first choice.
    #[must_use]
    pub fn text(&self) -> &str {
        self.choices.first().map_or("", |c| c.text.as_str())
    }

    /// Tool calls of the first choice.
    #[must_use]
    pub fn tool_calls(&self) -> &[ToolCall] {
        self.choices.first().map_or(&[], |c| c.tool_calls.as_slice())
    }

    /// Finish reason of the first choice.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.choices.first().and_then(|c| c.finish_reason.as_ref())
    }

    /// Bytes of all that the model wrote, all choices together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.choices.iter().map(Choice::bytes).fold(0, usize::saturating_add)
    }

    /// Drops what the vendor said of texts that are no longer what they were: its own bytes, which hold them, and
    /// what counts their tokens or letters.
    pub fn changed(&mut self) {
        self.raw = None;
        for choice in &mut self.choices {
            (choice.logprobs, choice.beside) = (None, None);
        }
    }

    /// A refusal text or a content filter in the first choice.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.choices.first().is_some_and(Choice::declined)
    }
}

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
}

/// Folds chunks into a completion. A plain state machine.
#[derive(Clone, Debug, Default)]
pub struct Accumulator {
    completion: Completion,
    got_usage: bool,
}

/// More choices or tool calls than this in one answer are ignored: the vendor is broken or hostile.
const MAX_PARALLEL: usize = 256;

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
            c.extra.get_or_insert_default().entry(key).or_insert_with(|| value.clone());
        }
        if let Some(u) = chunk.usage {
            c.usage = u;
            self.got_usage = u.why.is_none();
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

    /// Whether the provider reported usage.
    #[must_use]
    pub fn has_usage(&self) -> bool {
        self.got_usage
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
                    custom: false,
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
        assert!(a.has_usage());
        let c = a.finish();
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
    fn completions_come_back_as_they_were_written() {
        let choice = Choice {
            text: "a\u{0}ä".into(),
            refusal: Some("no".into()),
            tool_calls: vec![ToolCall {
                id: "1".into(),
                name: "f".into(),
                arguments: "{".into(),
                custom: true,
            }],
            finish_reason: Some(FinishReason::Other("odd".into())),
            ..Choice::default()
        };
        let usage = Usage { input: 3, estimated: true, ..Usage::default() };
        for raw in [None, Some(Bytes::from_static(br#"{"id" : "x", "n": 1.50}"#))] {
            let c = Completion { choices: vec![choice.clone()], usage, raw, ..Completion::default() };
            let written = serde_json::to_string(&c).unwrap();
            assert_eq!(serde_json::from_str::<Completion>(&written).unwrap(), c, "{written}");
        }
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

    #[test]
    fn every_kind_of_tokens_is_summed_and_written() {
        let details =
            Details { audio_input: 1, audio_output: 2, accepted_prediction: 3, rejected_prediction: 4 };
        let one = Usage { input: 9, output: 9, details, ..Usage::default() };
        let wire = one.plus(one).to_wire();
        assert_eq!(wire["prompt_tokens_details"]["audio_tokens"], 2);
        let output = &wire["completion_tokens_details"];
        assert_eq!(
            (&output["audio_tokens"], &output["accepted_prediction_tokens"]),
            (&Value::from(4), &Value::from(6))
        );
        assert_eq!(output["rejected_prediction_tokens"], 8);
        assert_eq!(Usage::default().to_wire()["completion_tokens_details"].get("audio_tokens"), None);
    }

    #[test]
    fn estimates_say_so_on_the_wire() {
        let said = Usage { input: 3, output: 2, ..Usage::default() };
        assert_eq!(said.to_wire().get("estimated"), None);
        assert_eq!(Usage { estimated: true, ..said }.to_wire()["estimated"], true);
        assert_eq!((said.reported(), Usage::default().reported()), (Some(said), None));
        assert_eq!(Usage::impossible(Why::ImpossibleInput).reported(), None);
    }

    #[test]
    fn what_was_not_reported_is_taken_from_an_estimate() {
        let usage = |input, output| Usage { input, output, ..Usage::default() };
        let estimate = Usage { estimated: true, ..usage(30, 50) };
        let check = |told: Usage, want: (u32, u32), why: Option<Why>| {
            let got = told.completed(estimate);
            assert_eq!(((got.input, got.output), got.why), (want, why), "{told:?}");
            assert_eq!(got.estimated, got != told, "{told:?}");
        };
        check(usage(20, 5), (20, 5), None);
        check(usage(0, 0), (30, 50), None);
        check(usage(20, 0), (20, 50), Some(Why::MissingOutput));
        check(usage(0, 5), (30, 5), Some(Why::MissingInput));
        check(Usage::impossible(Why::ImpossibleInput), (30, 50), Some(Why::ImpossibleInput));
        let silent = Usage { output: 0, ..estimate };
        assert_eq!(usage(20, 0).completed(silent), usage(20, 0), "nothing was written");

        let so_far = usage(20, 1).completed_so_far(estimate);
        assert_eq!((so_far.input, so_far.output, so_far.why, so_far.estimated), (20, 50, None, true));
        assert_eq!(usage(20, 0).completed_so_far(estimate).why, None, "it did not come to the end");
        assert_eq!(Usage::default().completed_so_far(Usage::default()), Usage::default());
    }

    #[test]
    fn finish_reasons_keep_what_they_do_not_know() {
        for s in ["stop", "length", "tool_calls", "content_filter", "function_call", "eos_token"] {
            assert_eq!(FinishReason::parse(s).as_str(), s);
        }
    }
}
