//! Completions and chunks of the in-process providers in the form of OpenAI's wire, so that clients see the
//! fingerprint.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use types::chat::{ToolCall, WireCalls};
use types::completion::{Choice, Chunk, Completion, Delta, FinishReason, ToolCallDelta};

/// Longest piece of a stream, in bytes (a character that straddles the end stays whole).
const PIECE: usize = 24;

/// Adds the answer's own JSON.
pub(crate) fn with_raw(mut c: Completion, fingerprint: &str) -> Completion {
    let choices: Vec<Value> = c
        .choices
        .iter()
        .map(|choice| {
            let mut message = Map::new();
            message.insert("role".into(), "assistant".into());
            let no_text =
                choice.text.is_empty() && (!choice.tool_calls.is_empty() || choice.refusal.is_some());
            message.insert("content".into(), if no_text { Value::Null } else { choice.text.clone().into() });
            message.insert("refusal".into(), json!(choice.refusal));
            if !choice.tool_calls.is_empty() {
                message.insert("tool_calls".into(), calls(&choice.tool_calls));
            }
            json!({"index": choice.index, "message": message, "logprobs": null,
                   "finish_reason": choice.finish_reason.as_ref().map(FinishReason::as_str)})
        })
        .collect();
    let body = json!({"id": c.id, "object": "chat.completion", "created": c.created, "model": c.model,
        "system_fingerprint": fingerprint, "choices": choices, "usage": c.usage.to_wire()});
    c.raw = Some(Bytes::from(body.to_string()));
    c
}

fn calls(calls: &[ToolCall]) -> Value {
    serde_json::to_value(WireCalls(calls)).unwrap_or_default()
}

/// A completion as the chunks of a stream: the role, pieces of about a word, the end of each choice, usage.
pub(crate) fn chunks(c: &Completion, fingerprint: &str) -> Vec<Chunk> {
    let frame = |choices: Vec<Delta>| Chunk {
        id: c.id.clone(),
        model: c.model.clone(),
        created: c.created,
        choices,
        ..Chunk::default()
    };
    let mut out: Vec<Chunk> = c.choices.iter().flat_map(deltas).map(|delta| frame(vec![delta])).collect();
    out.push(Chunk { usage: Some(c.usage), ..frame(Vec::new()) });
    for chunk in &mut out {
        chunk.raw = Some(raw(chunk, fingerprint));
    }
    out
}

fn deltas(choice: &Choice) -> Vec<Delta> {
    let plain = Delta { index: choice.index, ..Delta::default() };
    let mut out = vec![Delta { role: true, ..plain.clone() }];
    if let Some(refusal) = &choice.refusal {
        out.extend(pieces(refusal).map(|p| Delta { refusal: Some(p.to_owned()), ..plain.clone() }));
    }
    out.extend(pieces(&choice.text).map(|p| Delta { text: Some(p.to_owned()), ..plain.clone() }));
    for (index, call) in (0_u32..).zip(&choice.tool_calls) {
        let first = ToolCallDelta {
            index,
            id: Some(call.id.clone()),
            name: Some(call.name.clone()),
            ..ToolCallDelta::default()
        };
        let rest = pieces(&call.arguments).map(|p| ToolCallDelta {
            index,
            arguments: p.to_owned(),
            ..ToolCallDelta::default()
        });
        out.extend(
            std::iter::once(first).chain(rest).map(|t| Delta { tool_calls: vec![t], ..plain.clone() }),
        );
    }
    out.push(Delta { finish_reason: choice.finish_reason.clone(), ..plain });
    out
}

/// A text in words, long words in parts.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ').flat_map(|word| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let end = (PIECE..rest.len()).find(|i| rest.is_char_boundary(*i)).unwrap_or(rest.len());
            let (piece, after) = rest.split_at(end);
            rest = after;
            (!piece.is_empty()).then_some(piece)
        })
    })
}

fn raw(chunk: &Chunk, fingerprint: &str) -> Bytes {
    let choices: Vec<Value> = chunk
        .choices
        .iter()
        .map(|d| {
            let mut delta = Map::new();
            if d.role {
                delta.insert("role".into(), "assistant".into());
                delta.insert("content".into(), "".into());
            }
            if let Some(t) = &d.text {
                delta.insert("content".into(), t.clone().into());
            }
            if let Some(r) = &d.refusal {
                delta.insert("refusal".into(), r.clone().into());
            }
            if !d.tool_calls.is_empty() {
                delta.insert("tool_calls".into(), d.tool_calls.iter().map(tool_delta).collect());
            }
            json!({"index": d.index, "delta": delta, "logprobs": null,
                   "finish_reason": d.finish_reason.as_ref().map(FinishReason::as_str)})
        })
        .collect();
    let usage = chunk.usage.map(types::Usage::to_wire);
    let body = json!({"id": chunk.id, "object": "chat.completion.chunk", "created": chunk.created,
        "model": chunk.model, "system_fingerprint": fingerprint, "choices": choices, "usage": usage});
    Bytes::from(body.to_string())
}

fn tool_delta(t: &ToolCallDelta) -> Value {
    match (&t.id, &t.name) {
        (Some(id), Some(name)) => json!({"index": t.index, "id": id, "type": "function",
            "function": {"name": name, "arguments": t.arguments}}),
        _ => json!({"index": t.index, "function": {"arguments": t.arguments}}),
    }
}
