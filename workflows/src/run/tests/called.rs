//! What reaches the client of an answer that may call tools, while it grows.

use super::streaming::{AT_ONCE, FORBIDDEN, body};
use crate::testing::*;
use crate::{Ending, Workflow};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc;
use types::completion::{Delta, FinishReason, ToolCallDelta};
use types::directives::Set;
use types::{ChatRequest, Chunk};

fn of(delta: Delta) -> Chunk {
    Chunk { choices: vec![delta], ..Chunk::default() }
}

fn said(text: &str) -> Chunk {
    of(Delta { text: Some(text.to_owned()), ..Delta::default() })
}

fn thought(text: &str) -> Chunk {
    of(Delta { reasoning: Some(text.to_owned()), ..Delta::default() })
}

/// The pieces of a call, its arguments in halves.
fn call(index: u32, name: &str, arguments: &str) -> Vec<Chunk> {
    let (one, two) = arguments.split_at(arguments.len() / 2);
    let piece = |first: bool, arguments: &str| {
        let name = first.then(|| name.to_owned());
        let id = first.then(|| format!("c{index}"));
        let call =
            ToolCallDelta { index, id, name, arguments: arguments.to_owned(), ..ToolCallDelta::default() };
        of(Delta { tool_calls: vec![call], ..Delta::default() })
    };
    vec![piece(true, one), piece(false, two)]
}

fn end(reason: FinishReason) -> Chunk {
    of(Delta { finish_reason: Some(reason), ..Delta::default() })
}

/// An answer: a beginning, calls behind it, and its end.
fn answer(before: Vec<Chunk>, calls: &[(&str, &str)]) -> Says {
    let calls = calls.iter().zip(0..).flat_map(|((name, arguments), i)| call(i, name, arguments));
    let reason = if calls.clone().next().is_some() { FinishReason::ToolCalls } else { FinishReason::Stop };
    Says::Chunks(before.into_iter().chain(calls).chain([end(reason)]).collect())
}

fn wanted(mut more: Value) -> Arc<ChatRequest> {
    more["tools"] = json!([{"type": "function", "function": {"name": "add", "parameters": {
        "type": "object", "required": ["a"], "properties": {"a": {"type": "number"}}}}}]);
    request(more)
}

/// A chunk as a client reads it: thoughts in brackets, text, names and arguments of calls, the end.
fn shown(chunk: &Chunk) -> String {
    let mut out = String::new();
    for d in &chunk.choices {
        out.extend(d.reasoning.iter().map(|t| format!("[{t}]")));
        out.extend(d.text.iter().cloned());
        for c in &d.tool_calls {
            out.extend(c.name.iter().map(|name| format!("<{}:{name}>", c.index)));
            out.push_str(&c.arguments);
        }
        out.extend(d.finish_reason.iter().map(|r| format!(" {}", r.as_str())));
    }
    out
}

/// What goes out of an answer, how its run ends, and the mode.
async fn flow(
    w: &Arc<Workflow>,
    request: Arc<ChatRequest>,
    demand: Value,
    script: &Script,
) -> (String, String, String) {
    let (tx, mut rx) = mpsc::channel(4);
    let mut input = input(request, Some(tx));
    input.extra_validators = vec![Set { value: demand, rule: "r".into() }];
    let trace = input.trace.clone();
    let drain = async {
        let mut got = String::new();
        while let Some(c) = rx.recv().await {
            got.push_str(&shown(&c));
        }
        got
    };
    let (ending, got) = tokio::join!(run(w, input, script), drain);
    let ended = match &ending {
        Ending::Delivered { .. } => format!("whole {}", text(&ending)),
        _ => text(&ending),
    };
    (got, ended, trace.take().stream_mode)
}

/// Streams one answer through a contract; what is asked after it is `add(1)`.
async fn check(more: Value, says: Says, want: (&str, &str)) {
    let w = workflow(&body("contract", "mode: auto", "reprompt"));
    let script = Script::new(vec![("ask", vec![says]), ("fix", vec![Says::Calls(&[("add", "{\"a\": 1}")])])]);
    let (got, ended, mode) = flow(&w, wanted(more), json!([]), &script).await;
    assert_eq!((&*got, &*ended), want, "{mode}");
    assert_eq!(mode, "windowed: `contract` holds back calls of tools alone");
}

#[tokio::test(start_paused = true)]
async fn text_flows_and_calls_wait_until_they_are_whole() {
    let good = [("add", "{\"a\": 1}"), ("add", "{\"a\": 2}")];
    let text = || vec![said("Let me "), said("add.")];
    check(json!({}), answer(text(), &[]), ("Let me add. stop", "Let me add.|none")).await;
    let both = "Let me add.<0:add>{\"a\": 1}<1:add>{\"a\": 2} tool_calls";
    check(json!({}), answer(text(), &good), (both, "Let me add.|passed")).await;
    let thoughts = answer(vec![thought("hm"), thought("so")], &good[..1]);
    check(json!({}), thoughts, ("[hm][so]<0:add>{\"a\": 1} tool_calls", "|passed")).await;
    // Blanks before a call are no words, and an answer of which nothing is shown may still be mended.
    check(json!({}), answer(vec![said("\n\n")], &good[..1]), ("", "whole \n\n|passed")).await;
    check(json!({}), answer(vec![said("\n")], &[("add", "{}")]), ("", "whole |passed")).await;
    check(json!({}), answer(vec![], &[("add", "{\"a\": ")]), ("", "whole |passed")).await;
    check(json!({}), answer(vec![], &[("sub", "{}")]), ("", "whole |passed")).await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail_never_leave() {
    for (more, calls) in [
        (json!({}), &[("add", "{}")][..]),
        (json!({}), &[("add", "{\"a\": ")]),
        (json!({}), &[("sub", "{\"a\": 1}")]),
        (json!({}), &[("add", "{\"a\": 1}"), ("add", "{\"a\": \"2\"}")]),
        (json!({"parallel_tool_calls": false}), &[("add", "{\"a\": 1}"), ("add", "{\"a\": 2}")]),
    ] {
        check(more, answer(vec![said("So: ")], calls), ("So: ", "validation.failed")).await;
    }
}

/// A call that has to be made is missed only at the end, when the text should not have been said either.
#[tokio::test(start_paused = true)]
async fn an_answer_that_must_call_waits_as_a_whole() {
    let w = workflow(&body("contract", "mode: auto", "reprompt"));
    let fix = || ("fix", vec![Says::Calls(&[("add", "{\"a\": 1}")])]);
    let script = Script::new(vec![("ask", vec![Says::Text(1, "No.")]), fix()]);
    let must = wanted(json!({"tool_choice": "required"}));
    let (got, ended, mode) = flow(&w, must, json!([]), &script).await;
    assert_eq!((&*got, &*ended), ("", "whole |passed"));
    assert_eq!(mode, "buffered: `contract` must see the whole answer");
}

/// Each check holds back what it has to see: text as far as one reads it, calls where another looks at them.
#[tokio::test(start_paused = true)]
async fn checks_of_text_and_of_calls_hold_their_own() {
    let good = [("add", "{\"a\": 1}")];
    let w = workflow(&body(&format!("contract, {FORBIDDEN}"), AT_ONCE, "reprompt"));
    let of = async |says: Says, want: (&str, &str)| {
        let script = Script::new(vec![("ask", vec![says])]);
        let (got, ended, mode) = flow(&w, wanted(json!({})), json!([]), &script).await;
        assert_eq!((&*got, &*ended), want, "{mode}");
        assert_eq!(mode, "windowed: `keywords` lets text go as it comes");
    };
    let long = "Some words that are fine, and then some more. ";
    let all = format!("{long}Last.<0:add>{{\"a\": 1}} tool_calls");
    of(answer(vec![said(long), said("Last.")], &good), (&all, &format!("{long}Last.|passed"))).await;
    let bad = answer(vec![said(long), said("Last.")], &[("add", "{}")]);
    of(bad, (&format!("{long}Last."), "validation.failed")).await;
    of(answer(vec![said(long), said("forbidden")], &good), (long, "validation.failed")).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_demands_of_calls_holds_in_every_mode() {
    let demand = || json!([{"use": "tool_args"}]);
    let bad = || answer(vec![said("So: ")], &[("add", "{}")]);
    for (stream, demanded, want) in [
        ("mode: passthrough", json!([]), ("So: <0:add>{} tool_calls", "So: |failed")),
        ("mode: passthrough", demand(), ("So: ", "validation.failed")),
        ("mode: optimistic", demand(), ("So: ", "validation.failed")),
        ("mode: auto, on_late_failure: annotate", json!([]), ("So: ", "validation.failed")),
    ] {
        let w = workflow(&body("contract", stream, "reprompt"));
        let script = Script::new(vec![("ask", vec![bad()])]);
        let (got, ended, mode) = flow(&w, wanted(json!({})), demanded, &script).await;
        assert_eq!((&*got, &*ended), want, "{stream}: {mode}");
    }
}

/// Calls that cannot be checked go where the workflow sends what is unverified.
#[tokio::test(start_paused = true)]
async fn calls_that_cannot_be_checked_go_the_way_of_what_is_unverified() {
    let odd = || request(json!({"tools": [{"type": "made_up"}]}));
    let sends = body("contract", "mode: auto", "reprompt");
    let keeps = sends
        .replace("outcome: [passed, unverified]", "outcome: passed")
        .replace("to: fix, outcome: failed", "to: fix, outcome: [failed, unverified]");
    for (w, want) in
        [(sends, ("So: <0:add>{} tool_calls", "So: |unverified")), (keeps, ("So: ", "validation.unverified"))]
    {
        let script = Script::new(vec![("ask", vec![answer(vec![said("So: ")], &[("add", "{}")])])]);
        let (got, ended, mode) = flow(&workflow(&w), odd(), json!([]), &script).await;
        assert_eq!((&*got, &*ended), want, "{mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn choices_that_grow_side_by_side_wait_for_the_first_call() {
    let beside = |index: u32, chunk: Chunk| {
        let choices = chunk.choices.into_iter().map(|d| Delta { index, ..d }).collect();
        Chunk { choices, ..chunk }
    };
    let mut chunks = vec![said("One."), beside(1, said("Two."))];
    chunks.extend(call(0, "add", "{\"a\": 1}"));
    chunks.extend([
        beside(1, said(" More.")),
        end(FinishReason::ToolCalls),
        beside(1, end(FinishReason::Stop)),
    ]);
    let want = ("One.Two.<0:add>{\"a\": 1} More. tool_calls stop", "One.|passed");
    check(json!({"n": 2}), Says::Chunks(chunks), want).await;
}
