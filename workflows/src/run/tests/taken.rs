//! Answers that no model gave as they are: texts out of other answers, results of tools, constants.

use super::prose;
use crate::testing::*;
use crate::{Ending, Workflow};
use serde_json::json;
use std::sync::Arc;

/// A model's answer, checks of `input`, and what came of them.
fn checking(input: &str, validators: &str) -> Arc<Workflow> {
    workflow(&format!(
        "\
vars: {{ greeting: Hello there }}
nodes:
  - {{ id: ask, type: generate }}
  - {{ id: check, type: validate, input: {input}, validators: {validators} }}
  - {{ id: answer, type: stream, from: nodes.check.best }}
edges:
  - {{ from: ask, to: check }}
  - {{ from: check, to: answer }}
"
    ))
}

async fn said(w: &Arc<Workflow>, answer: &'static str) -> String {
    let script = Script::new(vec![("ask", vec![Says::Text(1, answer)])]);
    text(&play(w, prose(), &script).await.0)
}

#[tokio::test(start_paused = true)]
async fn texts_and_data_are_checked_as_answers() {
    let short = "[{ use: length, with: { chars: { max: 5 } } }]";
    assert_eq!(said(&checking("nodes.ask.completion.text", short), "Rome").await, "Rome|passed");
    assert_eq!(said(&checking("nodes.ask.completion.text", short), "In Rome").await, "In Rome|failed");
    assert_eq!(said(&checking("vars.greeting", short), "Rome").await, "Hello there|failed");
    let city = "[{ use: json_schema, with: { schema: { type: object, required: [city] } } }]";
    let json = "{\"place\": {\"city\": \"Rome\"}}";
    assert_eq!(
        said(&checking("nodes.ask.completion.json.place", city), json).await,
        "{\"city\":\"Rome\"}|passed"
    );
    assert!(said(&checking("nodes.ask.completion.json", city), json).await.ends_with("|failed"));
    // Where there is nothing, nothing passes.
    let none = checking("nodes.ask.completion.json.nowhere", city);
    assert_eq!(said(&none, json).await, "validation.failed");
}

/// Who gave it, what it cost and what is found against it stay with the answer.
#[tokio::test(start_paused = true)]
async fn the_whole_text_of_an_answer_is_that_answer() {
    let w = checking("nodes.ask.completion.text", "[refusal]");
    let script = Script::new(vec![("ask", vec![Says::As("b", "Rome")])]);
    let Ending::Delivered { model, completion, .. } = play(&w, prose(), &script).await.0 else { panic!() };
    assert_eq!((&*model.id, completion.usage.output), ("p/b", 5));
}

/// An answer that is named twice, as itself and by its text, is one answer.
#[tokio::test(start_paused = true)]
async fn an_answer_and_its_text_are_one() {
    let joined = |input: &str| {
        workflow(&format!(
            "\
nodes:
  - {{ id: ask, type: generate }}
  - {{ id: check, type: validate, input: {input}, validators: [refusal] }}
  - {{ id: all, type: merge, from: [nodes.check.passing], separator: + }}
  - {{ id: answer, type: stream, from: nodes.all.completion }}
edges:
  - {{ from: ask, to: check }}
  - {{ from: check, to: all }}
  - {{ from: all, to: answer }}
"
        ))
    };
    for input in [
        "[nodes.ask.completion, nodes.ask.completion.text]",
        "[nodes.ask.completion.text, nodes.ask.completion]",
    ] {
        assert_eq!(said(&joined(input), "Rome").await, "Rome|none", "{input}");
    }
}

#[test]
fn text_out_of_an_answer_does_not_flow() {
    let chain = |input: &str| !checking(input, "[refusal]").chains.is_empty();
    assert!(chain("nodes.ask.completion"));
    assert!(!chain("nodes.ask.completion.text"), "its checks would look at another text");
    let from = |from: &str| {
        workflow(&format!(
            "nodes:\n  - {{ id: ask, type: generate }}\n  - {{ id: answer, type: stream, from: {from}, needs: ask }}\n"
        ))
    };
    assert!(!from("nodes.ask.completion").chains.is_empty());
    assert!(from("nodes.ask.completion.text").chains.is_empty(), "the client is told something else");
}

#[tokio::test(start_paused = true)]
async fn what_stands_against_an_answer_stands_against_its_text() {
    let whole = ("Rome", "key: sk-proj-4fj39fjDKs02mfkWls83jfLQpz71hgXB");
    let data = (r#"{"key":"Rome"}"#, r#"{"key":"sk-proj-4fj39fjDKs02mfkWls83jfLQpz71hgXB","x":1}"#);
    for (input, (good, bad)) in [
        ("nodes.safe.best.text", whole),
        ("nodes.safe.best.json.key", data),
        ("nodes.safe.best.json", data),
        ("nodes.safe.completions[0].json.key", data),
    ] {
        let w = workflow(&format!(
            "\
nodes:
  - {{ id: ask, type: generate }}
  - {{ id: safe, type: validate, input: nodes.ask.completion, validators: [secrets] }}
  - {{ id: check, type: validate, input: '{input}', validators: [refusal] }}
  - {{ id: answer, type: stream, from: nodes.check.best }}
edges:
  - {{ from: ask, to: safe }}
  - {{ from: safe, to: check }}
  - {{ from: check, to: answer }}
"
        ));
        assert!(said(&w, good).await.ends_with("|passed"), "{input}");
        let script = Script::new(vec![("ask", vec![Says::Text(1, bad)])]);
        let (ending, steps) = play(&w, prose(), &script).await;
        assert!(matches!(&ending, Ending::Failed(f) if f.code == "failed"), "{input}: {ending:?} {steps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_is_delivered() {
    let w = workflow(
        "vars: { greeting: Hello there }\nnodes: [{ id: sort, type: classify, labels: [a, b], rules: [] }, \
         { id: answer, type: stream, from: vars.greeting, needs: sort }]\n",
    );
    let (ending, _) = play(&w, prose(), &Script::new(vec![])).await;
    assert_eq!(text(&ending), "Hello there|none");
}

/// No model gave the text, so that none can be asked again.
#[tokio::test(start_paused = true)]
async fn a_text_is_repaired_by_any_model() {
    let w = workflow(
        "\
vars: { greeting: Hello there }
nodes:
  - { id: check, type: validate, input: vars.greeting, validators: [json] }
  - { id: fix, type: repair, from: check, strategies: [reprompt] }
  - { id: pick, type: select, from: [nodes.check.passing, nodes.fix.completion], method: first }
edges:
  - { from: check, to: pick, outcome: [passed, unverified] }
  - { from: check, to: fix, outcome: failed }
  - { from: fix, to: pick }
",
    );
    let script = Script::new(vec![("fix", vec![Says::Text(1, "{\"greeting\": \"Hello\"}")])]);
    let (ending, _) = play(&w, prose(), &script).await;
    assert_eq!(text(&ending), "{\"greeting\": \"Hello\"}|passed");
    let asked = script.asked.lock().unwrap();
    assert!(asked[0].route.is_open(), "{:?}", asked[0].route);
    let messages = asked[0].edits.messages.as_ref().unwrap();
    assert!(json!(messages).to_string().contains("Hello there"), "{messages:?}");
}
