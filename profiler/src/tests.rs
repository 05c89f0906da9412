//! Laws of the profile as a whole.

mod languages;

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use types::axis::{AxisValue, TaskFamily};
use types::profile::Scored;

fn parse(body: &Value) -> ChatRequest {
    ChatRequest::from_value(body).expect("a valid request")
}

fn lawful<V: AxisValue>(s: &Scored<V>) {
    let sum: f32 = s.scores.iter().sum();
    assert!((sum - 1.0).abs() < 1e-4, "{:?}: scores sum to {sum}", V::AXIS);
    assert!(s.scores.iter().all(|x| (0.0..=1.0).contains(x)), "{s:?}");
    assert!((0.0..=1.0).contains(&s.confidence), "{s:?}");
    assert!((s.scores[s.value.index()] - s.confidence).abs() < 1e-6, "the confidence is the winner's score");
    assert!(s.scores.iter().all(|x| *x <= s.confidence), "the value has the greatest score");
}

fn check(body: &Value) -> WorkloadProfile {
    let request = parse(body);
    let p = profile(&request);
    assert_eq!(p, profile(&request), "pure");
    lawful(&p.task_family);
    lawful(&p.required_depth);
    lawful(&p.precision_sensitivity);
    lawful(&p.latency_class);
    lawful(&p.context_topology);
    lawful(&p.tool_dependence);
    lawful(&p.determinism_needs);
    lawful(&p.safety_posture);
    lawful(&p.output_contract);
    lawful(&p.economic_policy);
    assert_eq!(p.confidence, p.task_family.confidence);
    assert!(p.facts.est_output_tokens >= 1);
    p
}

/// Text of words that cues are made of, signs, scripts, and noise.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("write".to_owned()),
        Just("```".to_owned()),
        Just("\n".to_owned()),
        Just("[1] ".to_owned()),
        Just("Context:".to_owned()),
        Just("999999999999 words".to_owned()),
        Just("请写诗".to_owned()),
        Just("напиши".to_owned()),
        Just("\u{301}🎉".to_owned()),
        Just("{\"a\":".to_owned()),
        ".{0,12}",
        "[\\p{Any}]{0,6}",
    ];
    proptest::collection::vec(word, 0..40).prop_map(|w| w.join(" "))
}

fn content() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => text().prop_map(|t| json!([{"type": "text", "text": t}, {"type": "image_url", "image_url": {"url": "data:,"}}])),
        1 => Just(json!([{"type": "input_audio", "input_audio": {}}])),
    ]
}

fn message() -> impl Strategy<Value = Value> {
    let role = proptest::sample::select(vec!["system", "developer", "user", "assistant", "tool", "function"]);
    (role, content(), any::<bool>()).prop_map(|(role, content, call)| {
        let mut m = json!({"role": role, "content": content});
        if call && role == "assistant" {
            m["tool_calls"] =
                json!([{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}]);
        }
        m
    })
}

fn body() -> impl Strategy<Value = Value> {
    let extra = proptest::sample::subsequence(
        vec![
            ("tools", json!([{"type": "function", "function": {"name": "f"}}, {"type": "web_search"}])),
            ("tool_choice", json!("required")),
            ("response_format", json!({"type": "json_schema", "json_schema": {"schema": true}})),
            ("temperature", json!(0)),
            ("seed", json!(-3)),
            ("stream", json!(true)),
            ("service_tier", json!("flex")),
            ("reasoning_effort", json!("high")),
            ("max_tokens", json!(1)),
        ],
        0..=9,
    );
    (proptest::collection::vec(message(), 1..12), extra).prop_map(|(messages, extra)| {
        let mut body = json!({"model": "auto", "messages": messages});
        for (key, value) in extra {
            body[key] = value;
        }
        if body["tools"].is_null()
            && let Some(members) = body.as_object_mut()
        {
            // What is demanded must be offered.
            members.remove("tool_choice");
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(2), ..ProptestConfig::default() })]

    #[test]
    fn every_request_gets_a_lawful_profile(body in body()) {
        check(&body);
    }

    #[test]
    fn explicit_options_always_win(body in body(), pick in 0_usize..1_000) {
        let at = |names: &[&'static str]| names[pick % names.len()];
        let mut body = body;
        let (family, precision) = (at(TaskFamily::NAMES), at(&["low", "medium", "high"]));
        let (latency, safety) = (at(&["interactive", "async", "batch"]), at(&["permissive", "standard", "locked_down"]));
        let (determinism, economy) = (at(&["low", "replayable", "strict"]), at(&["cheapest", "balanced", "best_possible"]));
        body["routing"] = json!({"task_family": family, "precision": precision, "latency_class": latency,
            "safety": safety, "determinism": determinism, "economy": economy});
        body["model"] = json!("auto:best");
        let p = check(&body);
        prop_assert_eq!(p.task_family.value.as_str(), family);
        prop_assert_eq!(p.precision_sensitivity.value.as_str(), precision);
        prop_assert_eq!(p.latency_class.value.as_str(), latency);
        prop_assert_eq!(p.safety_posture.value.as_str(), safety);
        prop_assert_eq!(p.determinism_needs.value.as_str(), determinism);
        prop_assert_eq!(p.economic_policy.value.as_str(), economy);
        prop_assert!(p.task_family.explicit && p.economic_policy.explicit && p.safety_posture.explicit);
        prop_assert_eq!(p.confidence, 1.0);
    }

    #[test]
    fn more_text_is_never_fewer_tokens(a in text(), b in text()) {
        let tokens = |t: &str| profile(&parse(&json!({"model": "auto", "messages": [{"role": "user", "content": t}]}))).facts.est_input_tokens;
        let both = format!("{a}{b}");
        prop_assert!(tokens(&both) >= tokens(&a));
    }
}

#[test]
fn very_long_and_very_short_texts_are_profiled() {
    for text in ["", " ", "?", "a", "\n\n\n", "```", "🎉"] {
        let p = check(&json!({"model": "auto", "messages": [{"role": "user", "content": text}]}));
        assert_eq!(p.task_family.value, TaskFamily::Chat, "{text:?}");
        assert!(p.confidence < 0.8, "{text:?}: nothing to be sure of, yet {}", p.confidence);
    }
    for piece in ["word ", "汉字", "{\"a\": 1}\n", "a", "```\n"] {
        let p = check(
            &json!({"model": "auto", "messages": [{"role": "user", "content": piece.repeat(400_000 / piece.len())}]}),
        );
        assert!(p.facts.est_input_tokens > 50_000, "{piece:?}");
    }
}

#[test]
fn the_profile_serialises_with_all_axes() {
    let p = check(&json!({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}));
    let v = serde_json::to_value(&p).expect("serialises");
    for axis in types::Axis::ALL {
        assert!(v.get(axis.as_str()).is_some(), "{}", axis.as_str());
    }
}

/// A conversation and the same with one more tool result at its end.
fn with_result(body: &Value) -> Value {
    let mut more = body.clone();
    if let Some(messages) = more["messages"].as_array_mut() {
        messages.push(
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "z", "type": "function",
            "function": {"name": "f", "arguments": "{}"}}]}),
        );
        messages.push(json!({"role": "tool", "tool_call_id": "z", "content": "{\"ok\": true}"}));
    }
    more
}

fn family_score(body: &Value, families: &[TaskFamily]) -> f32 {
    let p = profile(&parse(body));
    families.iter().map(|f| p.task_family.scores[f.index()]).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(3), ..ProptestConfig::default() })]

    #[test]
    fn a_tool_result_never_makes_an_agent_loop_less_likely(body in body()) {
        // Without any text to ask, the result itself would become the text.
        let mut body = body;
        body["messages"].as_array_mut().expect("messages").push(json!({"role": "user", "content": "And now?"}));
        let (before, after) = (family_score(&body, &[TaskFamily::AgentLoop]), family_score(&with_result(&body), &[TaskFamily::AgentLoop]));
        prop_assert!(after >= before - 1e-4, "{before} -> {after}");
    }

    #[test]
    fn an_offered_tool_never_makes_the_use_of_tools_less_likely(body in body()) {
        let mut body = body;
        body.as_object_mut().expect("an object").remove("tools");
        body["tool_choice"] = json!("auto");
        body["messages"].as_array_mut().expect("messages").push(json!({"role": "user", "content": "And now?"}));
        let uses = [TaskFamily::ToolUse, TaskFamily::AgentLoop];
        let mut last = family_score(&body, &uses);
        for n in 1..4_usize {
            body["tools"] = (0..n).map(|i| json!({"type": "function", "function": {"name": format!("f{i}")}})).collect();
            let next = family_score(&body, &uses);
            prop_assert!(next >= last - 1e-4, "{n} tools: {last} -> {next}");
            last = next;
        }
    }

    #[test]
    fn a_long_text_is_profiled_by_its_edges(filler in "[a-z ]{1,40}", times in 800_usize..3_000) {
        let text = format!("Translate the following text into French, please.\n\n{}", filler.repeat(times));
        let p = profile(&parse(&json!({"model": "auto", "messages": [{"role": "user", "content": text}]})));
        prop_assert!(p.task_family.scores.iter().all(|s| s.is_finite()));
    }
}

/// All ten axes of a few requests: what moves one of them shows here.
#[test]
fn golden_axes() {
    let tool =
        json!({"type": "function", "function": {"name": "book_table", "parameters": {"type": "object"}}});
    let schema = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}});
    let user = |t: &str| json!([{"role": "user", "content": t}]);
    for (body, expected) in [
        (
            json!({"messages": user("Hi, how are you today?"), "stream": true}),
            "chat shallow low interactive short none low standard prose balanced",
        ),
        (
            json!({"messages": user("Book a table for two at eight."), "tools": [tool]}),
            "tool_use shallow medium interactive short optional low standard tool_calls balanced",
        ),
        (
            json!({"messages": user("Ms. Ito, 34, arrives on 5 June."), "response_format": schema, "temperature": 0, "seed": 1}),
            "extraction shallow high async short none strict standard schema balanced",
        ),
        (
            json!({"messages": user("Prove that the sum of two odd numbers is even, step by step."), "routing": {"economy": "best_possible"}}),
            "chat deep high interactive short none low standard prose best_possible",
        ),
        (
            json!({"messages": user("Fix the bug in this function:\n```python\ndef f(x):\n    return x +\n```"), "service_tier": "flex"}),
            "coding medium medium batch short none low standard code_patch balanced",
        ),
        (
            json!({"messages": [{"role": "user", "content": "Find the cheapest flight."}, {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "search", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "c", "content": "[{\"price\": 80}]"}], "tools": [tool]}),
            "agent_loop medium medium async structured optional low standard prose balanced",
        ),
    ] {
        let mut body = body;
        body["model"] = json!("auto");
        let p = check(&body);
        let values: Vec<&str> = p.axes().iter().map(|(_, value, _)| *value).collect();
        assert_eq!(values.join(" "), expected, "{body}");
    }
}
