//! The simulated models as a caller sees them: forms, failures, rates, times.

use super::*;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use types::axis::TaskFamily;
use types::chat::{ChatRequest, Message, Role};
use types::completion::{Accumulator, Completion, FinishReason};
use types::doc::SourceFile;
use types::provider::{Edits, ErrorKind};

/// A matrix with one model that behaves as the block says.
fn call_to(simulate: &str, body: &Value, id: usize) -> Call {
    let text = format!(
        "version: 1\nproviders:\n  s: {{ dialect: simulated, seed: 3 }}\nmodels:\n  s/m:\n    context_window: 9000\n    abilities: [streaming, tools]\n    simulate: {{ latency: {{ ttft: 100ms, sigma: 0.2, tokens_per_second: 100 }}, {simulate} }}\n"
    );
    let (matrix, problems) = crate::matrix::load(&[SourceFile::new("m.yaml", text)], &|_| None, None);
    assert!(problems.is_empty(), "{problems:?}");
    let request = Arc::new(ChatRequest::from_value(body).unwrap());
    Call {
        stream: request.stream,
        request,
        edits: Edits::default(),
        model: Arc::clone(&matrix.models()[0]),
        provider: Arc::clone(&matrix.providers()[0]),
        remaining: Duration::from_secs(300),
        id: format!("r1.{id}"),
        family: TaskFamily::Chat,
        sub_label: None,
        est_input: None,
    }
}

fn ask(extra: &Value) -> Value {
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "Why is the sky blue over Lisbon?"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

const SURE: &str = "success: { default: 1 }";
const NEVER: &str = "success: { default: 0 }";

async fn answer(call: Call) -> Result<Completion, Error> {
    match Simulated.call(call).await? {
        Reply::Whole(c) => Ok(c),
        Reply::Stream(mut chunks) => {
            let mut all = Accumulator::default();
            while let Some(chunk) = chunks.next().await {
                all.push(&chunk?);
            }
            Ok(all.finish())
        }
    }
}

fn weather() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7},
        "unit": {"enum": ["c", "f"]}}, "required": ["city", "days", "unit"], "additionalProperties": false})
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "sell", "description": "Sells shares.", "parameters": {"type": "object"}}},
           {"type": "function", "function": {"name": "weather", "description": "Tells how the sky of a city will be.", "parameters": weather()}}])
}

fn format_schema() -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "w", "schema": weather()}})
}

#[tokio::test(start_paused = true)]
async fn prose_is_about_the_question_and_says_what_it_is() {
    let good = answer(call_to(SURE, &ask(&json!({})), 1)).await.unwrap();
    assert!(
        good.text().starts_with(GOOD_MARK) && good.text().contains("sky blue over Lisbon"),
        "{}",
        good.text()
    );
    assert_eq!(good.finish_reason(), Some(&FinishReason::Stop));
    let wrong = answer(call_to(NEVER, &ask(&json!({})), 1)).await.unwrap();
    assert!(wrong.text().starts_with(WRONG_MARK), "{}", wrong.text());
    let raw: Value = serde_json::from_slice(good.raw.as_ref().unwrap()).unwrap();
    assert_eq!(raw["system_fingerprint"], FINGERPRINT);
    assert_eq!(raw["choices"][0]["message"]["content"], *good.choices[0].text);
    assert_eq!(raw["usage"]["prompt_tokens"], 8);
    assert_eq!(good.usage.output, good.text().len().div_ceil(4) as u32);
}

#[tokio::test(start_paused = true)]
async fn json_contracts_hold_on_success_and_break_on_failure() {
    for id in 0..50 {
        let object = ask(&json!({"response_format": {"type": "json_object"}}));
        let c = answer(call_to(SURE, &object, id)).await.unwrap();
        assert!(serde_json::from_str::<Value>(c.text()).unwrap().is_object());
        let c = answer(call_to(NEVER, &object, id)).await.unwrap();
        assert!(!serde_json::from_str::<Value>(c.text()).is_ok_and(|v| v.is_object()), "{}", c.text());

        let schema = ask(&json!({"response_format": format_schema()}));
        let c = answer(call_to(SURE, &schema, id)).await.unwrap();
        assert!(jsonschema::is_valid(&weather(), &serde_json::from_str(c.text()).unwrap()), "{}", c.text());
        let c = answer(call_to("success: { default: 1 }, failures: { broken_json: 1 }", &schema, id))
            .await
            .unwrap();
        assert!(serde_json::from_str::<Value>(c.text()).is_err(), "{}", c.text());
        let c = answer(call_to("success: { default: 1 }, failures: { wrong_schema: 1 }", &schema, id))
            .await
            .unwrap();
        assert!(!jsonschema::is_valid(&weather(), &serde_json::from_str(c.text()).unwrap()), "{}", c.text());
    }
}

#[tokio::test(start_paused = true)]
async fn tools_are_called_when_they_must_be_or_when_it_is_that_kind_of_work() {
    let called = |call: Call| async { answer(call).await.unwrap() };
    for stream in [false, true] {
        let c = called(call_to(
            SURE,
            &ask(&json!({"tools": tools(), "tool_choice": "required", "stream": stream})),
            1,
        ))
        .await;
        let made = &c.tool_calls()[0];
        assert_eq!((made.name.as_str(), c.finish_reason()), ("weather", Some(&FinishReason::ToolCalls)));
        assert!(
            jsonschema::is_valid(&weather(), &serde_json::from_str(&made.arguments).unwrap()),
            "{made:?}"
        );
    }
    let named =
        ask(&json!({"tools": tools(), "tool_choice": {"type": "function", "function": {"name": "sell"}}}));
    assert_eq!(called(call_to(SURE, &named, 1)).await.tool_calls()[0].name, "sell");

    let offered = ask(&json!({"tools": tools()}));
    assert!(called(call_to(SURE, &offered, 1)).await.tool_calls().is_empty(), "chat calls no tools");
    let work = Call { family: TaskFamily::ToolUse, ..call_to(SURE, &offered, 1) };
    assert_eq!(called(work.clone()).await.tool_calls()[0].name, "weather");
    let edits = Edits { without_tools: true, ..Edits::default() };
    assert!(called(Call { edits, ..work.clone() }).await.tool_calls().is_empty());
    let mut said = work.request.messages.clone();
    said.push(Message::text(Role::Tool, "sunny"));
    let edits = Edits { messages: Some(said), ..Edits::default() };
    assert!(
        called(Call { edits, ..work }).await.tool_calls().is_empty(),
        "the result is there: time to answer"
    );
}

#[tokio::test(start_paused = true)]
async fn limits_of_the_request_are_kept() {
    let c = answer(call_to(SURE, &ask(&json!({"max_tokens": 5})), 1)).await.unwrap();
    assert_eq!((c.finish_reason(), c.usage.output), (Some(&FinishReason::Length), 5));
    let c = answer(call_to(SURE, &ask(&json!({"stop": ["asked", "zzz"]})), 1)).await.unwrap();
    assert!(c.text().ends_with("You ") && c.finish_reason() == Some(&FinishReason::Stop), "{}", c.text());
    let c = answer(call_to(SURE, &ask(&json!({"n": 3})), 1)).await.unwrap();
    assert_eq!(c.choices.iter().map(|c| c.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_ne!(c.choices[0].text, c.choices[1].text);
}

#[tokio::test(start_paused = true)]
async fn a_stream_says_the_same_as_the_whole() {
    for extra in [
        json!({}),
        json!({"n": 2}),
        json!({"response_format": format_schema()}),
        json!({"tools": tools(), "tool_choice": "required"}),
    ] {
        let whole = call_to(SURE, &ask(&extra), 1);
        let streamed = Call { stream: true, ..whole.clone() };
        let (whole, streamed) = (answer(whole).await.unwrap(), answer(streamed).await.unwrap());
        assert_eq!((&whole.choices, whole.usage), (&streamed.choices, streamed.usage));
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_have_the_form_clients_expect() {
    let call = Call {
        stream: true,
        ..call_to(SURE, &ask(&json!({"tools": tools(), "tool_choice": "required"})), 1)
    };
    let Reply::Stream(chunks) = Simulated.call(call).await.unwrap() else { panic!("a stream") };
    let raw: Vec<Value> =
        chunks.map(|c| serde_json::from_slice(&c.unwrap().raw.unwrap()).unwrap()).collect().await;
    assert_eq!(raw[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let first = &raw[1]["choices"][0]["delta"]["tool_calls"][0];
    assert_eq!(
        (&first["index"], &first["type"], &first["function"]["name"]),
        (&json!(0), &json!("function"), &json!("weather"))
    );
    assert!(raw[2]["choices"][0]["delta"]["tool_calls"][0].get("id").is_none());
    assert_eq!(raw[raw.len() - 2]["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(raw[raw.len() - 1]["choices"], json!([]));
    assert!(
        raw.iter().all(|r| r["system_fingerprint"] == FINGERPRINT && r["object"] == "chat.completion.chunk")
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_call_gives_the_same_answer_after_the_same_time() {
    let half =
        "success: { default: 0.5 }, failures: { refuse: 0.1, truncate: 0.1, http_429: 0.1, cut_stream: 0.1 }";
    let mut texts = std::collections::HashSet::new();
    for id in 0..40 {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let start = tokio::time::Instant::now();
            let got = answer(call_to(half, &ask(&json!({})), id)).await;
            seen.push((got, start.elapsed()));
        }
        assert_eq!(seen[0], seen[1]);
        texts.insert(format!("{:?}", seen[0].0.as_ref().map(Completion::text)));
    }
    assert!(texts.len() > 20, "attempts differ: {}", texts.len());
}

/// Share of `draws` calls for which `is` holds.
async fn rate(simulate: &str, body: &Value, is: impl Fn(&Result<Completion, Error>) -> bool) -> f64 {
    let call = call_to(simulate, body, 0);
    let draws = 2_000;
    let mut hits = 0;
    for id in 0..draws {
        hits += i32::from(is(&answer(Call { id: format!("q{id}"), ..call.clone() }).await));
    }
    f64::from(hits) / f64::from(draws)
}

/// Within three and a half standard deviations of 2 000 draws.
fn near(got: f64, stated: f64) {
    let sd = (stated * (1.0 - stated) / 2_000.0).sqrt();
    assert!((got - stated).abs() <= 3.5 * sd, "{got} is not near {stated}");
}

#[tokio::test(start_paused = true)]
async fn rates_are_those_stated() {
    let good = |r: &Result<Completion, Error>| r.as_ref().is_ok_and(|c| c.text().starts_with(GOOD_MARK));
    near(rate("success: { default: 0.2, chat: 0.7 }", &ask(&json!({})), good).await, 0.7);
    near(rate("success: { default: 0.2, coding: 0.7 }", &ask(&json!({})), good).await, 0.2);
    let modes = "success: { default: 1 }, failures: { broken_json: 0.3, http_429: 0.1, http_500: 0.05, refuse: 0.2, connect_error: 0.1 }";
    let kind = |k: ErrorKind| move |r: &Result<Completion, Error>| r.as_ref().is_err_and(|e| e.kind == k);
    let body = ask(&json!({"response_format": format_schema()}));
    near(rate(modes, &body, kind(ErrorKind::RateLimited)).await, 0.1);
    near(rate(modes, &body, kind(ErrorKind::Unavailable)).await, 0.05);
    near(rate(modes, &body, kind(ErrorKind::Connect)).await, 0.1);
    near(rate(modes, &body, |r| r.as_ref().is_ok_and(Completion::refused)).await, 0.2);
    let broken = |r: &Result<Completion, Error>| {
        r.as_ref().is_ok_and(|c| !c.refused() && serde_json::from_str::<Value>(c.text()).is_err())
    };
    near(rate(modes, &body, broken).await, 0.3);
    // JSON cannot break where none is asked for.
    near(rate(modes, &ask(&json!({})), good).await, 0.55);
}

#[tokio::test(start_paused = true)]
async fn failures_have_their_form() {
    let failing = |mode: &str, stream: bool| {
        let call =
            call_to(&format!("success: {{ default: 1 }}, failures: {{ {mode}: 1 }}"), &ask(&json!({})), 1);
        answer(Call { stream, ..call })
    };
    for stream in [false, true] {
        let e = failing("http_429", stream).await.unwrap_err();
        assert_eq!((e.kind, e.status), (ErrorKind::RateLimited, Some(429)));
        assert!(e.retry_after.is_some_and(|d| (1..=3).contains(&d.as_secs())));
        assert_eq!(failing("cut_stream", stream).await.unwrap_err().kind, ErrorKind::StreamLost);
        let stalled = failing("stall", stream).await.unwrap_err().kind;
        assert!(
            matches!(stalled, ErrorKind::FirstTokenTimeout | ErrorKind::InterTokenTimeout),
            "{stalled:?}"
        );
        let cut = failing("truncate", stream).await.unwrap();
        assert_eq!(cut.finish_reason(), Some(&FinishReason::Length));
        assert!(failing("refuse", stream).await.unwrap().refused());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_shows_something_and_never_an_end() {
    let call =
        call_to("success: { default: 1 }, failures: { cut_stream: 1 }", &ask(&json!({"stream": true})), 1);
    let Reply::Stream(mut chunks) = Simulated.call(call).await.unwrap() else { panic!("a stream") };
    let (mut content, mut end) = (false, None);
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(c) => {
                content |= c.has_content();
                assert!(c.choices.iter().all(|d| d.finish_reason.is_none()));
            }
            Err(e) => end = Some(e.kind),
        }
    }
    assert_eq!((content, end), (true, Some(ErrorKind::StreamLost)));
}

#[tokio::test(start_paused = true)]
async fn time_is_drawn_around_the_median_and_ends_with_the_deadline() {
    let mut below = 0;
    for id in 0..400 {
        let start = tokio::time::Instant::now();
        let call = Call { stream: true, ..call_to(SURE, &ask(&json!({})), id) };
        let _first = Simulated.call(call).await.unwrap();
        below += i32::from(start.elapsed() < Duration::from_millis(101));
    }
    assert!((160..=240).contains(&below), "{below} of 400 are below the median");
    for stream in [false, true] {
        let start = tokio::time::Instant::now();
        let remaining = Duration::from_millis(150);
        let e = answer(Call { remaining, stream, ..call_to(SURE, &ask(&json!({})), 1) }).await.unwrap_err();
        assert_eq!(e.kind, ErrorKind::TotalTimeout);
        assert!(start.elapsed() <= Duration::from_millis(155), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn reasoning_is_counted_and_fits_the_limit() {
    let mut call = call_to(SURE, &ask(&json!({"max_tokens": 100})), 1);
    let mut model = (*call.model).clone();
    model.abilities.reasoning = true;
    call.model = Arc::new(model);
    let c = answer(call).await.unwrap();
    assert_eq!(c.usage.reasoning, 50);
    assert!(c.usage.output > 50 && c.usage.output <= 100, "{:?}", c.usage);
}
