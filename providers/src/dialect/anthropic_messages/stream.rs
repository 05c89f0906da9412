//! Events of a streamed message to chunks.

use super::super::ids::Given;
use super::super::{Bad, Context, compact, failure};
use super::decode::{BlockIn, MessageIn, UsageIn, is_answer};
use super::thinking::{redacted, signed, thought};
use crate::lenient;
use crate::sse::Event;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::VecDeque;
use types::Usage;
use types::completion::{Chunk, Delta, ToolCallDelta};
use types::provider::ErrorKind;

#[derive(Deserialize)]
struct EventIn<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Option<MessageIn<'a>>,
    #[serde(default, deserialize_with = "lenient::count")]
    index: Option<u32>,
    #[serde(borrow, default)]
    content_block: Option<BlockIn<'a>>,
    #[serde(borrow, default)]
    delta: Option<DeltaIn<'a>>,
    #[serde(default, deserialize_with = "lenient::apart")]
    usage: Option<UsageIn>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct DeltaIn<'a> {
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    signature: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    stop_reason: Option<Cow<'a, str>>,
}

/// State of one streamed answer.
#[derive(Debug, Default)]
pub(in super::super) struct Stream {
    id: String,
    model: String,
    usage: UsageIn,
    /// The vendor counted the answer to its end: what it says of the output at the beginning is of the beginning.
    counted: bool,
    /// The tool call being written.
    open: Option<Open>,
    /// The thought being written, with its signature.
    thought: Option<(String, String)>,
    calls: u32,
    ids: Given,
    stopped: bool,
    ended: bool,
}

#[derive(Debug)]
struct Open {
    block: u32,
    /// Our index, or `None` if the call is the answer.
    call: Option<u32>,
    /// The whole input as the block's start gave it, for when no piece follows.
    input: String,
    pieces: bool,
}

impl Stream {
    pub(in super::super) fn ended(&self) -> bool {
        self.ended
    }

    /// The vendor said why it stopped, if it ended the message or not.
    pub(in super::super) fn complete(&self) -> bool {
        self.stopped
    }

    pub(in super::super) fn push(
        &mut self,
        context: &Context,
        event: &Event,
        out: &mut VecDeque<Chunk>,
    ) -> Result<(), Bad> {
        if self.ended || event.data.is_empty() || event.is_done() {
            return Ok(());
        }
        let event: EventIn<'_> = serde_json::from_slice(&event.data)?;
        let delta = match event.kind.as_ref() {
            "message_start" => {
                self.start(event.message.unwrap_or_default());
                let delta = Delta { role: true, ..Delta::default() };
                out.push_back(Chunk { usage: Some(self.usage.convert()), ..self.chunk(delta) });
                return Ok(());
            }
            "content_block_start" => self.open(context, event.index, event.content_block.unwrap_or_default()),
            "content_block_delta" => self.piece(event.index, event.delta),
            "content_block_stop" => self.close(event.index),
            "message_delta" => {
                let told = event.usage.unwrap_or_default();
                self.counted |= told.counts_output();
                self.usage.update(told);
                let stop = event.delta.and_then(|d| d.stop_reason).filter(|s| !s.is_empty());
                self.stopped |= stop.is_some();
                let called = self.calls > 0;
                let reason = stop.map(|s| context.finish_reason(&s, called, ErrorKind::StreamLost));
                let reason = reason.transpose().map_err(|e| e.with_used(Some(self.usage.convert())))?;
                let delta = Delta { finish_reason: reason, ..Delta::default() };
                out.push_back(Chunk { usage: Some(self.told()), ..self.chunk(delta) });
                return Ok(());
            }
            "message_stop" => {
                self.ended = true;
                None
            }
            "error" => {
                let error = event.error.map_or("null", RawValue::get);
                return Err(Bad::Answer(failure::of_object(context, error, ErrorKind::StreamLost)));
            }
            // `ping`, and events that are yet to be invented.
            _ => None,
        };
        if let Some(delta) = delta {
            out.push_back(self.chunk(delta));
        }
        Ok(())
    }

    fn start(&mut self, message: MessageIn<'_>) {
        self.id = message.id.map(Cow::into_owned).unwrap_or_default();
        self.model = message.model.map(Cow::into_owned).unwrap_or_default();
        self.usage = message.usage.unwrap_or_default();
    }

    /// What the vendor counted of the whole answer. Whoever knows what was written estimates the output that it did
    /// not count.
    fn told(&self) -> Usage {
        let usage = self.usage.convert();
        if self.counted { usage } else { Usage { output: 0, ..usage } }
    }

    fn chunk(&self, delta: Delta) -> Chunk {
        Chunk { id: self.id.clone(), model: self.model.clone(), choices: vec![delta], ..Chunk::default() }
    }

    fn open(&mut self, context: &Context, index: Option<u32>, block: BlockIn<'_>) -> Option<Delta> {
        match block.kind.as_deref() {
            Some("tool_use") => {}
            Some("redacted_thinking") => return Some(beside(redacted(block.data.as_deref()?))),
            kind => {
                if kind == Some("thinking") {
                    let whole = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or("").to_owned();
                    self.thought = Some((whole(&block.thinking), whole(&block.signature)));
                }
                return text(block.text, block.thinking);
            }
        }
        let answer = is_answer(context, &block);
        let call = (!answer).then_some(self.calls);
        let input = compact(block.input.map_or("{}", RawValue::get));
        self.open = Some(Open { block: index.unwrap_or(0), call, input, pieces: false });
        let index = call?;
        self.calls = self.calls.saturating_add(1);
        let made = || context.tool_call_id(&self.id, 0, index as usize);
        Some(tool(ToolCallDelta {
            index,
            id: Some(self.ids.own(block.id.as_deref(), made)),
            name: Some(block.name.map(Cow::into_owned).unwrap_or_default()),
            ..ToolCallDelta::default()
        }))
    }

    fn piece(&mut self, index: Option<u32>, delta: Option<DeltaIn<'_>>) -> Option<Delta> {
        let delta = delta?;
        if let Some((text, signature)) = &mut self.thought {
            text.push_str(delta.thinking.as_deref().unwrap_or(""));
            signature.push_str(delta.signature.as_deref().unwrap_or(""));
        }
        let Some(json) = delta.partial_json.filter(|j| !j.is_empty()) else {
            return text(delta.text, delta.thinking);
        };
        let open = self.open.as_mut().filter(|o| Some(o.block) == index)?;
        open.pieces = true;
        Some(arguments(open.call, json.into_owned()))
    }

    /// A call without any piece has its input from the start of the block: mostly `{}`. A thought is signed as a whole.
    fn close(&mut self, index: Option<u32>) -> Option<Delta> {
        if let Some((text, signature)) = self.thought.take() {
            return thought(&text, &signature).map(beside);
        }
        let open = self.open.take_if(|o| Some(o.block) == index)?;
        (!open.pieces).then(|| arguments(open.call, open.input))
    }
}

fn text(text: Option<Cow<'_, str>>, thinking: Option<Cow<'_, str>>) -> Option<Delta> {
    let full = |t: Option<Cow<'_, str>>| t.filter(|t| !t.is_empty()).map(Cow::into_owned);
    let (text, reasoning) = (full(text), full(thinking));
    (text.is_some() || reasoning.is_some()).then(|| Delta { text, reasoning, ..Delta::default() })
}

fn beside(thought: Value) -> Delta {
    Delta { beside: Some(signed(vec![thought])), ..Delta::default() }
}

fn tool(call: ToolCallDelta) -> Delta {
    Delta { tool_calls: vec![call], ..Delta::default() }
}

fn arguments(call: Option<u32>, json: String) -> Delta {
    match call {
        Some(index) => tool(ToolCallDelta { index, arguments: json, ..ToolCallDelta::default() }),
        None => Delta { text: Some(json), ..Delta::default() },
    }
}
