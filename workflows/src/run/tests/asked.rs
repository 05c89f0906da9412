//! What models are asked with, and what is known of their answers.

use super::prose;
use crate::Ending;
use crate::node::stream::Stream;
use crate::testing::*;
use crate::world::{Ask, Served};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use types::ChatRequest;
use types::chat::{ResponseFormat, Role, ToolChoice};
use types::provider::{Enforce, Sampling};

/// A node of these keys under a workflow of these: what it asks, and how the run ends.
async fn asked(top: &str, keys: &str, request: Arc<ChatRequest>) -> (Option<Ask>, Ending) {
    let body =
        format!("{top}nodes:\n  - {{ id: ask, type: generate, {keys} }}\noutput: nodes.ask.completion\n");
    let script = Script::new(vec![("ask", vec![Says::Text(1, "x")])]);
    let (ending, _) = play(&workflow(&body), request, &script).await;
    let asked = script.asked.lock().unwrap().first().cloned();
    (asked, ending)
}

/// Code of the first problem of a node of these keys, and the member it is about.
fn refused(keys: &str) -> (String, String) {
    let body = format!("nodes:\n  - {{ id: ask, type: generate, {keys} }}\noutput: nodes.ask.completion\n");
    let (_, problems) = load_all(&[file(&body)]);
    problems.first().map(|d| (d.code.clone(), d.field.clone())).unwrap_or_default()
}

fn tools(choice: &Value) -> Arc<ChatRequest> {
    let function = json!({"name": "f", "parameters": {"type": "object"}});
    request(json!({"tools": [{"type": "function", "function": function}], "tool_choice": choice}))
}

#[tokio::test(start_paused = true)]
async fn parameters_of_a_node_stand_in_the_place_of_the_requests() {
    let keys = "params: { stop: [END, \"\\n\"], presence_penalty: 0.5, frequency_penalty: -2, reasoning_effort: \
                low, logprobs: true }";
    let (ask, _) = asked("", keys, prose()).await;
    let edits = ask.unwrap().edits;
    assert_eq!(edits.stop, Some(vec!["END".to_owned(), "\n".to_owned()]));
    assert_eq!((edits.presence_penalty, edits.frequency_penalty), (Some(0.5), Some(-2.0)));
    assert_eq!((edits.reasoning_effort.as_deref(), edits.logprobs), (Some("low"), Some(true)));
    let (ask, _) = asked("", "params: { stop: one }", prose()).await;
    assert_eq!(ask.unwrap().edits.stop, Some(vec!["one".to_owned()]));
    for (keys, field) in [
        ("params: { stop: [a, b, c, d, e] }", "nodes[0].params.stop"),
        ("params: { stop: [\"\"] }", "nodes[0].params.stop"),
        ("params: { presence_penalty: 3 }", "nodes[0].params.presence_penalty"),
        ("params: { reasoning_effort: most }", "nodes[0].params.reasoning_effort"),
    ] {
        let (code, at) = refused(keys);
        assert!(code == "WF104" && field.ends_with(&at) && !at.is_empty(), "{keys}: {code} {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn code_is_asked_for_in_words() {
    let keys = "response: { format: code, languages: [python, rust] }, messages: { system: Be brief. }";
    let wanted = request(json!({"response_format": {"type": "json_object"}}));
    let (ask, _) = asked("", keys, wanted).await;
    let edits = ask.unwrap().edits;
    assert_eq!(edits.response_format, Some(ResponseFormat::Text), "code is no JSON");
    let said: Vec<String> = edits.messages.unwrap().iter().map(|m| m.content.text().into_owned()).collect();
    assert!(said[0] == "Be brief." && said[1].contains("one of python, rust") && said.len() == 3, "{said:?}");
    let (ask, _) = asked("", "response: { format: code, languages: auto }", prose()).await;
    let messages = ask.unwrap().edits.messages.unwrap();
    assert!(messages[0].role == Role::System && messages[0].content.text().contains("name of its language"));
}

#[tokio::test(start_paused = true)]
async fn calls_of_tools_are_demanded_where_there_are_tools() {
    let keys = "response: { format: tool_calls }";
    let choice = async |keys: &str, request| asked("", keys, request).await.0.unwrap().edits.tool_choice;
    assert_eq!(choice(keys, tools(&json!("auto"))).await, Some(ToolChoice::Required));
    let named = json!({"type": "function", "function": {"name": "f"}});
    assert_eq!(choice(keys, tools(&named)).await, Some(ToolChoice::Function("f".to_owned())));
    let own = "response: { format: tool_calls }, tools: [look]";
    assert_eq!(choice(own, prose()).await, Some(ToolChoice::Required));
    // In words, nobody is forced.
    let told = asked("", "response: { format: tool_calls, enforce: prompt }", tools(&json!("auto"))).await;
    let edits = told.0.unwrap().edits;
    assert!(edits.tool_choice.is_none() && edits.messages.unwrap()[0].content.text().contains("calling one"));
    // Without any, nobody is asked.
    for request in [prose(), tools(&json!("none"))] {
        let (ask, ending) = asked("", keys, request).await;
        let Ending::Failed(f) = ending else { panic!("{ending:?}") };
        assert_eq!((f.class, f.code.as_str(), ask.is_none()), (crate::Class::Request, "invalid", true));
    }
    assert_eq!(refused("response: { format: tool_calls }, tools: none").0, "WF104");
}

#[tokio::test(start_paused = true)]
async fn how_a_model_is_held_to_a_form_goes_with_the_question() {
    for (way, want) in [
        ("auto", Enforce::Auto),
        ("strict", Enforce::Strict),
        ("json_mode", Enforce::JsonMode),
        ("prompt", Enforce::Prompt),
    ] {
        let keys = format!("response: {{ format: json, enforce: {way} }}");
        assert_eq!(asked("", &keys, prose()).await.0.unwrap().edits.enforce, want);
        let inherited = format!("response: {{ enforce: {way} }}");
        assert_eq!(asked("", &inherited, prose()).await.0.unwrap().edits.enforce, want);
    }
    for keys in [
        "response: { format: text, enforce: strict }",
        "response: { format: code, enforce: json_mode }",
        "response: { format: tool_calls, enforce: json_mode }",
        "response: { format: json, schema: { type: object } }",
        "response: { format: json, languages: [rust] }",
        "response: { format: code, languages: [klingon] }",
        "response: { format: json, enforce: perhaps }",
    ] {
        assert_eq!(refused(keys).0, "WF104", "{keys}");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_before_and_behind_are_written_named_or_taken() {
    let top = "\
prompts:
  house: [{ role: system, content: \"Be ${ vars.how }.\" }, { role: user, content: Hello }]
  bye: So long
vars: { how: kind }
";
    let said = async |keys: &str| -> Vec<String> {
        let (ask, _) = asked(top, &format!("messages: {{ base: request, {keys} }}"), prose()).await;
        let messages = ask.unwrap().edits.messages.unwrap();
        messages.iter().map(|m| format!("{}: {}", m.role.as_str(), m.content.text())).collect()
    };
    let want = ["system: Be kind.", "user: Hello", "user: question"];
    assert_eq!(said("prepend: house").await, want, "a list by its name");
    assert_eq!(said("prepend: [house]").await, want);
    assert_eq!(
        said("append: [bye, { role: assistant, content: And }]").await,
        ["user: question", "user: So long", "assistant: And"]
    );
    assert_eq!(
        said("append: [request.messages, Good night]").await,
        ["user: question", "user: question", "user: Good night"]
    );
    assert_eq!(said("prepend: \"${ request.messages }\"").await, ["user: question", "user: question"]);
    assert_eq!(refused("messages: { prepend: hause }").0, "WF206");
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_known_of_an_answer_can_be_read() {
    let shows = [
        ("region", "eu"),
        ("params.temperature", "0.25"),
        ("params.stop", "[\"END\"]"),
        ("params.seed", ""),
        ("params.logprobs", "false"),
        ("latency.ttft_ms", "12.5"),
        ("logprob_mean", ""),
        ("partial", "false"),
        ("validation.findings", "[]"),
    ];
    let template: Vec<String> =
        shows.iter().map(|(path, _)| format!("${{ nodes.ask.completion.{path} }}")).collect();
    let body = format!(
        "nodes:\n  - {{ id: ask, type: generate }}\n  \
         - {{ id: no, type: fail, code: no, message: '{}' }}\nedges:\n  - {{ from: ask, to: no }}\n",
        template.join("|")
    );
    let script = Script::new(vec![("ask", vec![Says::Text(1, "x")])]);
    let params = Sampling { temperature: Some(0.25), stop: vec!["END".to_owned()], ..Sampling::default() };
    *script.served.lock().unwrap() = Served { region: Some("eu".to_owned()), params, ttft_ms: Some(12.5) };
    let (ending, _) = play(&workflow(&body), prose(), &script).await;
    let Ending::Failed(f) = ending else { panic!("{ending:?}") };
    let want: Vec<&str> = shows.iter().map(|(_, shown)| *shown).collect();
    assert_eq!(f.message, want.join("|"));
    let (_, problems) = load_all(&[file(&body.replace("params.seed", "params.sead"))]);
    assert_eq!(problems.first().map(|d| d.code.as_str()), Some("WF301"));
}

#[tokio::test(start_paused = true)]
async fn findings_are_whole_wherever_they_are_read() {
    let body = "\
nodes:
  - { id: ask, type: generate }
  - { id: check, type: validate, validators: [json] }
  - { id: no, type: fail, code: no, message: \"${ nodes.ask.completion.validation.findings } ${ nodes.check.findings }\" }
edges:
  - { from: ask, to: check }
  - { from: check, to: no, outcome: completed }
";
    let script = Script::new(vec![("ask", vec![Says::Text(1, "no JSON")])]);
    let (ending, _) = play(&workflow(body), prose(), &script).await;
    let Ending::Failed(f) = ending else { panic!("{ending:?}") };
    let (of_answer, of_node) = f.message.split_at(f.message.len() / 2);
    assert_eq!(of_answer.trim(), of_node.trim());
    let findings: Value = serde_json::from_str(of_node.trim()).unwrap();
    let keys: Vec<&String> = findings[0].as_object().unwrap().keys().collect();
    let all = ["validator", "code", "severity", "path", "span", "message", "expected", "actual", "hint"];
    assert!(all.iter().all(|k| keys.iter().any(|key| key == k)), "{keys:?}");
    assert_eq!((&findings[0]["severity"], &findings[0]["path"]), (&json!("repair"), &Value::Null));
}

/// Passages, instructions and parameters of the node that asked are those of every attempt to mend its answer.
#[tokio::test(start_paused = true)]
async fn a_repair_begins_with_what_the_first_answer_was_asked() {
    let body = "\
nodes:
  - { id: ask, type: generate, messages: { system: Answer from the passages. }, params: { temperature: 0.1, stop: END }, tools: none }
  - { id: check, type: validate, validators: [json], lint: { allow: [WF332] } }
  - { id: fix, type: repair, from: check, max_attempts: 3, strategies: [structured, resample, deterministic] }
  - { id: again, type: validate, input: nodes.fix.completion, validators: [{ use: length, with: { chars: { max: 2 } } }], lint: { allow: [WF332] } }
  - { id: more, type: repair, from: again, max_attempts: 1, strategies: [reprompt] }
  - { id: answer, type: stream, from: nodes.more.completion }
edges:
  - { from: ask, to: check }
  - { from: check, to: fix, outcome: failed }
  - { from: fix, to: again }
  - { from: again, to: more, outcome: failed }
  - { from: more, to: answer }
";
    let script = Script::new(vec![
        ("ask", vec![Says::Text(1, "one")]),
        ("fix", vec![Says::Text(1, "two"), Says::Text(1, "three"), Says::Text(1, "{\"a\": 1}")]),
        ("more", vec![Says::Text(1, "{}")]),
    ]);
    let (ending, steps) = play(&workflow(body), prose(), &script).await;
    assert!(matches!(ending, Ending::Delivered { .. }), "{ending:?} {steps:?}");
    let asked = script.asked.lock().unwrap();
    assert_eq!(asked.len(), 5, "{:?}", script.purposes());
    let lengths: Vec<usize> = asked.iter().map(|a| a.edits.messages.as_ref().unwrap().len()).collect();
    // The latest answer and what was found of it: attempts do not pile up, nor do repairs of repairs.
    assert_eq!(lengths, [2, 4, 2, 4, 4]);
    let temperatures: Vec<_> = asked.iter().map(|a| a.edits.temperature).collect();
    assert_eq!(temperatures, [Some(0.1), Some(0.1), Some(0.1), Some(0.0), Some(0.1)]);
    for ask in asked.iter() {
        let edits = &ask.edits;
        assert_eq!(
            edits.messages.as_ref().unwrap()[0].content.text(),
            "Answer from the passages.",
            "{ask:?}"
        );
        assert_eq!((edits.without_tools, edits.stop.as_deref()), (true, Some(["END".to_owned()].as_slice())));
    }
    assert_eq!(asked[1].edits.response_format, Some(ResponseFormat::JsonObject));
}

#[test]
fn a_stream_may_go_without_signs_of_life() {
    let kept = |keys: &str| {
        let body = format!(
            "nodes:\n  - {{ id: ask, type: generate }}\n  - {{ id: answer, type: stream, from: nodes.ask.completion, needs: ask, {keys} }}\n"
        );
        let w = workflow(&body);
        let stream = w.root.nodes.iter().find_map(|n| n.spec.get::<Stream>()).unwrap();
        stream.wire.keepalive
    };
    assert_eq!(kept("keepalive: none"), Some(Duration::ZERO));
    assert_eq!(kept("keepalive: 3s"), Some(Duration::from_secs(3)));
    assert_eq!(kept("mode: auto"), None);
}
