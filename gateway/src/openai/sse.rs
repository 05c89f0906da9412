//! Events of a streamed answer as server-sent events: a plain state machine, tested without sockets.
//!
//! Bytes of a vendor that speaks our dialect go out as they came, but for two members. `model` names the
//! model that serves as a client can ask for it again. `usage` is stripped unless asked for, and if asked for
//! it is `null` in every chunk but the last, which carries the usage of the whole request tree: of a single call in the
//! vendor's own words, as whole answers do.

use super::object::{Object, with_model};
use super::wire::{self, Stamp};
use crate::error::Failure;
use bytes::{BufMut as _, Bytes, BytesMut};
use engine::{Head, Sum, Tail};
use serde_json::{Map, Value};
use types::{Chunk, Usage};

/// The end of a successful stream, and of no other.
const DONE: &[u8] = b"data: [DONE]\n\n";
/// A comment: clients skip it, proxies see life.
pub(crate) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Turns events into bytes.
pub(crate) struct Encoder {
    include_usage: bool,
    stamp: Stamp,
    /// The model's name as JSON.
    model: String,
    /// Id and time of the stamp are the vendor's, not ours.
    stamped: bool,
    /// Choices whose role has been told.
    told: Vec<u32>,
    /// The vendor's own usage, as it said it last.
    said: Option<String>,
}

impl Encoder {
    /// `now` is Unix time in seconds, for vendors that give none.
    pub(crate) fn new(head: &Head, include_usage: bool, now: i64) -> Self {
        let stamp = Stamp {
            id: format!("chatcmpl-{}", head.request_id),
            created: now,
            model: head.model.to_string(),
        };
        let model = Value::from(&*head.model).to_string();
        Encoder { include_usage, stamp, model, stamped: false, told: Vec::new(), said: None }
    }

    /// Who serves, where the head did not know it.
    pub(crate) fn serves(&mut self, model: &str) {
        model.clone_into(&mut self.stamp.model);
        self.model = Value::from(model).to_string();
    }

    /// An event for the client; `None` when nothing is left of it (a usage-only event, which has nothing that the request
    /// asked for by name).
    pub(crate) fn chunk(&mut self, chunk: &Chunk) -> Option<Bytes> {
        self.take_stamp(chunk);
        if self.include_usage && chunk.usage.is_some() {
            let usage = |raw| Some(one_line_of(Object::parse(raw)?.get("usage")?.to_owned()));
            self.said = chunk.raw.as_deref().and_then(usage);
        }
        if chunk.choices.is_empty() && !chunk.asked && (chunk.usage.is_some() || chunk.raw.is_none()) {
            return None;
        }
        match &chunk.raw {
            Some(raw) => {
                for index in chunk.choices.iter().filter(|d| d.role).map(|d| d.index) {
                    // Some vendors repeat it with every piece.
                    if !self.told.contains(&index) {
                        self.told.push(index);
                    }
                }
                Some(self.raw(chunk, raw))
            }
            None => {
                let told = &mut self.told;
                let mut first = |index: u32| {
                    let first = !told.contains(&index);
                    if first {
                        told.push(index);
                    }
                    first
                };
                let object = wire::chunk(&self.stamp, chunk, &mut first);
                Some(self.object(object))
            }
        }
    }

    /// What the answer came to, as a comment: clients skip it, people and scripts find it before the end.
    pub(crate) fn comment(sum: &Sum) -> Bytes {
        let verdict = sum.verdict.as_str();
        let text = match sum.cost_known {
            true => format!(": turnout verdict={verdict} cost_usd={}\n\n", sum.cost),
            false => format!(": turnout verdict={verdict}\n\n"),
        };
        Bytes::from(text)
    }

    /// The clean end: explanation and usage where they were asked for, then `[DONE]`.
    pub(crate) fn done(&self, tail: &Tail) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(explain) = &tail.explain {
            let mut object = wire::bare_chunk(&self.stamp);
            object.insert("turnout".to_owned(), explain.clone());
            out.extend_from_slice(&self.object(object));
        }
        if self.include_usage {
            let mut object = wire::bare_chunk(&self.stamp);
            // What the vendor said of a single call goes out as it said it.
            let said = self.said.as_ref().filter(|_| tail.calls <= 1 && !tail.usage.estimated);
            let said =
                said.and_then(|json| serde_json::from_str(json).ok()).filter(|said| says(said, tail.usage));
            object.insert("usage".to_owned(), said.unwrap_or_else(|| tail.usage.to_wire()));
            out.extend_from_slice(&event(Value::Object(object).to_string().as_bytes()));
        }
        out.extend_from_slice(DONE);
        out.freeze()
    }

    /// A failure after the first byte: an error object, and no `[DONE]` after it.
    pub(crate) fn failed(failure: &Failure) -> Bytes {
        event(failure.body().to_string().as_bytes())
    }

    /// Every chunk of an answer bears the same id and time: the vendor's, once known.
    fn take_stamp(&mut self, chunk: &Chunk) {
        if self.stamped || chunk.id.is_empty() {
            return;
        }
        self.stamped = true;
        self.stamp.id.clone_from(&chunk.id);
        if chunk.created > 0 {
            self.stamp.created = chunk.created;
        }
    }

    fn object(&self, mut object: Map<String, Value>) -> Bytes {
        if self.include_usage {
            object.insert("usage".to_owned(), Value::Null);
        }
        event(Value::Object(object).to_string().as_bytes())
    }

    fn raw(&self, chunk: &Chunk, raw: &Bytes) -> Bytes {
        // Clients in typed languages take no chunk without these three, and some vendors leave them out.
        let unstamped = chunk.id.is_empty() || chunk.created <= 0 || !wire::CHUNK.is_said(raw);
        let mentions_usage = memchr::memmem::find(raw, b"\"usage\"").is_some();
        let one_line = memchr::memchr2(b'\n', b'\r', raw).is_none();
        if !mentions_usage
            && !self.include_usage
            && one_line
            && !unstamped
            && let Some(json) = with_model(raw, &chunk.model, &self.model)
        {
            return event(&json);
        }
        let usage = if self.include_usage { Some("null") } else { None };
        match Object::parse(raw) {
            Some(object) => {
                let stamped = unstamped.then(|| self.stamp.members(&wire::CHUNK));
                let mut changes = vec![("model", Some(self.model.as_str())), ("usage", usage)];
                changes.extend(stamped.iter().flatten().map(|(name, value)| (*name, Some(value.as_str()))));
                event(one_line_of(object.write(&changes)).as_bytes())
            }
            // The provider has parsed it already; what is no object cannot come here.
            None => event(one_line_of(String::from_utf8_lossy(raw).into_owned()).as_bytes()),
        }
    }
}

/// Whether a vendor's usage says what was counted of it.
fn says(said: &Value, counted: Usage) -> bool {
    let same = |place: &str, count: u32, needed: bool| match said.pointer(place) {
        None | Some(Value::Null) => !needed,
        Some(n) => n.as_u64() == Some(count.into()),
    };
    same("/prompt_tokens", counted.input, true)
        && same("/completion_tokens", counted.output, true)
        && same("/total_tokens", counted.input.saturating_add(counted.output), false)
        && same("/prompt_tokens_details/cached_tokens", counted.cached_input, false)
        && same("/completion_tokens_details/reasoning_tokens", counted.reasoning, false)
}

/// Line breaks between JSON tokens would end the `data:` line early; within strings they are escaped.
fn one_line_of(json: String) -> String {
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ") } else { json }
}

fn event(json: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(json.len().saturating_add(8));
    out.put_slice(b"data: ");
    out.put_slice(json);
    out.put_slice(b"\n\n");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::super::testing::head;
    use super::*;
    use serde_json::json;
    use types::completion::{Delta, FinishReason, ToolCallDelta};
    use types::{Usd, Verdict};

    fn tail(explain: Option<Value>) -> Tail {
        Tail {
            usage: Usage { input: 3, output: 2, ..Usage::default() },
            cost: Usd::ZERO,
            cost_known: true,
            verdict: Verdict::None,
            calls: 1,
            explain,
        }
    }

    fn raw(json: &str) -> Chunk {
        let value: Value = serde_json::from_str(json).unwrap();
        let choices = value["choices"].as_array().map_or(0, Vec::len);
        Chunk {
            id: "v1".into(),
            model: "vendor-m".into(),
            created: 7,
            choices: vec![Delta::default(); choices],
            usage: value["usage"].is_object().then(Usage::default),
            raw: Some(Bytes::from(json.to_owned())),
            ..Chunk::default()
        }
    }

    fn text(t: &str) -> Chunk {
        Chunk { choices: vec![Delta { text: Some(t.into()), ..Delta::default() }], ..Chunk::default() }
    }

    /// Runs chunks through an encoder; the stream's events, one a line, without `data: `.
    fn check(include_usage: bool, chunks: &[Chunk], tail: &Tail, want: &[&str]) {
        let mut e = Encoder::new(&head(), include_usage, 99);
        let mut all: Vec<u8> = Vec::new();
        for c in chunks {
            all.extend(e.chunk(c).unwrap_or_default());
        }
        all.extend(e.done(tail));
        let text = String::from_utf8(all).unwrap();
        let got: Vec<&str> =
            text.split_terminator("\n\n").map(|l| l.strip_prefix("data: ").unwrap()).collect();
        assert_eq!(got, want);
    }

    const USAGE: &str = r#"{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}"#;

    #[test]
    fn raw_chunks_go_out_as_they_came() {
        let a = r#"{"id":"v1", "object":"chat.completion.chunk","model":"vendor-m","choices":[{"index":0,"delta":{"role":"assistant"}}],"x":1.0}"#;
        check(false, &[raw(a)], &tail(None), &[&a.replace("vendor-m", "p/m"), "[DONE]"]);
        let spaced = r#"{"id":"v1","object":"chat.completion.chunk","model" : "vendor-m","choices":[{"delta":{}}],"x":1.0}"#;
        let want =
            r#"{"id":"v1","object":"chat.completion.chunk","model":"p/m","choices":[{"delta":{}}],"x":1.0}"#;
        check(false, &[raw(spaced)], &tail(None), &[want, "[DONE]"]);
    }

    #[test]
    fn chunks_without_id_kind_and_time_get_them() {
        let bare =
            Chunk { id: String::new(), created: 0, ..raw(r#"{"choices":[{"delta":{}}],"created":0}"#) };
        let want = r#"{"choices":[{"delta":{}}],"created":99,"model":"p/m","id":"chatcmpl-req_1","object":"chat.completion.chunk"}"#;
        check(false, &[bare], &tail(None), &[want, "[DONE]"]);
    }

    #[test]
    fn usage_is_stripped_unless_asked_for() {
        let with = r#"{"id":"v1","object":"chat.completion.chunk","model":"p/m","choices":[{"delta":{"content":"\"usage\""}}],"usage":{"total_tokens":9}}"#;
        let only = r#"{"id":"v1","choices":[],"usage":{"total_tokens":9}}"#;
        let without = r#"{"id":"v1","object":"chat.completion.chunk","model":"p/m","choices":[{"delta":{"content":"\"usage\""}}]}"#;
        check(false, &[raw(with), raw(only)], &tail(None), &[without, "[DONE]"]);
        let null = r#"{"id":"v1","object":"chat.completion.chunk","model":"p/m","choices":[{"delta":{"content":"\"usage\""}}],"usage":null}"#;
        let last = format!(
            r#"{{"id":"v1","object":"chat.completion.chunk","created":7,"model":"p/m","choices":[],"usage":{USAGE}}}"#
        );
        check(true, &[raw(with), raw(without), raw(only)], &tail(None), &[null, null, &last, "[DONE]"]);
    }

    proptest::proptest! {
        /// A stream tells what a whole answer tells, whatever else the vendor counts.
        #[test]
        fn usage_is_the_same_streamed_and_whole(input in 0_u32..9, output in 0_u32..9, text in 0_u32..9, extra: bool) {
            let mut usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
            if extra {
                usage["prompt_tokens_details"] = json!({"text_tokens": text, "image_tokens": 0, "cached_tokens": 0});
                usage["cost"] = json!(0.25);
            }
            let tail = Tail { usage: Usage { input, output, ..Usage::default() }, ..tail(None) };
            let object = json!({"id": "v1", "object": "chat.completion", "created": 7, "model": "vendor-m", "choices": [], "usage": usage});
            let whole = engine::Whole {
                head: head(),
                tail: tail.clone(),
                completion: types::Completion {
                    id: "v1".into(),
                    created: 7,
                    model: "vendor-m".into(),
                    raw: Some(Bytes::from(object.to_string())),
                    ..types::Completion::default()
                },
            };
            let whole: Value = serde_json::from_slice(&super::super::egress::body(&whole, 99)).unwrap();
            let mut e = Encoder::new(&head(), true, 99);
            assert!(e.chunk(&raw(&object.to_string())).is_none());
            let last = String::from_utf8(e.done(&tail).to_vec()).unwrap();
            let last: Value = serde_json::from_str(last.lines().next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!((&whole["usage"], &last["usage"]), (&usage, &usage));
            // What is a sum of several calls, or estimated, is counted here.
            for told in [Tail { calls: 2, ..tail.clone() }, Tail { usage: Usage { estimated: true, ..tail.usage }, ..tail }] {
                let last = String::from_utf8(e.done(&told).to_vec()).unwrap();
                assert!(!last.contains("\"cost\""), "{last}");
            }
        }
    }

    #[test]
    fn chunks_of_other_dialects_are_built_and_name_the_role_once() {
        let start = r#"{"id":"chatcmpl-req_1","object":"chat.completion.chunk","created":99,"model":"p/m","choices":[{"index":0,"delta":"#;
        let tool = Chunk {
            choices: vec![Delta {
                tool_calls: vec![ToolCallDelta {
                    index: 0,
                    id: Some("c1".into()),
                    name: Some("f".into()),
                    ..ToolCallDelta::default()
                }],
                ..Delta::default()
            }],
            ..Chunk::default()
        };
        let piece = Chunk {
            choices: vec![Delta {
                tool_calls: vec![ToolCallDelta { arguments: "{}".into(), ..ToolCallDelta::default() }],
                finish_reason: Some(FinishReason::ToolCalls),
                ..Delta::default()
            }],
            ..Chunk::default()
        };
        let end = r#","logprobs":null,"finish_reason":null}]}"#;
        let want = [
            format!(r#"{start}{{"role":"assistant","content":"Hi"}}{end}"#),
            format!(
                r#"{start}{{"tool_calls":[{{"index":0,"id":"c1","type":"function","function":{{"name":"f","arguments":""}}}}]}}{end}"#
            ),
            format!(
                r#"{start}{{"tool_calls":[{{"index":0,"function":{{"arguments":"{{}}"}}}}]}},"logprobs":null,"finish_reason":"tool_calls"}}]}}"#
            ),
            "[DONE]".to_owned(),
        ];
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check(false, &[text("Hi"), tool, piece], &tail(None), &want);
    }

    #[test]
    fn a_role_only_delta_is_kept() {
        let role = Chunk { choices: vec![Delta { role: true, ..Delta::default() }], ..Chunk::default() };
        let mut e = Encoder::new(&head(), false, 99);
        let got = String::from_utf8(e.chunk(&role).unwrap().to_vec()).unwrap();
        assert!(got.contains(r#""delta":{"role":"assistant","content":""}"#), "{got}");
        let next = String::from_utf8(e.chunk(&text("x")).unwrap().to_vec()).unwrap();
        assert!(next.contains(r#""delta":{"content":"x"}"#), "{next}");
    }

    #[test]
    fn the_explanation_rides_before_the_end() {
        let mut e = Encoder::new(&head(), true, 99);
        e.chunk(&text("x"));
        let got = String::from_utf8(e.done(&tail(Some(json!({"why": "best"})))).to_vec()).unwrap();
        let lines: Vec<&str> = got.split_terminator("\n\n").collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].contains(r#""choices":[],"turnout":{"why":"best"},"usage":null"#), "{got}");
        assert!(lines[1].contains(USAGE), "{got}");
        assert_eq!(lines[2], "data: [DONE]");
    }

    #[test]
    fn a_failure_is_an_error_object_and_no_end() {
        let f = Failure::new(http::StatusCode::BAD_GATEWAY, "stream_lost", "p/m failed: stream_lost");
        let got = String::from_utf8(Encoder::failed(&f).to_vec()).unwrap();
        assert!(
            got.starts_with(r#"data: {"error":{"message":"p/m failed"#) && !got.contains("DONE"),
            "{got}"
        );
    }

    #[test]
    fn an_event_over_several_lines_becomes_one() {
        let many = "{\"id\":\"v1\",\n\"choices\":[{\"delta\":{\n\"content\":\"a\\nb\"}}]}";
        let mut e = Encoder::new(&head(), false, 99);
        let got = String::from_utf8(e.chunk(&raw(many)).unwrap().to_vec()).unwrap();
        assert_eq!(got.matches('\n').count(), 2, "{got}");
        assert!(got.contains("a\\nb"));
    }
}
