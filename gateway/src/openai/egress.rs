//! A whole answer as bytes: the vendor's own with the members exchanged that must change, else built.

use super::object::{Object, with_model};
use super::wire::{self, Stamp};
use bytes::Bytes;
use engine::Whole;
use serde_json::Value;

/// The body of a whole answer. `now` is Unix time in seconds, for vendors that give none.
pub(crate) fn body(whole: &Whole, now: i64) -> Bytes {
    let (completion, tail) = (&whole.completion, &whole.tail);
    let Some(raw) = &completion.raw else { return built(whole, now) };
    // A string always serialises.
    let model = serde_json::to_string(&*whole.head.model).unwrap_or_default();
    // Clients in typed languages take no answer without these three, and some vendors leave them out.
    let unstamped = completion.id.is_empty() || completion.created <= 0 || !wire::COMPLETION.is_said(raw);
    // What the vendor said of a single call goes out as it said it.
    let said = tail.calls <= 1 && !tail.usage.estimated;
    if said
        && tail.explain.is_none()
        && !unstamped
        && let Some(json) = with_model(raw, &completion.model, &model)
    {
        return Bytes::from(json);
    }
    let Some(object) = Object::parse(raw) else { return built(whole, now) };
    let usage = (!said).then(|| tail.usage.to_wire().to_string());
    let explain = tail.explain.as_ref().map(Value::to_string);
    let stamped = unstamped.then(|| Stamp::of(whole, now).members(&wire::COMPLETION));
    let mut changes = vec![("model", Some(model.as_str()))];
    changes.extend(stamped.iter().flatten().map(|(name, value)| (*name, Some(value.as_str()))));
    if usage.is_some() {
        changes.push(("usage", usage.as_deref()));
    }
    if explain.is_some() {
        changes.push(("turnout", explain.as_deref()));
    }
    Bytes::from(object.write(&changes))
}

fn built(whole: &Whole, now: i64) -> Bytes {
    let mut object = wire::completion(&Stamp::of(whole, now), &whole.completion, whole.tail.usage);
    if let Some(explain) = &whole.tail.explain {
        object.insert("turnout".to_owned(), explain.clone());
    }
    Bytes::from(Value::Object(object).to_string())
}

impl Stamp {
    /// The vendor's id and time where it gave them, else ours.
    fn of(whole: &Whole, now: i64) -> Stamp {
        let c = &whole.completion;
        let own = || format!("chatcmpl-{}", whole.head.request_id);
        Stamp {
            id: if c.id.is_empty() { own() } else { c.id.clone() },
            created: if c.created > 0 { c.created } else { now },
            model: whole.head.model.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::head;
    use super::*;
    use engine::Tail;
    use serde_json::json;
    use types::chat::ToolCall;
    use types::completion::{Choice, FinishReason};
    use types::{Completion, Usage, Usd, Verdict};

    fn whole(raw: Option<&str>, calls: u32, explain: Option<Value>) -> Whole {
        Whole {
            head: head(),
            tail: Tail {
                usage: Usage { input: 10, output: 5, ..Usage::default() },
                cost: Usd::ZERO,
                cost_known: true,
                verdict: Verdict::Passed,
                calls,
                explain,
            },
            completion: Completion {
                id: if raw.is_some() { "x".into() } else { String::new() },
                created: if raw.is_some() { 5 } else { 0 },
                model: "vendor-m".into(),
                raw: raw.map(|r| Bytes::from(r.to_owned())),
                ..Completion::default()
            },
        }
    }

    #[test]
    fn the_vendors_bytes_change_only_where_they_must() {
        let raw = r#"{"id":"x", "object":"chat.completion", "model":"vendor-m","choices":[ ],"usage":{"total_tokens":3},"service_tier":"flex"}"#;
        assert_eq!(body(&whole(Some(raw), 1, None), 0), raw.replace("vendor-m", "p/m"));
        let bare: Value = serde_json::from_slice(&body(&whole(Some(r#"{"id":"x"}"#), 1, None), 0)).unwrap();
        assert_eq!(bare, json!({"id": "x", "object": "chat.completion", "created": 5, "model": "p/m"}));
        let mut unnamed = whole(Some(r#"{"created":0,"choices":[]}"#), 1, None);
        (unnamed.completion.id, unnamed.completion.created) = (String::new(), 0);
        let named: Value = serde_json::from_slice(&body(&unnamed, 99)).unwrap();
        let stamped = json!({"id": "chatcmpl-req_1", "object": "chat.completion", "created": 99, "model": "p/m", "choices": []});
        assert_eq!(named, stamped);
        let two = String::from_utf8(body(&whole(Some(raw), 2, None), 0).to_vec()).unwrap();
        let two: Value = serde_json::from_str(&two).unwrap();
        assert_eq!(
            (two["usage"]["total_tokens"].as_u64(), two["service_tier"].as_str()),
            (Some(15), Some("flex"))
        );
        let mut silent = whole(Some(r#"{"id":"x","choices":[]}"#), 1, None);
        silent.tail.usage.estimated = true;
        let told: Value = serde_json::from_slice(&body(&silent, 0)).unwrap();
        assert_eq!((&told["usage"]["total_tokens"], &told["usage"]["estimated"]), (&json!(15), &json!(true)));
        let why = body(&whole(Some(raw), 1, Some(json!({"why": "best"}))), 0);
        let why: Value = serde_json::from_slice(&why).unwrap();
        assert_eq!(
            (why["turnout"]["why"].as_str(), why["usage"]["total_tokens"].as_u64()),
            (Some("best"), Some(3))
        );
    }

    #[test]
    fn other_dialects_are_built() {
        let mut w = whole(None, 1, None);
        w.completion.choices = vec![
            Choice { text: "Hi".into(), finish_reason: Some(FinishReason::Stop), ..Choice::default() },
            Choice {
                index: 1,
                tool_calls: vec![ToolCall {
                    id: "c".into(),
                    name: "f".into(),
                    arguments: "{}".into(),
                    ..ToolCall::default()
                }],
                finish_reason: Some(FinishReason::ToolCalls),
                ..Choice::default()
            },
        ];
        let got: Value = serde_json::from_slice(&body(&w, 99)).unwrap();
        let want = json!({
            "id": "chatcmpl-req_1", "object": "chat.completion", "created": 99, "model": "p/m",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Hi", "refusal": null},
                 "logprobs": null, "finish_reason": "stop"},
                {"index": 1, "message": {"role": "assistant", "content": null, "refusal": null, "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                 "logprobs": null, "finish_reason": "tool_calls"},
            ],
            "usage": Usage { input: 10, output: 5, ..Usage::default() }.to_wire(),
        });
        assert_eq!(got, want);
    }
}
