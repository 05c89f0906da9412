//! What a vendor says, in the words of each wire format: whole answers, and the events of a stream.

use super::{Answer, Dialect};
use serde_json::{Value, json};

/// A whole answer as the body of a 200.
pub(super) fn whole(dialect: Dialect, a: &Answer, model: &str) -> Value {
    match dialect {
        Dialect::OpenAi => openai_whole(a, model),
        Dialect::Anthropic => anthropic_whole(a, model),
        Dialect::Gemini => gemini_event(&gemini_parts(a), Some(a), model),
    }
}

/// The events of a streamed answer, framed. The vendor's own end is the last one.
pub(super) fn events(dialect: Dialect, a: &Answer, model: &str, include_usage: bool) -> Vec<String> {
    match dialect {
        Dialect::OpenAi => openai_events(a, model, include_usage),
        Dialect::Anthropic => anthropic_events(a, model),
        Dialect::Gemini => gemini_events(a, model),
    }
}

/// Whether an event of a stream calls a tool.
pub(super) fn calls(event: &str) -> bool {
    ["\"tool_calls\"", "\"tool_use\"", "\"functionCall\""].iter().any(|name| event.contains(name))
}

/// An error body in the vendor's form.
pub(super) fn error(dialect: Dialect, status: u16, message: &str) -> Value {
    match dialect {
        Dialect::OpenAi => json!({"error": {"message": message, "type": "vendor_error", "code": null}}),
        Dialect::Anthropic => {
            let kind = match status {
                400 => "invalid_request_error",
                401 => "authentication_error",
                429 => "rate_limit_error",
                529 => "overloaded_error",
                _ => "api_error",
            };
            json!({"type": "error", "error": {"type": kind, "message": message}})
        }
        Dialect::Gemini => {
            let name = match status {
                400 => "INVALID_ARGUMENT",
                401 => "UNAUTHENTICATED",
                429 => "RESOURCE_EXHAUSTED",
                503 => "UNAVAILABLE",
                _ => "INTERNAL",
            };
            json!({"error": {"code": status, "message": message, "status": name}})
        }
    }
}

/// An error event within a stream.
pub(super) fn error_event(dialect: Dialect, message: &str) -> String {
    match dialect {
        Dialect::Anthropic => format!("event: error\ndata: {}\n\n", error(dialect, 529, message)),
        _ => format!("data: {}\n\n", error(dialect, 503, message)),
    }
}

fn openai_usage(a: &Answer) -> Value {
    let u = a.usage;
    let mut details = json!({ "cached_tokens": u.cached_input });
    if u.image > 0 {
        details["image_tokens"] = json!(u.image);
    }
    json!({
        "prompt_tokens": u.input, "completion_tokens": u.output, "total_tokens": u.input + u.output,
        "prompt_tokens_details": details,
    })
}

fn openai_finish(a: &Answer) -> &str {
    match a.finish.as_str() {
        "" if a.tool_calls.is_empty() => "stop",
        "" => "tool_calls",
        other => other,
    }
}

fn openai_whole(a: &Answer, model: &str) -> Value {
    let mut message = json!({"role": "assistant", "content": a.pieces.concat(), "refusal": a.refusal});
    if !a.tool_calls.is_empty() {
        message["content"] = Value::Null;
        message["tool_calls"] = a
            .tool_calls
            .iter()
            .map(|t| {
                json!({"id": t.id, "type": "function",
                       "function": {"name": t.name, "arguments": t.arguments.concat()}})
            })
            .collect();
    }
    json!({
        "id": "chatcmpl-vendor", "object": "chat.completion", "created": 1_700_000_000, "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": openai_finish(a), "logprobs": null}],
        "usage": openai_usage(a), "system_fingerprint": "fp_vendor",
    })
}

fn openai_events(a: &Answer, model: &str, include_usage: bool) -> Vec<String> {
    let event = |choices: Value, usage: Value| {
        let mut e = json!({"id": "chatcmpl-vendor", "object": "chat.completion.chunk",
                           "created": 1_700_000_000, "model": model, "choices": choices});
        if include_usage {
            e["usage"] = usage;
        }
        format!("data: {e}\n\n")
    };
    let delta = |d: Value| {
        event(json!([{"index": 0, "delta": d, "finish_reason": null, "logprobs": null}]), Value::Null)
    };
    let mut out = vec![delta(json!({"role": "assistant", "content": ""}))];
    out.extend(a.pieces.iter().map(|p| delta(json!({"content": p}))));
    out.extend(a.refusal.iter().map(|r| delta(json!({"refusal": r}))));
    for (i, t) in a.tool_calls.iter().enumerate() {
        out.push(delta(json!({"tool_calls": [{"index": i, "id": t.id, "type": "function",
                                              "function": {"name": t.name, "arguments": ""}}]})));
        out.extend(
            t.arguments
                .iter()
                .map(|p| delta(json!({"tool_calls": [{"index": i, "function": {"arguments": p}}]}))),
        );
    }
    out.push(event(json!([{"index": 0, "delta": {}, "finish_reason": openai_finish(a)}]), Value::Null));
    if include_usage {
        out.push(event(json!([]), openai_usage(a)));
    }
    out.push("data: [DONE]\n\n".to_owned());
    out
}

/// Anthropic counts cached input beside `input_tokens`, not within.
fn anthropic_usage(a: &Answer, output: u32) -> Value {
    let u = a.usage;
    json!({
        "input_tokens": u.input - u.cached_input, "cache_read_input_tokens": u.cached_input,
        "cache_creation_input_tokens": 0, "output_tokens": output,
    })
}

fn anthropic_stop(a: &Answer) -> &str {
    match a.finish.as_str() {
        "" if a.tool_calls.is_empty() => "end_turn",
        "" => "tool_use",
        "length" => "max_tokens",
        other => other,
    }
}

fn anthropic_whole(a: &Answer, model: &str) -> Value {
    let mut content: Vec<Value> = Vec::new();
    if !a.pieces.is_empty() {
        content.push(json!({"type": "text", "text": a.pieces.concat()}));
    }
    for t in &a.tool_calls {
        let input: Value = serde_json::from_str(&t.arguments.concat()).unwrap();
        content.push(json!({"type": "tool_use", "id": t.id, "name": t.name, "input": input}));
    }
    json!({
        "id": "msg_vendor", "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": anthropic_stop(a), "stop_sequence": null, "usage": anthropic_usage(a, a.usage.output),
    })
}

fn anthropic_events(a: &Answer, model: &str) -> Vec<String> {
    let event = |v: Value| format!("event: {}\ndata: {v}\n\n", v["type"].as_str().unwrap());
    let mut out = vec![
        event(json!({"type": "message_start", "message": {
            "id": "msg_vendor", "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": anthropic_usage(a, 1)}})),
        event(json!({"type": "ping"})),
    ];
    let mut index = 0;
    let mut block = |start: Value, deltas: Vec<Value>| {
        let mut events =
            vec![event(json!({"type": "content_block_start", "index": index, "content_block": start}))];
        events.extend(
            deltas
                .into_iter()
                .map(|d| event(json!({"type": "content_block_delta", "index": index, "delta": d}))),
        );
        events.push(event(json!({"type": "content_block_stop", "index": index})));
        index += 1;
        events
    };
    if !a.pieces.is_empty() {
        let deltas = a.pieces.iter().map(|p| json!({"type": "text_delta", "text": p})).collect();
        out.extend(block(json!({"type": "text", "text": ""}), deltas));
    }
    for t in &a.tool_calls {
        let deltas =
            t.arguments.iter().map(|p| json!({"type": "input_json_delta", "partial_json": p})).collect();
        out.extend(block(json!({"type": "tool_use", "id": t.id, "name": t.name, "input": {}}), deltas));
    }
    out.push(event(json!({"type": "message_delta",
        "delta": {"stop_reason": anthropic_stop(a), "stop_sequence": null},
        "usage": {"output_tokens": a.usage.output}})));
    out.push(event(json!({"type": "message_stop"})));
    out
}

fn gemini_parts(a: &Answer) -> Vec<Value> {
    let mut parts: Vec<Value> = Vec::new();
    if !a.pieces.is_empty() {
        parts.push(json!({"text": a.pieces.concat()}));
    }
    parts.extend(gemini_calls(a));
    parts
}

fn gemini_calls(a: &Answer) -> impl Iterator<Item = Value> + '_ {
    a.tool_calls.iter().map(|t| {
        let args: Value = serde_json::from_str(&t.arguments.concat()).unwrap();
        json!({"functionCall": {"name": t.name, "args": args}})
    })
}

/// One `GenerateContentResponse`; `end` adds the finish reason and all output tokens.
fn gemini_event(parts: &[Value], end: Option<&Answer>, model: &str) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    let mut event = json!({"modelVersion": model, "responseId": "resp-vendor"});
    if let Some(a) = end {
        candidate["finishReason"] = json!(match a.finish.as_str() {
            "" | "stop" => "STOP",
            "length" => "MAX_TOKENS",
            other => other,
        });
        let u = a.usage;
        event["usageMetadata"] = json!({
            "promptTokenCount": u.input, "cachedContentTokenCount": u.cached_input,
            "candidatesTokenCount": u.output, "totalTokenCount": u.input + u.output,
        });
    }
    event["candidates"] = json!([candidate]);
    event
}

fn gemini_events(a: &Answer, model: &str) -> Vec<String> {
    let frame = |v: Value| format!("data: {v}\r\n\r\n");
    let mut out: Vec<String> =
        a.pieces.iter().map(|p| frame(gemini_event(&[json!({"text": p})], None, model))).collect();
    out.extend(gemini_calls(a).map(|c| frame(gemini_event(&[c], None, model))));
    out.push(frame(gemini_event(&[json!({"text": ""})], Some(a), model)));
    out
}
