//! Laws of the profile as a whole.

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
