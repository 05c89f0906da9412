//! Golden fixtures of every dialect, both ways, and the laws that hold between them.
//!
//! A case is a folder `fixtures/<dialect>/<case>`: `request.json` (canonical, with `call.json` beside it for
//! what else the call says) gives `upstream.json`; `response.json` gives `canonical.json`; `stream.sse` gives
//! `chunks.json`. `UPDATE_FIXTURES=1` writes what is expected anew, to be read before it is committed.

use super::{Context, Wire};
use crate::sse::Framer;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use types::axis::TaskFamily;
use types::chat::{ChatRequest, Limits, ResponseFormat, ToolChoice, WireCalls};
use types::completion::{Accumulator, Chunk, Completion};
use types::matrix::{Abilities, Dialect, Model, Quirks, ToolCallIds};
use types::provider::{Call, Edits, Enforce, Error};

pub(super) const DIALECTS: [(&str, Dialect); 3] = [
    ("openai_chat", Dialect::OpenaiChat),
    ("anthropic_messages", Dialect::AnthropicMessages),
    ("gemini", Dialect::Gemini),
];

pub(crate) fn model(upstream_name: &str) -> Model {
    let mut abilities = Abilities::default();
    for name in Abilities::NAMES {
        *abilities.flag(name).unwrap() = true;
    }
    Model { abilities, speed_tier: 1, ..Model::new(format!("p/{upstream_name}"), 0, (100_000, 8192)) }
}

pub(crate) fn call(body: &Bytes, dialect: Dialect) -> Call {
    let request = ChatRequest::decode(body.clone(), &Limits::default()).unwrap();
    let mut provider = crate::transport::test_provider("https://example.com");
    provider.dialect = dialect;
    Call {
        stream: request.stream,
        request: Arc::new(request),
        edits: Edits::default(),
        model: Arc::new(model("big-model")),
        provider: Arc::new(provider),
        remaining: Duration::from_secs(60),
        id: "call-1".into(),
        family: TaskFamily::Chat,
        sub_label: None,
        est_input: None,
    }
}

fn number(v: &Value, name: &str) -> Option<u32> {
    v.get(name).and_then(Value::as_u64).map(|n| u32::try_from(n).unwrap())
}

/// The call of a case: its request, and what `call.json` says beside it.
fn call_of(case: &Path, dialect: Dialect) -> Call {
    let body = std::fs::read(case.join("request.json")).unwrap_or_else(|_| {
        json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]}).to_string().into_bytes()
    });
    let mut call = call(&Bytes::from(body), dialect);
    let Ok(extra) = std::fs::read(case.join("call.json")) else { return call };
    let extra: Value = serde_json::from_slice(&extra).unwrap();
    let known = ["tags", "quirks", "edits"];
    assert!(extra.as_object().unwrap().keys().all(|k| known.contains(&k.as_str())), "{case:?}");
    let texts = |v: &Value| -> Vec<String> { serde_json::from_value(v.clone()).unwrap() };
    Arc::make_mut(&mut call.model).tags = extra.get("tags").map(texts).unwrap_or_default();
    let q = extra.get("quirks").cloned().unwrap_or(json!({}));
    let flag = |name: &str, default: bool| q.get(name).map_or(default, |v| v.as_bool().unwrap());
    Arc::make_mut(&mut call.provider).quirks = Quirks {
        stream_usage: flag("stream_usage", true),
        max_tokens_field: q.get("max_tokens_field").map_or("max_tokens", |v| v.as_str().unwrap()).into(),
        stop_for_tool_calls: false,
        drop: q.get("drop").map(texts).unwrap_or_default(),
        developer_as_system: flag("developer_as_system", false),
        reasoning_history: flag("reasoning_history", false),
        message_members: q.get("message_members").map(texts).unwrap_or_default(),
        prefill_echoed: false,
        tool_call_ids: q
            .get("tool_call_ids")
            .map(|v| ToolCallIds::parse(v.as_str().unwrap()).unwrap())
            .unwrap_or_default(),
    };
    let e = extra.get("edits").cloned().unwrap_or(json!({}));
    call.edits = Edits {
        messages: e
            .get("messages")
            .map(|m| ChatRequest::from_value(&json!({"model": "auto", "messages": m})).unwrap().messages),
        response_format: e.get("json_object").map(|_| ResponseFormat::JsonObject),
        temperature: e.get("temperature").and_then(Value::as_f64),
        top_p: e.get("top_p").and_then(Value::as_f64),
        max_tokens: number(&e, "max_tokens"),
        seed: e.get("seed").and_then(Value::as_i64),
        without_tools: e.get("without_tools").is_some(),
        tools: e.get("tools").map(|tools| {
            let messages = json!([{"role": "user", "content": "hi"}]);
            let body = json!({"model": "auto", "messages": messages, "tools": tools});
            Arc::new(ChatRequest::from_value(&body).unwrap().tools)
        }),
        prefill: e.get("prefill").and_then(Value::as_str).map(Into::into),
        stop: e.get("stop").map(texts),
        presence_penalty: e.get("presence_penalty").and_then(Value::as_f64),
        frequency_penalty: e.get("frequency_penalty").and_then(Value::as_f64),
        reasoning_effort: e.get("reasoning_effort").and_then(Value::as_str).map(Into::into),
        logprobs: e.get("logprobs").and_then(Value::as_bool),
        tool_choice: e.get("must_call").map(|_| ToolChoice::Required),
        enforce: Enforce::Auto,
    };
    call
}

/// Adds what is there.
fn put<const N: usize>(to: &mut Value, members: [(&str, &Option<Value>); N]) {
    for (name, value) in members {
        if let Some(value) = value {
            to[name] = value.clone();
        }
    }
}

fn choice_json(c: &types::completion::Choice) -> Value {
    let mut v = json!({
        "index": c.index,
        "text": c.text,
        "reasoning": c.reasoning,
        "refusal": c.refusal,
        "tool_calls": serde_json::to_value(WireCalls(&c.tool_calls)).unwrap(),
        "finish_reason": c.finish_reason,
    });
    put(&mut v, [("logprobs", &c.logprobs), ("beside", &c.beside)]);
    v
}

fn completion_json(c: &Completion, body: &Bytes) -> Value {
    // Where it is not the body as it came, what it is.
    let raw = c.raw.as_ref().map_or(json!(false), |raw| match raw == body {
        true => json!(true),
        false => serde_json::from_slice(raw).unwrap(),
    });
    let mut v = json!({
        "id": c.id,
        "created": c.created,
        "model": c.model,
        "choices": c.choices.iter().map(choice_json).collect::<Vec<_>>(),
        "usage": c.usage,
        "raw": raw,
    });
    put(&mut v, [("extra", &c.extra.as_ref().map(|extra| json!(extra)))]);
    v
}

/// What a delta adds, without the members that add nothing.
fn delta_json(d: &types::completion::Delta) -> Value {
    let mut v = json!({ "index": d.index });
    let o = v.as_object_mut().unwrap();
    let texts = [("text", &d.text), ("reasoning", &d.reasoning), ("refusal", &d.refusal)];
    for (name, text) in texts {
        if let Some(t) = text {
            o.insert(name.into(), json!(t));
        }
    }
    if d.role {
        o.insert("role".into(), json!(true));
    }
    for t in &d.tool_calls {
        let mut call = json!({"index": t.index, "id": t.id, "name": t.name, "arguments": t.arguments});
        put(&mut call, [("custom", &t.custom.then_some(json!(true))), ("extra_content", &t.extra_content)]);
        o.entry("tool_calls").or_insert(json!([])).as_array_mut().unwrap().push(call);
    }
    if let Some(f) = &d.finish_reason {
        o.insert("finish_reason".into(), json!(f));
    }
    put(&mut v, [("logprobs", &d.logprobs), ("beside", &d.beside)]);
    v
}

fn chunk_json(c: &Chunk) -> Value {
    let mut v = json!({
        "id": c.id,
        "model": c.model,
        "created": c.created,
        "choices": c.choices.iter().map(delta_json).collect::<Vec<_>>(),
        "usage": c.usage,
        "raw": c.raw.is_some(),
    });
    put(&mut v, [("extra", &c.extra.as_ref().map(|extra| json!(**extra)))]);
    v
}

fn error_json(e: &Error) -> Value {
    json!({
        "kind": e.kind,
        "status": e.status,
        "retry_after_ms": e.retry_after.map(|d| u64::try_from(d.as_millis()).unwrap()),
        "detail": e.detail,
    })
}

/// Decodes a stream that comes in the given pieces.
pub(super) fn decode_stream(
    wire: Wire,
    context: &Context,
    pieces: &[&[u8]],
) -> (Vec<Chunk>, Result<(), Error>) {
    let mut framer = Framer::new(1 << 20);
    let mut decoder = wire.decoder(context.clone());
    let mut chunks = VecDeque::new();
    let mut run = || {
        for piece in pieces {
            framer.push(Bytes::copy_from_slice(piece));
            while let Some(event) = framer.next().unwrap() {
                decoder.push(&event, &mut chunks)?;
            }
        }
        if let Some(event) = framer.finish().unwrap() {
            decoder.push_cut(&event, &mut chunks)?;
        }
        decoder.finish()
    };
    let end = run();
    (chunks.into(), end)
}

fn cases() -> Vec<(PathBuf, Dialect)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut all = Vec::new();
    for (name, dialect) in DIALECTS {
        for entry in std::fs::read_dir(root.join(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all.push((path, dialect));
            }
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn check(case: &Path, file: &str, got: &str) {
    let got = got.trim_end_matches('\n');
    let path = case.join(file);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, format!("{got}\n")).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, want.trim_end_matches('\n'), "{}", path.display());
}

fn pretty(v: &Value) -> String {
    serde_json::to_string_pretty(v).unwrap()
}

#[test]
fn requests_are_said_in_every_dialect() {
    let mut seen = 0;
    for (case, dialect) in cases().into_iter().filter(|(c, _)| c.join("request.json").exists()) {
        seen += 1;
        let call = call_of(&case, dialect);
        match Wire::of(dialect).unwrap().encode(&call) {
            // Byte for byte where bytes are promised to pass through.
            Ok(e) if dialect == Dialect::OpenaiChat => {
                check(&case, "upstream.json", std::str::from_utf8(&e.body).unwrap());
                serde_json::from_slice::<Value>(&e.body).unwrap();
            }
            Ok(e) => {
                let body: Value = serde_json::from_slice(&e.body).unwrap();
                let query = e.query.map_or(String::new(), |q| format!("?{q}"));
                let address = format!("{}{query}", e.path);
                check(&case, "upstream.json", &pretty(&json!({"address": address, "body": body})));
            }
            Err(e) => check(&case, "upstream.json", &pretty(&json!({"error": error_json(&e)}))),
        }
    }
    assert!(seen > 20);
}

#[test]
fn answers_are_read_in_every_dialect() {
    let mut seen = 0;
    for (case, dialect) in cases().into_iter().filter(|(c, _)| c.join("response.json").exists()) {
        seen += 1;
        let context = Context::of(&call_of(&case, dialect));
        let body = Bytes::from(std::fs::read(case.join("response.json")).unwrap());
        let got = match Wire::of(dialect).unwrap().decode(&context, &body) {
            Ok(c) => completion_json(&c, &body),
            Err(e) => json!({"error": error_json(&e)}),
        };
        check(&case, "canonical.json", &pretty(&got));
    }
    assert!(seen > 10);
}

#[test]
fn streams_are_read_in_every_dialect() {
    let mut seen = 0;
    for (case, dialect) in cases().into_iter().filter(|(c, _)| c.join("stream.sse").exists()) {
        seen += 1;
        let context = Context::of(&call_of(&case, dialect));
        let bytes = std::fs::read(case.join("stream.sse")).unwrap();
        let (chunks, end) = decode_stream(Wire::of(dialect).unwrap(), &context, &[&bytes]);
        for chunk in &chunks {
            if let Some(raw) = &chunk.raw {
                assert!(bytes.windows(raw.len()).any(|w| w == raw), "raw is the event as it came: {case:?}");
            }
        }
        let end = end.map_or_else(|e| error_json(&e), |()| json!("clean"));
        let chunks: Vec<Value> = chunks.iter().map(chunk_json).collect();
        check(&case, "chunks.json", &pretty(&json!({"chunks": chunks, "end": end})));
    }
    assert!(seen > 10);
}

#[test]
fn a_streamed_answer_folds_into_the_whole_one() {
    let both = |c: &Path| c.join("stream.sse").exists() && c.join("response.json").exists();
    let mut seen = 0;
    for (case, dialect) in cases().into_iter().filter(|(c, _)| both(c)) {
        seen += 1;
        let wire = Wire::of(dialect).unwrap();
        let context = Context::of(&call_of(&case, dialect));
        let whole = Bytes::from(std::fs::read(case.join("response.json")).unwrap());
        let whole = wire.decode(&context, &whole);
        let bytes = std::fs::read(case.join("stream.sse")).unwrap();
        let (chunks, end) = decode_stream(wire, &context, &[&bytes]);
        let Ok(whole) = whole else {
            assert!(end.is_err(), "{case:?}");
            continue;
        };
        assert_eq!(end, Ok(()), "{case:?}");
        let mut all = Accumulator::default();
        chunks.iter().for_each(|c| all.push(c));
        let folded = all.finish();
        assert_eq!(folded.choices, whole.choices, "{case:?}");
        assert_eq!(folded.usage, whole.usage, "{case:?}");
        assert_eq!((folded.id, folded.model), (whole.id, whole.model), "{case:?}");
        assert_eq!(folded.extra, whole.extra, "{case:?}");
    }
    assert!(seen >= 6);
}

#[test]
fn what_was_counted_for_an_answer_that_is_none_is_told() {
    let check = |dialect: Dialect, body: Value, want: Option<(u32, u32)>| {
        let (wire, context) = (Wire::of(dialect).unwrap(), Context::of(&call_of(Path::new("none"), dialect)));
        let e = wire.decode(&context, &Bytes::from(body.to_string())).unwrap_err();
        let used = |e: &Error| e.used.as_ref().map(|u| (u.input, u.output));
        assert_eq!(used(&e), want, "{body}");
        // In events, too, where one of them says that the answer failed.
        let ends = ["/choices/0/finish_reason", "/candidates/0/finishReason"];
        if ends.iter().any(|at| body.pointer(at).is_some_and(Value::is_string)) {
            let event = format!("data: {body}\n\n");
            let (_, end) = decode_stream(wire, &context, &[event.as_bytes()]);
            assert_eq!(used(&end.unwrap_err()), want, "{body}");
        }
    };
    let usage = json!({"prompt_tokens": 110, "completion_tokens": 900});
    let open = |choices: Value| json!({"choices": choices, "usage": usage});
    let all = Some((110, 900));
    check(Dialect::OpenaiChat, open(json!([])), all);
    check(Dialect::OpenaiChat, open(json!(null)), all);
    check(Dialect::OpenaiChat, open(json!([{"message": {"content": "x"}, "finish_reason": null}])), all);
    check(Dialect::OpenaiChat, open(json!([{"message": {"content": "x"}, "finish_reason": "error"}])), all);
    check(Dialect::OpenaiChat, json!({"choices": []}), None);
    let google = |candidates: Value| json!({"candidates": candidates, "usageMetadata": {"promptTokenCount": 110, "candidatesTokenCount": 900}});
    check(Dialect::Gemini, google(json!([])), all);
    check(Dialect::Gemini, google(json!([{"finishReason": "MALFORMED_FUNCTION_CALL"}])), all);
    check(Dialect::Gemini, google(json!([{"content": {"parts": [{"text": "x"}]}}])), all);
    let anthropic = json!({"input_tokens": 110, "output_tokens": 900});
    check(Dialect::AnthropicMessages, json!({"usage": anthropic}), all);
    let text = json!([{"type": "text", "text": "x"}]);
    check(Dialect::AnthropicMessages, json!({"content": text, "usage": anthropic, "stop_reason": null}), all);
}

#[test]
fn failures_have_their_kind() {
    for (name, dialect) in DIALECTS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/{name}/failures.json"));
        let table: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(table.len() > 5);
        let context = Context::of(&call_of(Path::new("none"), dialect));
        for row in table {
            let mut headers = HeaderMap::new();
            for (k, v) in row.get("headers").and_then(Value::as_object).into_iter().flatten() {
                let name: HeaderName = k.parse().unwrap();
                headers.insert(name, HeaderValue::from_str(v.as_str().unwrap()).unwrap());
            }
            let body = match &row["body"] {
                Value::String(s) => s.clone(),
                other => other.to_string(),
            };
            let status = u16::try_from(row["status"].as_u64().unwrap()).unwrap();
            let wire = Wire::of(dialect).unwrap();
            let e = wire.classify(&context, status, &headers, body.as_bytes(), SystemTime::UNIX_EPOCH);
            let after = e.retry_after.map(|d| u64::try_from(d.as_millis()).unwrap());
            assert_eq!(e.kind.as_str(), row["kind"].as_str().unwrap(), "{name}: {row}");
            assert_eq!(after, row.get("retry_after_ms").and_then(Value::as_u64), "{name}: {row}");
            assert_eq!(e.status, Some(status));
            assert_eq!(e.daily, row.get("daily").is_some(), "{name}: {row}");
            assert!(!e.detail.contains("sk-secret"), "{}", e.detail);
        }
    }
}

/// What is not told as adjusted can be found in what goes out, and what is told as dropped cannot.
#[test]
fn what_goes_out_otherwise_than_asked_is_told() {
    let asked = json!({
        "temperature": 0.125, "top_p": 0.375, "top_k": 41, "max_tokens": 4021, "seed": 4022, "user": "mark-u",
        "stop": ["mark-stop"], "presence_penalty": 0.625, "frequency_penalty": 0.6875, "logit_bias": {"4023": 1},
        "reasoning_effort": "low", "metadata": {"mark-k": "v"}, "store": true, "service_tier": "mark-tier",
        "thinking": {"type": "mark-thinking"}, "output_config": {"a": "mark-output"}, "verbosity": "mark-verb",
        "safety_settings": [{"a": "mark-safety"}], "novel": "mark-novel", "prediction": {"a": "mark-prediction"},
    });
    let marks = |dialect, name: &str| match name {
        // What stands for it in that vendor's form.
        "reasoning_effort" if dialect == Dialect::Gemini => "1024".to_owned(),
        "store" => "store".to_owned(),
        "metadata" => "mark-k".to_owned(),
        "logit_bias" => "4023".to_owned(),
        _ => match &asked[name] {
            Value::String(s) => s.clone(),
            Value::Array(_) | Value::Object(_) => {
                asked[name].to_string().split('"').find(|s| s.starts_with("mark")).unwrap().into()
            }
            other => other.to_string(),
        },
    };
    for (_, dialect) in DIALECTS {
        for name in asked.as_object().unwrap().keys() {
            let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
            body[name] = asked[name].clone();
            let call = call(&Bytes::from(body.to_string()), dialect);
            let wire = Wire::of(dialect).unwrap();
            let out = String::from_utf8(wire.encode(&call).unwrap().body.to_vec()).unwrap();
            let told = wire.adjustments(&call);
            assert_eq!(
                told.iter().any(|a| a.name == *name),
                !out.contains(&marks(dialect, name)),
                "{dialect:?} {name}: {out}"
            );
            assert!(told.iter().all(|a| a.name == *name && a.to.is_none()), "{dialect:?} {name}: {told:?}");
        }
    }
}

/// Values that a vendor does not take, with what it is sent.
#[test]
fn changed_values_are_told_with_both() {
    let check = |dialect, more: Value, want: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut call = call(&Bytes::from(body.to_string()), dialect);
        Arc::make_mut(&mut call.model).abilities.reasoning = false;
        let got = Wire::of(dialect).unwrap().adjustments(&call);
        assert_eq!(serde_json::to_value(got).unwrap(), want, "{dialect:?} {more}");
    };
    let anthropic = Dialect::AnthropicMessages;
    check(anthropic, json!({"temperature": 1.5}), json!([{"name": "temperature", "from": 1.5, "to": 1.0}]));
    check(anthropic, json!({"temperature": 1, "top_p": 0.5}), json!([{"name": "top_p", "from": 0.5}]));
    check(anthropic, json!({"stop": ["a", "\n"]}), json!([{"name": "stop", "from": 2, "to": 1}]));
    let long = 5_000_000_000_i64;
    check(
        Dialect::Gemini,
        json!({"seed": long}),
        json!([{"name": "seed", "from": long, "to": long & 0x7fff_ffff}]),
    );
    let effort = json!([{"name": "reasoning_effort", "from": "high"}]);
    check(Dialect::Gemini, json!({"reasoning_effort": "high"}), effort);
    check(Dialect::OpenaiChat, json!({"temperature": 2, "seed": long}), json!([]));
}

pub(super) fn streams() -> Vec<(Wire, Context, Vec<u8>)> {
    let with = cases().into_iter().filter(|(c, _)| c.join("stream.sse").exists());
    with.map(|(case, dialect)| {
        let context = Context::of(&call_of(&case, dialect));
        (Wire::of(dialect).unwrap(), context, std::fs::read(case.join("stream.sse")).unwrap())
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn where_the_bytes_are_cut_changes_nothing(cuts in proptest::collection::vec(0.0..1.0_f64, 0..8)) {
        for (wire, context, bytes) in streams() {
            let mut cuts: Vec<usize> = cuts.iter().map(|c| (c * bytes.len() as f64) as usize).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(decode_stream(wire, &context, &pieces), decode_stream(wire, &context, &[&bytes]));
        }
    }

    #[test]
    fn a_cut_or_damaged_stream_never_panics_nor_ends_clean_without_an_end(
        at in 0.0..1.0_f64,
        damage in proptest::option::of((0.0..1.0_f64, any::<u8>())),
    ) {
        for (wire, context, mut bytes) in streams() {
            bytes.truncate((at * bytes.len() as f64) as usize);
            if let Some((place, byte)) = damage {
                let place = (place * bytes.len() as f64) as usize;
                if let Some(b) = bytes.get_mut(place) {
                    *b = byte;
                }
            }
            let (chunks, end) = decode_stream(wire, &context, &[&bytes]);
            let finished = chunks.iter().flat_map(|c| &c.choices).any(|d| d.finish_reason.is_some());
            // Either the end was said, or it is an error.
            let text = String::from_utf8_lossy(&bytes);
            let said = text.contains("[DONE]") || text.contains("message_stop");
            prop_assert!(end.is_err() || finished || said);
        }
    }

    #[test]
    fn no_body_makes_a_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (name, dialect) in DIALECTS {
            let context = Context::of(&call_of(Path::new(name), dialect));
            let _ = Wire::of(dialect).unwrap().decode(&context, &Bytes::from(body.clone()));
            let _ = Wire::of(dialect).unwrap().classify(&context, 500, &HeaderMap::new(), &body, SystemTime::UNIX_EPOCH);
        }
    }

    /// Whatever is set, dropped or renamed: the body stays JSON, unknown members keep their bytes, and what
    /// was asked stands in it once.
    #[test]
    fn splicing_keeps_what_it_does_not_change(
        names in proptest::sample::subsequence(
            vec!["model", "messages", "stream", "routing", "max_tokens", "max_completion_tokens", "temperature", "novel", "seed", "stream_options"], 0..=10
        ).prop_shuffle(),
        space in prop_oneof![Just(""), Just(" "), Just("\n  ")],
        stream in any::<bool>(),
        max in proptest::option::of(1_u32..99),
        drop in proptest::sample::subsequence(vec!["seed", "novel", "temperature"], 0..3),
    ) {
        let value = |name: &str| match name {
            "model" => r#""auto""#.to_owned(),
            "messages" => r#"[ {"role":"user" , "content":"h\u0069"} ]"#.to_owned(),
            "stream" => "true".to_owned(),
            "routing" => "{}".to_owned(),
            "novel" => "{ \"a\" :1.50}".to_owned(),
            "stream_options" => r#"{"include_obfuscation":false}"#.to_owned(),
            _ => "1".to_owned(),
        };
        let mut names = names;
        for needed in ["messages", "model"] {
            if !names.contains(&needed) {
                names.push(needed);
            }
        }
        let members: Vec<String> = names.iter().map(|n| format!("{space}\"{n}\":{space}{}{space}", value(n))).collect();
        let body = Bytes::from(format!("{{{}}}", members.join(",")));
        let mut call = call(&body, Dialect::OpenaiChat);
        call.stream = stream;
        call.edits.max_tokens = max;
        let quirks = &mut Arc::make_mut(&mut call.provider).quirks;
        quirks.drop = drop.iter().map(|d| (*d).to_owned()).collect();
        quirks.max_tokens_field = "max_completion_tokens".into();
        let out = Wire::OpenaiChat.encode(&call).unwrap().body;
        // `ChatRequest::decode` refuses members that stand twice.
        let read = ChatRequest::decode(out.clone(), &Limits::default());
        prop_assert!(read.is_ok(), "{:?}", out);
        let read = read.unwrap();
        prop_assert_eq!(&read.model, "big-model");
        prop_assert_eq!(read.stream, stream);
        prop_assert_eq!(read.include_usage, stream);
        let limited = names.iter().any(|n| n.starts_with("max_"));
        prop_assert_eq!(read.params.max_tokens, max.or(limited.then_some(1)));
        prop_assert_eq!(read.raw("max_tokens"), None);
        prop_assert_eq!(read.raw("routing"), None);
        let same: Vec<&&str> = names.iter().filter(|n| ["messages", "novel", "seed", "temperature"].contains(n)).collect();
        for name in same {
            let want = (!drop.contains(name)).then(|| value(name));
            prop_assert_eq!(read.raw(name), want.as_deref());
        }
    }
}
