//! Keys that every node may have, and those of the file around the nodes.

use super::{json_wanted, prose};
use crate::budget::Amounts;
use crate::node::generate::Generate;
use crate::testing::*;
use crate::{Budget, Ending, Failure};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use types::Usd;
use types::matrix::Price;
use types::runs::Durability;

const LOOKED: &str = "\
nodes:
  - { id: get, type: tool, tool: look, KEYS }
  - { id: say, type: merge, from: [nodes.get.text] }
  - { id: answer, type: stream, from: nodes.say.completion }
edges:
  - { from: get, to: say, outcome: [completed, skipped] }
  - { from: say, to: answer }
";

#[tokio::test(start_paused = true)]
async fn a_failure_may_count_as_skipped_or_as_a_value() {
    let go = async |keys: &str| {
        let down = vec![Err(crate::ToolFailure::Timeout), Err(crate::ToolFailure::Timeout)];
        let script = Script::new(vec![]).with_tools(down);
        let (ending, steps) = play(&workflow(&LOOKED.replace("KEYS", keys)), prose(), &script).await;
        (text(&ending), steps[0].clone())
    };
    assert_eq!(go("on_error: skip").await, ("|none".to_owned(), "get:skipped".to_owned()));
    assert_eq!(
        go("on_error: { value: { text: none } }").await,
        ("none|none".to_owned(), "get:ok".to_owned())
    );
    assert_eq!(go("on_error: fail").await, ("tool.timeout".to_owned(), "get:timeout".to_owned()));
    let (_, p) = load_all(&[file(&LOOKED.replace("KEYS", "on_error: { value: { txt: none } }"))]);
    assert_eq!((p[0].code.as_str(), p[0].hint.as_deref()), ("WF101", Some("did you mean `text`?")));
}

#[tokio::test(start_paused = true)]
async fn a_nodes_own_time_and_pauses_end_before_the_run_must() {
    // The second attempt would begin after a pause that the run has no time for.
    let keys = "retry: { backoff: { initial: 1s, jitter: none } }";
    let body = LOOKED.replace("KEYS", keys);
    let go = async |left: Duration| {
        let script = Script::new(vec![])
            .with_tools(vec![Err(crate::ToolFailure::Failed("x".into())), replies(json!("y"))]);
        let mut i = input(prose(), None);
        i.deadline = Some(tokio::time::Instant::now() + left);
        let ending = run(&workflow(&body), i, &script).await;
        let made = script.tool_calls.lock().unwrap().len();
        (text(&ending), made)
    };
    assert_eq!(go(Duration::from_secs(5)).await, ("y|none".to_owned(), 2));
    assert_eq!(go(Duration::from_millis(300)).await.1, 1);
    // A budget of time is a limit as well.
    let slow = workflow(
        "nodes:\n  - { id: ask, type: generate, budget: { wall: 1s } }\noutput: nodes.ask.completion\n",
    );
    let (ending, steps) = play(&slow, prose(), &Script::new(vec![("ask", vec![Says::Never])])).await;
    assert_eq!((text(&ending).as_str(), steps[0].as_str()), ("budget.wall", "ask:timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_nodes_budget_is_carved_out_of_the_runs() {
    let body = |budget: &str| {
        format!(
            "\
limits: {{ calls: 8 }}
nodes:
  - {{ id: ask, type: generate, samples: 3, budget: {{ {budget} }} }}
  - {{ id: answer, type: stream, from: nodes.ask.completion }}
  - {{ id: no, type: fail, code: no, message: \"${{ nodes.ask.calls }} ${{ spent.calls }} ${{ remaining.calls }}\" }}
edges:
  - {{ from: ask, to: answer, when: nodes.ask.ok_count == 3 }}
  - {{ from: ask, to: no, else: true }}
"
        )
    };
    let script =
        || Script::new(vec![("ask", vec![Says::Text(1, "1"), Says::Text(1, "2"), Says::Text(1, "3")])]);
    assert_eq!(text(&play(&workflow(&body("calls: 3")), prose(), &script()).await.0), "1|none");
    let (ending, _) = play(&workflow(&body("calls: 2")), prose(), &script()).await;
    let Ending::Failed(f) = ending else { panic!() };
    assert_eq!(f.message, "2 2 6");
}

/// A model with a price, so that answers cost.
fn priced(script: Script) -> Script {
    *script.price.lock().unwrap() = Some(Price::new(1e5, 0.0));
    script
}

#[tokio::test(start_paused = true)]
async fn what_calls_cost_is_counted_against_every_limit() {
    // Ten tokens of input at 0.1 each: one dollar a call.
    let body = "\
limits: { usd: 2.50, calls: 9 }
nodes:
  - { id: a, type: generate }
  - { id: b, type: generate, route: { strategy: fixed }, budget: { usd: 0.50 } }
  - { id: no, type: fail, code: no, message: \"${ spent.usd } ${ remaining.usd } ${ nodes.a.cost_usd } ${ limits.usd }\" }
edges:
  - { from: a, to: b }
  - { from: b, to: no, outcome: any }
";
    let script = priced(Script::new(vec![("a", vec![Says::Text(1, "x")]), ("b", vec![Says::Text(1, "x")])]));
    let (ending, steps) = play(&workflow(body), prose(), &script).await;
    let Ending::Failed(f) = ending else { panic!() };
    // What a call costs is known only afterwards here; the world sets it aside before.
    assert_eq!(f.message, "2.0 0.5 1.0 2.5", "{steps:?}");
    let mut i = input(prose(), None);
    i.usd = Some(Usd::from_dollars(0.9));
    let script = priced(Script::new(vec![("a", vec![Says::Text(1, "x")])]));
    let Ending::Failed(f) = run(&workflow(body), i, &script).await else { panic!() };
    assert_eq!(f.message, "1.0 0.0 1.0 0.9", "the second call was not made");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_limits_has_its_usual_limits() {
    let body = "\
nodes:
  - { id: a, type: generate }
  - { id: b, type: generate, route: { strategy: fixed } }
  - { id: no, type: fail, code: no, message: \"${ limits.usd } ${ limits.tokens } ${ limits.calls } ${ remaining.usd } ${ spent.calls }\" }
edges:
  - { from: a, to: b }
  - { from: b, to: no, outcome: any }
";
    let told = async |dollars: f64| {
        let script = Script::new(vec![("a", vec![Says::Text(1, "x")]), ("b", vec![Says::Text(1, "x")])]);
        *script.price.lock().unwrap() = Some(Price::new(dollars * 1e5, 0.0));
        script.reserves.store(true, Ordering::Relaxed);
        let (ending, _) = play(&workflow(body), prose(), &script).await;
        let Ending::Failed(f) = ending else { panic!() };
        (f.message, script.paid.load(Ordering::Relaxed))
    };
    assert_eq!(told(0.4).await, ("1.0 200000 24 0.2 2".to_owned(), 2));
    // What one call costs is not held against it; once enough is spent, no other begins.
    assert_eq!(told(7.0).await, ("1.0 200000 24 0.0 1".to_owned(), 1));
    assert_eq!(told(0.99).await, ("1.0 200000 24 0.0 2".to_owned(), 2));
}

#[tokio::test(start_paused = true)]
async fn results_are_kept_and_found_again() {
    let body = LOOKED.replace("KEYS", "args: { q: \"${ vars.q }\" }, cache: { ttl: 10m }");
    let w = |q: &str| workflow(&format!("vars: {{ q: {q} }}\n{body}"));
    let script = Script::new(vec![]).with_tools(vec![replies(json!({"n": 1})), replies(json!("two"))]);
    assert_eq!(text(&play(&w("a"), prose(), &script).await.0), "{\"n\":1}|none");
    assert_eq!(text(&play(&w("a"), prose(), &script).await.0), "{\"n\":1}|none");
    assert_eq!(script.tool_calls.lock().unwrap().len(), 1, "the second time it was found");
    assert_eq!(text(&play(&w("b"), prose(), &script).await.0), "two|none");
    let kept: Vec<_> = script.kept.lock().unwrap().iter().map(|(k, _)| (k.ttl, k.shared)).collect();
    assert_eq!(kept, [(Duration::from_secs(600), false); 2]);
    // Completions come back as completions; what failed is not kept.
    let cached = workflow(
        "nodes:\n  - { id: ask, type: generate, cache: { mode: read_write } }\noutput: nodes.ask.completion\n",
    );
    let script = Script::new(vec![("ask", vec![Says::Fail(unavailable()), Says::As("b", "said")])]);
    for want in ["provider.unavailable", "said|none", "said|none"] {
        assert_eq!(text(&play(&cached, prose(), &script).await.0), want);
    }
    assert_eq!(text(&play(&cached, json_wanted(), &script_of("ask", "other")).await.0), "other|none");
    // Nor what a check speaks against that comes after the node.
    let checked = workflow(
        "nodes:\n  - { id: ask, type: generate, cache: {} }\n  \
         - { id: look, type: validate, input: nodes.ask.completion, validators: [{ use: regex, with: { must: [right] } }] }\n  \
         - { id: out, type: stream, from: nodes.ask.completion }\n\
         edges:\n  - { from: ask, to: look }\n  - { from: look, to: out, outcome: any }\n",
    );
    let script = Script::new(vec![("ask", vec![Says::As("b", "wrong"), Says::As("b", "right")])]);
    for want in ["wrong|failed", "right|passed", "right|passed"] {
        assert_eq!(text(&play(&checked, prose(), &script).await.0), want);
    }
    assert_eq!(script.kept.lock().unwrap().len(), 1);
    let (_, p) = load_all(&[file(
        "nodes:\n  - { id: s, type: set, values: {}, cache: {} }\n  - { id: no, type: fail, code: n, message: x, needs: s }\n",
    )]);
    assert_eq!(p[0].code, "WF101");
    // What changes something is done each time.
    let (_, p) = load_all(&[file(&LOOKED.replace("tool: look", "tool: send").replace("KEYS", "cache: {}"))]);
    assert!(p.iter().any(|d| d.code == "WF104" && d.message.contains("`send` changes something")), "{p:?}");
    let (_, p) = load_all(&[file(
        &LOOKED.replace("tool: look", "tool: send").replace("KEYS", "cache: { mode: none }"),
    )]);
    assert!(p.iter().all(|d| d.code != "WF104"), "{p:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_found_costs_nothing_and_says_so() {
    let cached = workflow(
        "nodes:\n  - { id: ask, type: generate, cache: {} }\n  \
         - { id: no, type: fail, code: no, message: \"${ nodes.ask.completion.cost_usd } ${ nodes.ask.cost_usd }\" }\n\
         edges:\n  - { from: ask, to: no }\n",
    );
    let script = priced(Script::new(vec![("ask", vec![Says::Text(1, "x")])]));
    for (message, note) in [("1.0 1.0", None), ("0.0 0.0", Some("cached: 1 USD when it was made"))] {
        let i = input(prose(), None);
        let trace = i.trace.clone();
        let Ending::Failed(f) = run(&cached, i, &script).await else { panic!() };
        assert_eq!((f.message.as_str(), trace.take().steps[0].note.as_deref()), (message, note));
    }
}

fn script_of(node: &'static str, says: &'static str) -> Script {
    Script::new(vec![(node, vec![Says::Text(1, says)])])
}

const AUDITED: &str = "\
nodes:
  - { id: ask, type: generate }
  - { id: audit, type: judge, input: nodes.ask.completion, needs: ask }
  - { id: note, type: set, async: true, values: { best: nodes.audit.best_score }, needs: { node: audit, outcome: any } }
  - { id: answer, type: stream, from: nodes.ask.completion }
edges:
  - { from: ask, to: answer }
";

#[tokio::test(start_paused = true)]
async fn what_runs_after_the_response_neither_delays_nor_fails_it() {
    let grade = "{\"scores\": {\"correctness\": 5, \"helpfulness\": 5}, \"rationale\": \"\"}";
    let w = workflow(AUDITED);
    let script =
        Script::new(vec![("ask", vec![Says::Text(1, "x")]), ("audit", vec![Says::Text(60_000, grade)])]);
    let i = input(prose(), None);
    let trace = i.trace.clone();
    let start = tokio::time::Instant::now();
    let done = finish(&w, i, &script).await;
    assert_eq!(text(&done.ending), "x|none");
    assert!(start.elapsed() < Duration::from_secs(1));
    let before = trace.take();
    assert_eq!(before.steps.iter().map(|s| &*s.node).collect::<Vec<_>>(), ["ask", "answer"]);
    let later = done.later.unwrap().run().await;
    // The judge's own time is 30 s.
    let steps: Vec<_> = later.steps.iter().map(|s| format!("{}:{}", s.node, s.outcome)).collect();
    assert_eq!(steps, ["audit:timeout", "note:ok"]);
    assert!(trace.take().steps.is_empty(), "the record of the answer is closed");
    let script = Script::new(vec![("ask", vec![Says::Text(1, "x")]), ("audit", vec![Says::Text(9, grade)])]);
    let later = finish(&w, input(prose(), None), &script).await.later.unwrap().run().await;
    assert_eq!(later.steps.last().map(|s| s.outcome.as_str()), Some("ok"));
    assert_eq!(later.judge.map(types::UnitInterval::get), Some(1.0));
    assert!(script.asked.lock().unwrap().iter().map(|a| a.late).eq([false, true]));
    // Nothing new is begun where there was no answer.
    let down = Script::new(vec![("ask", vec![Says::Fail(unavailable())])]);
    assert!(finish(&w, input(prose(), None), &down).await.later.is_none());
    let (_, p) = load_all(&[file(
        &AUDITED
            .replace("from: nodes.ask.completion }\nedges", "from: nodes.audit.best }\nedges")
            .replace("needs: ask }", "needs: ask, async: true }"),
    )]);
    assert!(p.iter().any(|d| d.code == "WF341"), "{p:?}");
}

#[tokio::test(start_paused = true)]
async fn what_runs_after_a_stream_runs_too() {
    let w = workflow(AUDITED);
    let script = Script::new(vec![
        ("ask", vec![Says::Stream(vec![Some("Hi"), Some(".")])]),
        (
            "audit",
            vec![Says::Text(
                1,
                "{\"scores\": {\"correctness\": 5, \"helpfulness\": 5}, \"rationale\": \"\"}",
            )],
        ),
    ]);
    let (tx, mut rx) = tokio::sync::mpsc::channel(8);
    let done = finish(&w, input(prose(), Some(tx)), &script).await;
    assert!(matches!(done.ending, Ending::Streamed { .. }), "{:?}", done.ending);
    assert!(rx.recv().await.is_some());
    let later = done.later.unwrap().run().await;
    let steps: Vec<_> = later.steps.iter().map(|s| format!("{}:{}", s.node, s.outcome)).collect();
    assert_eq!(steps, ["audit:scored", "note:ok"]);
}

#[tokio::test(start_paused = true)]
async fn a_workflow_falls_back_on_another_once() {
    let first = "on_failure: { fallback: spare }\nnodes:\n  - { id: ask, type: generate }\noutput: nodes.ask.completion\n";
    let spare = "nodes:\n  - { id: plain, type: generate }\noutput: nodes.plain.completion\n";
    let files =
        [file(first), types::doc::SourceFile::new("spare.yaml", format!("version: 1\nname: spare\n{spare}"))];
    let (library, problems) = load_all(&files);
    assert!(problems.is_empty(), "{problems:?}");
    let w = library.get("w").unwrap();
    let down = || ("ask", vec![Says::Fail(unavailable())]);
    let script = Script::new(vec![down(), ("fallback/plain", vec![Says::Text(1, "spare")])]);
    assert_eq!(text(&play(w, prose(), &script).await.0), "spare|none");
    let both = Script::new(vec![down(), ("fallback/plain", vec![Says::Fail(Failure::nobody("x"))])]);
    assert_eq!(
        text(&play(w, prose(), &both).await.0),
        "provider.unavailable",
        "the first failure tells more"
    );
    let (_, p) = load_all(&[file(&first.replace("spare", "spear"))]);
    assert_eq!(p[0].code, "WF205");
}

#[tokio::test(start_paused = true)]
async fn a_route_may_keep_away_from_what_has_answered() {
    let body = "\
nodes:
  - { id: a, type: generate }
  - { id: b, type: generate, route: { distinct_from: nodes.a.completion, strategy: fixed } }
  - { id: c, type: generate, route: { family_not: nodes.a.completions, strategy: fixed } }
  - { id: answer, type: stream, from: nodes.c.completion }
edges:
  - { from: a, to: b }
  - { from: b, to: c }
  - { from: c, to: answer }
";
    let script = Script::new(vec![
        ("a", vec![Says::As("a", "1")]),
        ("b", vec![Says::As("b", "2")]),
        ("c", vec![Says::As("c", "3")]),
    ]);
    assert_eq!(text(&play(&workflow(body), prose(), &script).await.0), "3|none");
    let asked = script.asked.lock().unwrap();
    assert_eq!(
        (asked[1].not_models.as_slice(), asked[1].not_families.len()),
        ([Arc::from("p/a")].as_slice(), 0)
    );
    assert_eq!(
        (asked[2].not_models.len(), asked[2].not_families.as_slice()),
        (0, ["a".to_owned()].as_slice())
    );
}

#[test]
fn what_nodes_build_on() {
    let body = "\
durability: sync
pools: { cheap: { strategy: cheapest, where: model.tier == 1 }, default: { min_tier: 2 } }
validators: { brief: { use: length, with: { chars: { max: 5 } } } }
prompts: { careful: \"Be careful with ${ vars.what }.\" }
vars: { what: it }
defaults: { timeout: 7s, generate: { samples: 2, timeout: 9s }, route: { min_tier: 2 }, retry: { max_attempts: 3 } }
nodes:
  - { id: a, type: generate, route: { pool: cheap } }
  - { id: b, type: generate, samples: 1 }
  - { id: check, type: validate, input: nodes.b.completions, validators: [brief] }
  - { id: all, type: merge, method: synthesize, prompt: careful, from: [nodes.a.completion, nodes.check.usable] }
  - { id: answer, type: stream, from: nodes.all.completion }
edges:
  - { from: b, to: check }
  - { from: [a, check], to: all }
  - { from: all, to: answer }
";
    let (library, problems) = load_all(&[file(body)]);
    // Hiding a pool of all workflows is told.
    assert_eq!(problems.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["WF221"]);
    let w = library.get("w").unwrap();
    assert_eq!(w.durability, Durability::Sync);
    let node = |id: &str| w.root.nodes.iter().find(|n| &*n.id == id).unwrap();
    let a = node("a").spec.get::<Generate>().unwrap();
    let within = a.route.within.as_ref().unwrap();
    assert_eq!((within.only.as_deref(), a.samples), (Some([Arc::from("p/a")].as_slice()), 2));
    assert_eq!((node("a").timeout, node("all").timeout), (Duration::from_secs(9), Duration::from_secs(7)));
    let b = node("b").spec.get::<Generate>().unwrap();
    assert_eq!((b.samples, b.route.min_tier), (1, Some(2)));
    assert!(node("b").common.retry.is_some() && node("answer").common.retry.is_none());
    for (from, to, code) in [
        ("prompt: careful", "prompt: carefull", "WF206"),
        ("[brief]", "[breif]", "WF203"),
        ("pool: cheap", "pool: chaep", "WF202"),
        ("model.tier", "model.teir", "WF301"),
        ("generate: {", "genrate: {", "WF101"),
    ] {
        let (_, p) = load_all(&[file(&body.replace(from, to))]);
        assert!(p.iter().any(|d| d.code == code), "{to} {p:?}");
    }
}

#[test]
fn purses_are_nested_for_whoever_makes_calls() {
    let top = Budget::new(Amounts { usd: Some(Usd::from_dollars(1.0)), ..Amounts::default() }, None);
    assert!(top.reserve(Usd::from_dollars(1.0)) && !top.reserve(Usd::from_dollars(0.01)));
    assert_eq!(top.left(), Some(Usd::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_value_in_the_place_of_an_error_says_the_outcome_itself() {
    // Each node fails before it begins.
    let check = async |node: &str, value: &str, want: &str| {
        let body = format!(
            "\
nodes:
  - {{ id: ask, type: generate }}
  - {{ id: x, {node}, needs: ask, when: broken, on_error: {{ value: {{ {value} }} }}, lint: {{ allow: [WF332] }} }}
  - {{ id: no, type: fail, code: no, message: \"${{ nodes.x }}\" }}
edges:
  - {{ from: x, to: no, outcome: [completed, skipped] }}
"
        );
        let script = Script::new(vec![("ask", vec![Says::Text(1, "a")])]);
        let (ending, steps) = play(&workflow(&body), prose(), &script).await;
        assert_eq!(steps.get(1).map(String::as_str), Some(want), "{node} {value}: {ending:?}");
        let Ending::Failed(f) = ending else { panic!("{ending:?}") };
        f.message
    };
    let classify = "type: classify, labels: [easy, hard]";
    check(classify, "label: hard", "x:hard").await;
    assert!(check(classify, "", "x:easy").await.contains("\"label\":\"easy\""));
    let validate = "type: validate, input: nodes.ask.completions, validators: [contract]";
    check(validate, "passed: true", "x:passed").await;
    check(validate, "passed: false", "x:failed").await;
    check(validate, "score: 1.0", "x:unverified").await;
    let judge = "type: judge, input: nodes.ask.completions";
    check(judge, "best_score: 0.9", "x:scored").await;
    assert!(check(judge, "", "x:abstained").await.contains("\"abstained\":true"));
    let threshold = format!("{judge}, threshold: 0.5");
    check(&threshold, "best_score: 0.9", "x:passed").await;
    check(&threshold, "best_score: 0.4", "x:failed").await;
    let gate = "type: gate, prompt: May it?";
    check(gate, "decision: approved", "x:approved").await;
    check(gate, "decision: rejected", "x:rejected").await;
    check(&format!("{gate}, on_expire: expire"), "decision: expired", "x:expired").await;
    check("type: select, from: [nodes.ask.completions]", "reason: none", "x:none").await;
    let repair = "type: repair, input: nodes.ask.completions, validators: [json]";
    check(repair, "attempts: 0", "x:exhausted").await;
    check("type: tool, tool: look", "text: none", "x:ok").await;
    check("type: tool, tool: look", "is_error: true", "x:tool_error").await;
    check("type: merge, from: [nodes.ask.completion]", "text: none", "x:merged").await;
    let body = "body: { nodes: [{ id: s, type: set, values: { v: flag } }]";
    let rounds = format!("type: loop, max_iterations: 2, until: flag, {body} }}");
    check(&rounds, "iterations: 0", "x:exhausted").await;
    let map = format!("type: map, over: nodes.ask.served_by, max_items: 2, {body}, result: nodes.s.v }}");
    check(&map, "results: []", "x:ok").await;
    check(&map, "failed: [{ code: timeout, index: 0 }]", "x:partial").await;
    check("type: set, values: { v: flag }", "v: false", "x:ok").await;
    check("type: generate", "ok_count: 0", "x:ok").await;
}

#[test]
fn a_value_that_does_not_say_the_outcome_is_refused() {
    let told = |node: &str, value: &str| {
        let body = format!(
            "nodes:\n  - {{ id: x, {node}, on_error: {{ value: {{ {value} }} }} }}\n  \
             - {{ id: no, type: fail, code: no, message: no }}\nedges:\n  - {{ from: x, to: no }}\n"
        );
        let (_, p) = load_all(&[file(&body)]);
        p.iter()
            .map(|d| format!("{} {}", d.code, d.expected.as_deref().unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    let gate = "type: gate, prompt: May it?";
    assert_eq!(told(gate, "comment: later"), ["WF104 `decision` as approved or rejected"]);
    assert_eq!(told(gate, "decision: expired"), ["WF104 `decision` as approved or rejected"]);
    assert_eq!(told(gate, "decision: aproved"), ["WF104 one of approved, rejected, expired"]);
    let classify = "type: classify, labels: [easy, hard]";
    assert_eq!(told(classify, "label: hrad"), ["WF104 one of easy, hard"]);
    // What it may come to in this way leads on as well.
    let (_, p) = load_all(&[file(
        "nodes:\n  - { id: x, type: judge, input: request.messages, on_error: { value: { best_score: 0.9 } } }\n  \
         - { id: no, type: fail, code: no, message: no }\nedges:\n  - { from: x, to: no, outcome: abstained }\n",
    )]);
    assert!(p.iter().any(|d| d.code == "WF332" && d.message.contains("`scored`")), "{p:?}");
}

#[tokio::test(start_paused = true)]
async fn a_condition_reads_how_long_its_node_took() {
    let body = "\
nodes:
  - { id: ask, type: generate }
  - { id: slow, type: fail, code: slow, message: slow }
  - { id: fast, type: fail, code: fast, message: fast }
edges:
  - { from: ask, to: slow, when: nodes.ask.duration_ms >= 1000 }
  - { from: ask, to: fast, else: true }
";
    for (ms, want) in [(5000, "workflow.slow"), (5, "workflow.fast")] {
        let script = Script::new(vec![("ask", vec![Says::Text(ms, "a")])]);
        assert_eq!(text(&play(&workflow(body), prose(), &script).await.0), want);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_condition_said_holds_for_what_runs_after_the_response() {
    // What is spent after the response counts anew: asked again, the condition would not hold any more.
    let body = "\
nodes:
  - { id: ask, type: generate }
  - { id: out, type: stream, from: nodes.ask.completion }
  - { id: note, type: set, async: true, values: { v: flag } }
edges:
  - { from: ask, to: out }
  - { from: ask, to: note, when: spent.calls == 1 }
";
    let script = Script::new(vec![("ask", vec![Says::Text(1, "a")])]);
    let done = finish(&workflow(body), input(prose(), None), &script).await;
    let later = done.later.unwrap().run().await;
    let steps: Vec<_> = later.steps.iter().map(|s| format!("{}:{}", s.node, s.outcome)).collect();
    assert_eq!(steps, ["note:ok"]);
}

#[tokio::test(start_paused = true)]
async fn labels_of_nodes_stand_in_the_record() {
    let body = "\
owner: the desk
nodes:
  - { id: ask, type: generate, labels: { team: blue, x-note: [not, one] } }
  - { id: out, type: stream, from: nodes.ask.completion, needs: ask }
";
    let w = workflow(body);
    assert_eq!(w.owner.as_deref(), Some("the desk"));
    let i = input(prose(), None);
    let trace = i.trace.clone();
    run(&w, i, &script_of("ask", "x")).await;
    let steps = trace.take().steps;
    let labels: Vec<_> = steps.iter().map(|s| s.labels.clone().into_iter().collect::<Vec<_>>()).collect();
    assert_eq!(labels, [vec![("team".to_owned(), "blue".to_owned())], vec![]]);
}
