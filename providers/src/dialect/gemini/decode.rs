//! Answers to completions, whole or in events: the vendor's events have the form of its answers.

use super::super::ids::Given;
use super::super::{Bad, Context, compact, failure};
use crate::lenient;
use crate::sse::Event;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::VecDeque;
use types::completion::{Accumulator, Chunk, Completion, Delta, ToolCallDelta, Usage};
use types::provider::{Error, ErrorKind};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    response_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    model_version: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    candidates: Vec<Candidate<'a>>,
    #[serde(borrow, default)]
    prompt_feedback: Option<Feedback<'a>>,
    #[serde(default, deserialize_with = "lenient::apart")]
    usage_metadata: Option<UsageIn>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default, deserialize_with = "lenient::count")]
    index: Option<u32>,
    #[serde(borrow, default, deserialize_with = "lenient::object")]
    content: ContentIn<'a>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct ContentIn<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::list")]
    parts: Vec<Part<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    text: Option<Cow<'a, str>>,
    #[serde(default)]
    thought: Option<bool>,
    #[serde(borrow, default)]
    function_call: Option<FunctionCall<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    thought_signature: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct FunctionCall<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    block_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageIn {
    #[serde(default, deserialize_with = "lenient::tokens")]
    prompt_token_count: Option<u32>,
    #[serde(default, deserialize_with = "lenient::tokens")]
    tool_use_prompt_token_count: Option<u32>,
    #[serde(default, deserialize_with = "lenient::part")]
    cached_content_token_count: Option<u32>,
    #[serde(default, deserialize_with = "lenient::tokens")]
    candidates_token_count: Option<u32>,
    #[serde(default, deserialize_with = "lenient::tokens")]
    thoughts_token_count: Option<u32>,
    #[serde(default, deserialize_with = "lenient::list")]
    prompt_tokens_details: Vec<OfModality>,
    #[serde(default, deserialize_with = "lenient::list")]
    cache_tokens_details: Vec<OfModality>,
}

/// Tokens of one kind of content.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfModality {
    #[serde(default, deserialize_with = "modality")]
    modality: String,
    #[serde(default, deserialize_with = "lenient::part")]
    token_count: Option<u32>,
}

fn modality<'de, D: serde::Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Ok(lenient::text(d)?.unwrap_or_default().into_owned())
}

fn images(list: &[OfModality]) -> u32 {
    let images = list.iter().filter(|d| d.modality == "IMAGE");
    images.filter_map(|d| d.token_count).fold(0, u32::saturating_add)
}

impl UsageIn {
    /// The vendor's prompt tokens include the cached ones, as ours do; its candidates' tokens leave the
    /// thoughts out, ours include them.
    fn convert(&self) -> Usage {
        let input = self
            .prompt_token_count
            .unwrap_or(0)
            .saturating_add(self.tool_use_prompt_token_count.unwrap_or(0));
        let reasoning = self.thoughts_token_count.unwrap_or(0);
        let cached_input = self.cached_content_token_count.unwrap_or(0).min(input);
        let image = images(&self.prompt_tokens_details).saturating_sub(images(&self.cache_tokens_details));
        Usage {
            input,
            cached_input,
            cache_write: 0,
            image: image.min(input.saturating_sub(cached_input)),
            output: self.candidates_token_count.unwrap_or(0).saturating_add(reasoning),
            reasoning,
            ..Usage::default()
        }
    }
}

/// A whole answer: read as a stream of one event, so that both give the same.
///
/// # Errors
/// As [`super::super::Wire::decode`].
pub(in super::super) fn decode(context: &Context, body: &[u8]) -> Result<Completion, Error> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|e| context.malformed(&e))?;
    let mut stream = Stream::default();
    let chunk = stream.read(context, answer, ErrorKind::Unavailable)?;
    if stream.candidates.is_empty() {
        let e = context.error(ErrorKind::Malformed, "the answer has no candidates");
        return Err(e.with_used(chunk.usage));
    }
    if !stream.complete() {
        return Err(context.endless().with_used(chunk.usage));
    }
    let mut all = Accumulator::default();
    all.push(&chunk);
    Ok(all.finish())
}

/// State of one streamed answer.
#[derive(Debug, Default)]
pub(in super::super) struct Stream {
    /// The first event's, since later ones may leave it out.
    id: String,
    candidates: Vec<CandidateState>,
}

#[derive(Debug, Default)]
struct CandidateState {
    index: u32,
    calls: usize,
    ids: Given,
    finished: bool,
}

/// More candidates, or tool calls of one, than this: the vendor is broken or hostile.
const MAX_PARALLEL: usize = 256;

impl Stream {
    /// The vendor has no word for the end: every candidate has said why it finished.
    pub(in super::super) fn complete(&self) -> bool {
        !self.candidates.is_empty() && self.candidates.iter().all(|c| c.finished)
    }

    pub(in super::super) fn push(
        &mut self,
        context: &Context,
        event: &Event,
        out: &mut VecDeque<Chunk>,
    ) -> Result<(), Bad> {
        if event.data.is_empty() || event.is_done() {
            return Ok(());
        }
        let answer = serde_json::from_slice(&event.data)?;
        out.push_back(self.read(context, answer, ErrorKind::StreamLost)?);
        Ok(())
    }

    fn read(&mut self, context: &Context, answer: Answer<'_>, otherwise: ErrorKind) -> Result<Chunk, Error> {
        let usage = answer.usage_metadata.as_ref().map(UsageIn::convert);
        let read = self.chunk(context, answer, otherwise);
        read.map(|chunk| Chunk { usage, ..chunk }).map_err(|e| e.with_used(usage))
    }

    fn chunk(&mut self, context: &Context, answer: Answer<'_>, otherwise: ErrorKind) -> Result<Chunk, Error> {
        if let Some(error) = answer.error {
            return Err(failure::of_object(context, error.get(), otherwise));
        }
        if let Some(reason) = answer.prompt_feedback.and_then(|f| f.block_reason)
            && answer.candidates.is_empty()
        {
            let reason = reason.to_lowercase();
            return Err(context.error(ErrorKind::ContentFiltered, format!("the input was blocked: {reason}")));
        }
        if self.id.is_empty() {
            self.id = answer.response_id.map(Cow::into_owned).unwrap_or_default();
        }
        let mut choices = Vec::with_capacity(answer.candidates.len());
        for candidate in answer.candidates {
            choices.push(self.candidate(context, candidate, otherwise)?);
        }
        Ok(Chunk {
            id: self.id.clone(),
            model: answer.model_version.map(Cow::into_owned).unwrap_or_default(),
            created: 0,
            choices,
            ..Chunk::default()
        })
    }

    fn candidate(
        &mut self,
        context: &Context,
        candidate: Candidate<'_>,
        otherwise: ErrorKind,
    ) -> Result<Delta, Error> {
        let too_many = || context.error(ErrorKind::Malformed, "more than 256 candidates or tool calls");
        let index = candidate.index.unwrap_or(0);
        let known = self.candidates.iter().position(|c| c.index == index);
        let place = known.unwrap_or(self.candidates.len());
        if known.is_none() {
            self.candidates.push(CandidateState { index, ..CandidateState::default() });
        }
        let state = self.candidates.get_mut(place).filter(|_| place < MAX_PARALLEL).ok_or_else(too_many)?;
        let mut delta = Delta { index, role: known.is_none(), ..Delta::default() };
        for part in candidate.content.parts {
            if let Some(call) = part.function_call {
                delta.tool_calls.push(
                    state.call(context, &self.id, (call, part.thought_signature)).ok_or_else(too_many)?,
                );
            }
            if let Some(text) = part.text {
                let place = if part.thought == Some(true) { &mut delta.reasoning } else { &mut delta.text };
                place.get_or_insert_default().push_str(&text);
            }
        }
        if let Some(written) = candidate.finish_reason.filter(|r| !r.is_empty()) {
            state.finished = true;
            delta.finish_reason = Some(context.finish_reason(&written, state.calls > 0, otherwise)?);
        }
        Ok(delta)
    }
}

impl CandidateState {
    /// `signed`: the vendor's signature of the thoughts before the call, which the next turn has to bring back. Clients have
    /// it where Google's own endpoint in this form puts it (ai.google.dev, "Thought signatures").
    fn call(
        &mut self,
        context: &Context,
        answer: &str,
        (call, signed): (FunctionCall<'_>, Option<Cow<'_, str>>),
    ) -> Option<ToolCallDelta> {
        let n = self.calls;
        let index = u32::try_from(n).ok().filter(|_| n < MAX_PARALLEL)?;
        self.calls = n.saturating_add(1);
        let own = self.ids.own(call.id.as_deref(), || context.tool_call_id(answer, self.index, n));
        Some(ToolCallDelta {
            index,
            id: Some(own),
            name: Some(call.name.map(Cow::into_owned).unwrap_or_default()),
            arguments: compact(call.args.map_or("{}", RawValue::get)),
            extra_content: signed.map(|signature| json!({"google": {"thought_signature": signature}})),
            ..ToolCallDelta::default()
        })
    }
}
