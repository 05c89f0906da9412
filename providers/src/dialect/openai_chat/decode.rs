//! A whole answer to a completion; also the shapes that the stream decoder shares.

use super::super::{Context, compact, failure, finish};
use crate::lenient;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use types::chat::ToolCall;
use types::completion::{Choice, Completion, Usage};
use types::provider::{Error, ErrorKind};

/// An answer or one event of it: only what the house reads, borrowed from the bytes.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::integer")]
    pub(super) created: Option<i64>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    pub(super) choices: Vec<ChoiceIn<'a>>,
    #[serde(default, deserialize_with = "lenient::apart")]
    usage: Option<UsageIn>,
    /// Groq's place for the usage of a stream.
    #[serde(default, deserialize_with = "lenient::apart")]
    x_groq: Option<XGroq>,
    #[serde(borrow, default)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct ChoiceIn<'a> {
    #[serde(default, deserialize_with = "lenient::count")]
    pub(super) index: Option<u32>,
    #[serde(borrow, default)]
    message: Option<MessageIn<'a>>,
    /// Perplexity sends both in its events.
    #[serde(borrow, default)]
    delta: Option<MessageIn<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) finish_reason: Option<Cow<'a, str>>,
}

impl<'a> ChoiceIn<'a> {
    /// The text that an event adds.
    pub(super) fn text(&self) -> Option<&Cow<'a, str>> {
        self.delta.as_ref().or(self.message.as_ref())?.content.text.as_ref()
    }

    /// What an event adds.
    pub(super) fn take_delta(&mut self) -> MessageIn<'a> {
        self.delta.take().or_else(|| self.message.take()).unwrap_or_default()
    }

    /// The message of a whole answer.
    fn take_message(&mut self) -> MessageIn<'a> {
        self.message.take().or_else(|| self.delta.take()).unwrap_or_default()
    }
}

#[derive(Default, Deserialize)]
pub(super) struct MessageIn<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) content: lenient::Content<'a>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    reasoning_content: Option<Cow<'a, str>>,
    /// OpenRouter's, Groq's and Cerebras' name for it.
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    pub(super) tool_calls: Vec<CallIn<'a>>,
}

impl<'a> MessageIn<'a> {
    pub(super) fn take_reasoning(&mut self) -> Option<Cow<'a, str>> {
        self.reasoning_content
            .take()
            .or_else(|| self.reasoning.take())
            .or_else(|| self.content.reasoning.take())
    }
}

#[derive(Deserialize)]
pub(super) struct CallIn<'a> {
    #[serde(default, deserialize_with = "lenient::count")]
    pub(super) index: Option<u32>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::object")]
    pub(super) function: FunctionIn<'a>,
}

#[derive(Default, Deserialize)]
pub(super) struct FunctionIn<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl FunctionIn<'_> {
    /// The arguments' text, and whether they came as the text they should be: some vendors send the object.
    pub(super) fn arguments(&self) -> (String, bool) {
        let Some(raw) = self.arguments.map(RawValue::get) else { return (String::new(), true) };
        match serde_json::from_str::<String>(raw) {
            Ok(text) => (text, true),
            Err(_) => (compact(raw), false),
        }
    }
}

#[derive(Deserialize)]
struct XGroq {
    #[serde(default)]
    usage: Option<UsageIn>,
}

#[derive(Deserialize)]
struct UsageIn {
    #[serde(default, deserialize_with = "lenient::tokens")]
    prompt_tokens: Option<u32>,
    #[serde(default, deserialize_with = "lenient::tokens")]
    completion_tokens: Option<u32>,
    #[serde(default, deserialize_with = "lenient::object")]
    prompt_tokens_details: PromptDetails,
    #[serde(default, deserialize_with = "lenient::object")]
    completion_tokens_details: CompletionDetails,
    /// DeepSeek's name for cached tokens.
    #[serde(default, deserialize_with = "lenient::part")]
    prompt_cache_hit_tokens: Option<u32>,
}

#[derive(Default, Deserialize)]
struct PromptDetails {
    #[serde(default, deserialize_with = "lenient::part")]
    cached_tokens: Option<u32>,
    #[serde(default, deserialize_with = "lenient::part")]
    cache_write_tokens: Option<u32>,
    #[serde(default, deserialize_with = "lenient::part")]
    image_tokens: Option<u32>,
}

#[derive(Default, Deserialize)]
struct CompletionDetails {
    #[serde(default, deserialize_with = "lenient::part")]
    reasoning_tokens: Option<u32>,
}

impl UsageIn {
    fn convert(&self) -> Usage {
        let input = self.prompt_tokens.unwrap_or(0);
        let details = &self.prompt_tokens_details;
        let cached = details.cached_tokens.or(self.prompt_cache_hit_tokens).unwrap_or(0);
        // Parts are never more than the whole, whatever the vendor says: prices multiply them.
        let cached_input = cached.min(input);
        let cache_write = details.cache_write_tokens.unwrap_or(0).min(input.saturating_sub(cached));
        let plain = input.saturating_sub(cached_input).saturating_sub(cache_write);
        Usage {
            input,
            cached_input,
            cache_write,
            // Which of the cached tokens are images is not told: those of text are taken to come first.
            image: details.image_tokens.unwrap_or(0).min(plain),
            output: self.completion_tokens.unwrap_or(0),
            reasoning: self.completion_tokens_details.reasoning_tokens.unwrap_or(0),
            ..Usage::default()
        }
    }
}

impl Answer<'_> {
    pub(super) fn usage(&self) -> Option<Usage> {
        let groq = || self.x_groq.as_ref().and_then(|x| x.usage.as_ref());
        self.usage.as_ref().or_else(groq).map(UsageIn::convert)
    }

    /// The failure that an answer with status 200 tells of.
    pub(super) fn failure(&self, context: &Context, otherwise: ErrorKind) -> Option<Error> {
        let told = self.error.map(RawValue::get).filter(|e| !matches!(*e, "{}" | "\"\"" | "false" | "[]"));
        if let Some(error) = told {
            return Some(failure::of_object(context, error, otherwise));
        }
        // `error` is OpenRouter's word for a vendor that failed half way.
        let failed = |c: &ChoiceIn<'_>| finish::failure(c.finish_reason.as_deref()?, otherwise);
        self.choices.iter().find_map(failed).map(|failed| context.ended_by(failed))
    }
}

/// A whole answer. Its bytes stay in `raw` unless something had to be mended.
///
/// # Errors
/// As [`super::super::Wire::decode`].
pub(in super::super) fn decode(context: &Context, body: Bytes) -> Result<Completion, Error> {
    let answer: Answer<'_> = serde_json::from_slice(&body).map_err(|e| context.malformed(&e))?;
    if let Some(e) = answer.failure(context, ErrorKind::Unavailable) {
        return Err(e);
    }
    if answer.choices.is_empty() {
        return Err(context.error(ErrorKind::Malformed, "the answer has no choices"));
    }
    let usage = answer.usage().unwrap_or_default();
    let mut completion = Completion {
        id: answer.id.map(Cow::into_owned).unwrap_or_default(),
        created: answer.created.unwrap_or(0),
        model: answer.model.map(Cow::into_owned).unwrap_or_default(),
        choices: Vec::with_capacity(answer.choices.len()),
        usage,
        raw: None,
    };
    let mut mended = false;
    for (position, choice) in answer.choices.into_iter().enumerate() {
        let index = choice.index.unwrap_or_else(|| u32::try_from(position).unwrap_or(u32::MAX));
        completion.choices.push(convert(context, &completion.id, index, choice, &mut mended)?);
    }
    completion.raw = (!mended).then_some(body);
    Ok(completion)
}

fn convert(
    context: &Context,
    id: &str,
    index: u32,
    mut choice: ChoiceIn<'_>,
    mended: &mut bool,
) -> Result<Choice, Error> {
    let mut message = choice.take_message();
    let reasoning = message.take_reasoning();
    let tool_calls: Vec<ToolCall> = message
        .tool_calls
        .into_iter()
        .enumerate()
        .map(|(n, call)| {
            let (arguments, as_text) = call.function.arguments();
            let given = call.id.filter(|id| !id.is_empty());
            *mended |= given.is_none() || !as_text;
            ToolCall {
                id: given.map_or_else(|| context.tool_call_id(id, index, n), Cow::into_owned),
                name: call.function.name.map(Cow::into_owned).unwrap_or_default(),
                arguments,
            }
        })
        .collect();
    *mended |= message.content.in_parts;
    let written = choice.finish_reason.filter(|r| !r.is_empty()).ok_or_else(|| context.endless())?;
    let finish = context.finish_reason(&written, !tool_calls.is_empty(), ErrorKind::Unavailable)?;
    *mended |= finish.as_str() != written;
    Ok(Choice {
        index,
        text: message.content.text.map(Cow::into_owned).unwrap_or_default(),
        reasoning: reasoning.map(Cow::into_owned).unwrap_or_default(),
        refusal: message.refusal.map(Cow::into_owned),
        tool_calls,
        finish_reason: Some(finish),
    })
}
