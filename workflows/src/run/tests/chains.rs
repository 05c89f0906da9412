//! From where an answer flows to the client, and where something stands in its way.

use super::prose;
use super::streaming::flow;
use crate::testing::*;

fn says() -> Script {
    let pieces = || Says::Stream(vec![Some("An answer "), Some("that flows."), Some("")]);
    let first = || Says::Text(1, "an earlier answer");
    Script::new(vec![
        ("ask", vec![pieces()]),
        ("first", vec![first()]),
        ("other", vec![first()]),
        ("down", vec![Says::Fail(super::unavailable())]),
    ])
    .with_tools(vec![replies(serde_json::json!("looked"))])
}

/// How the answer reaches a client that streams.
async fn mode(nodes: &str, edges: &str) -> String {
    let w = workflow(&format!("nodes:\n{nodes}edges:\n{edges}"));
    let (got, _, mode) = flow(&w, prose(), &says()).await;
    // What is buffered comes with the ending.
    assert_eq!(got == "An answer that flows.", !mode.starts_with("buffered"), "{mode}: {got}");
    mode
}

const SINK: &str = "  - { id: answer, type: stream, from: nodes.ask.completion }\n";
const ASK: &str = "  - { id: ask, type: generate }\n";

#[tokio::test(start_paused = true)]
async fn an_answer_flows_once_all_before_it_has_resolved() {
    let set = "  - { id: before, type: set, values: { n: \"1\" } }\n";
    let got =
        mode(&format!("{set}{ASK}{SINK}"), "  - { from: before, to: ask }\n  - { from: ask, to: answer }\n")
            .await;
    assert!(got.starts_with("passthrough"), "{got}");
    let first = "  - { id: first, type: generate, route: { strategy: fixed } }\n";
    let got =
        mode(&format!("{first}{ASK}{SINK}"), "  - { from: first, to: ask }\n  - { from: ask, to: answer }\n")
            .await;
    assert!(got.starts_with("passthrough"), "{got}");
    let sorted = "  - { id: sort, type: classify, method: rules, labels: [easy, hard], rules: [{ when: flag, label: hard }] }\n";
    let other = "  - { id: other, type: generate, route: { strategy: fixed } }\n  - { id: plain, type: stream, from: nodes.other.completion }\n";
    let edges = "  - { from: sort, to: ask, outcome: hard }\n  - { from: sort, to: other, outcome: easy }\n  \
        - { from: ask, to: answer }\n  - { from: other, to: plain }\n";
    assert!(mode(&format!("{sorted}{ASK}{SINK}{other}"), edges).await.starts_with("passthrough"));
    // A condition of its own holds by then.
    let ask = ASK.replace(" }", ", when: flag }");
    let fail = "  - { id: no, type: fail, code: no, message: no }\n";
    let edges = "  - { from: before, to: ask }\n  - { from: ask, to: answer }\n  - { from: ask, to: no, outcome: skipped }\n";
    assert!(mode(&format!("{set}{ask}{SINK}{fail}"), edges).await.starts_with("passthrough"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_flows_through_values_that_are_set() {
    let set = "  - { id: after, type: set, values: { n: nodes.ask.ok_count } }\n";
    let got =
        mode(&format!("{ASK}{set}{SINK}"), "  - { from: ask, to: after }\n  - { from: after, to: answer }\n")
            .await;
    assert!(got.starts_with("passthrough"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_buffered_where_something_else_may_come_of_it() {
    // Something else is under way.
    let tool = "  - { id: get, type: tool, tool: send }\n";
    let both = "  - { id: begin, type: set, values: {} }\n";
    let edges = "  - { from: begin, to: [ask, get] }\n  - { from: ask, to: answer }\n";
    let got = mode(&format!("{both}{ASK}{tool}{SINK}"), edges).await;
    assert!(got.contains("something else runs beside the answer"), "{got}");
    // An earlier answer may be picked.
    let first = "  - { id: first, type: generate, route: { strategy: fixed } }\n";
    let pick = "  - { id: pick, type: select, method: fastest, from: [nodes.first.completion, nodes.ask.completion] }\n";
    let sink = SINK.replace("ask", "pick");
    let edges = "  - { from: first, to: ask }\n  - { from: ask, to: pick }\n  - { from: pick, to: answer }\n";
    let got = mode(&format!("{first}{ASK}{pick}{sink}"), edges).await;
    assert!(got.starts_with("buffered"), "{got}");
    // The checks look at another answer.
    let check = "  - { id: check, type: validate, input: nodes.first.completions, validators: [refusal] }\n";
    let edges = "  - { from: first, to: ask }\n  - { from: ask, to: check }\n  - { from: check, to: answer, outcome: completed }\n";
    let got = mode(&format!("{first}{ASK}{check}{SINK}"), edges).await;
    assert!(got.starts_with("buffered"), "{got}");
    // Another node waits for it too.
    let more = "  - { id: more, type: tool, tool: look, lint: { allow: [WF334] } }\n";
    let edges = "  - { from: first, to: [ask, more] }\n  - { from: ask, to: more, outcome: refused }\n  - { from: ask, to: answer }\n";
    let got = mode(&format!("{first}{ASK}{more}{SINK}"), edges).await;
    assert!(got.starts_with("buffered"), "{got}");
}

/// What stands in for an answer that failed unseen may flow in its turn.
#[tokio::test(start_paused = true)]
async fn an_answer_flows_in_the_place_of_one_that_failed() {
    let nodes = "  - { id: down, type: generate, route: { strategy: fixed } }\n  - { id: said, type: stream, from: nodes.down.completion }\n";
    let edges = "  - { from: down, to: said }\n  - { from: down, to: ask, outcome: [error, timeout] }\n  - { from: ask, to: answer }\n";
    let got = mode(&format!("{nodes}{ASK}{SINK}"), edges).await;
    assert!(got.starts_with("passthrough"), "{got}");
}

/// What a sink's own checks say of an answer that flowed stands in its verdict.
#[tokio::test(start_paused = true)]
async fn a_sinks_own_checks_are_in_the_verdict() {
    let sink =
        SINK.replace(" }", ", mode: windowed, window: { bytes: 1, overlap: 0 }, validators: [refusal] }");
    let w = workflow(&format!("nodes:\n{ASK}{sink}edges:\n  - {{ from: ask, to: answer }}\n"));
    let (_, ending, _) = flow(&w, prose(), &says()).await;
    assert!(matches!(ending, crate::Ending::Streamed { verdict: types::Verdict::Passed, .. }), "{ending:?}");
}
