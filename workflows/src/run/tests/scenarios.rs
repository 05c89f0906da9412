//! The conformance scenarios of the workflow format that are about running graphs.

use super::prose;
use crate::budget::{Amounts, Budget};
use crate::testing::*;
use futures_util::future::join_all;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use types::Usd;
use types::doc::SourceFile;

async fn go(body: &str, script: &Script) -> (String, Vec<String>) {
    let (ending, steps) = play(&workflow(body), prose(), script).await;
    (text(&ending), steps)
}

/// 1: only the branch that is taken runs; the join runs exactly once; both directions.
#[tokio::test(start_paused = true)]
async fn scenario_01_a_diamond_with_a_condition() {
    let body = |n: u32| {
        format!(
            "\
vars: {{ n: {n} }}
nodes:
  - {{ id: start, type: set, values: {{ n: vars.n }} }}
  - {{ id: left, type: generate, route: {{ strategy: fixed }} }}
  - {{ id: right, type: generate, route: {{ strategy: fixed }} }}
  - {{ id: join, type: merge, from: [nodes.left.completion, nodes.right.completion] }}
  - {{ id: answer, type: stream, from: nodes.join.completion }}
edges:
  - {{ from: start, to: left, when: nodes.start.n == 1 }}
  - {{ from: start, to: right, else: true }}
  - {{ from: [left, right], to: join }}
  - {{ from: join, to: answer }}
"
        )
    };
    for (n, taken, other, said) in [(1, "left", "right", "L"), (2, "right", "left", "R")] {
        let script =
            Script::new(vec![("left", vec![Says::Text(1, "L")]), ("right", vec![Says::Text(1, "R")])]);
        let (answer, steps) = go(&body(n), &script).await;
        assert_eq!(answer, format!("{said}|none"));
        let count = |step: &str| steps.iter().filter(|s| *s == step).count();
        assert_eq!(count(&format!("{taken}:ok")), 1, "{steps:?}");
        assert_eq!(count(&format!("{other}:skipped")), 1, "{steps:?}");
        assert_eq!(count("join:merged"), 1, "{steps:?}");
        assert_eq!(script.asked.lock().unwrap().len(), 1);
    }
}

/// 2: three ways, one of which fails and is led to the join by `outcome: error`.
#[tokio::test(start_paused = true)]
async fn scenario_02_a_branch_that_fails_reaches_the_join() {
    let body = "\
nodes:
  - { id: start, type: set, values: {} }
  - { id: a, type: generate, route: { strategy: fixed } }
  - { id: b, type: generate, route: { strategy: fixed } }
  - { id: c, type: generate, route: { strategy: fixed } }
  - { id: join, type: merge, from: [nodes.a.completion, nodes.b.completion, nodes.c.completion], separator: \"\" }
  - { id: answer, type: stream, from: nodes.join.completion }
edges:
  - { from: start, to: [a, b, c] }
  - { from: [a, b, c], to: join, outcome: [completed, error] }
  - { from: join, to: answer }
";
    let script = Script::new(vec![
        ("a", vec![Says::Text(9, "A")]),
        ("b", vec![Says::Fail(unavailable())]),
        ("c", vec![Says::Text(1, "C")]),
    ]);
    let (answer, steps) = go(body, &script).await;
    assert_eq!(answer, "AC|none");
    assert_eq!(steps, ["start:ok", "b:error", "c:ok", "a:ok", "join:merged", "answer:delivered"]);
}

/// 3: what follows the short branch starts before the long one ends.
#[tokio::test(start_paused = true)]
async fn scenario_03_branches_of_unequal_length() {
    let body = "\
nodes:
  - { id: long, type: generate, route: { strategy: fixed } }
  - { id: short, type: generate, route: { strategy: fixed } }
  - { id: next, type: generate, route: { strategy: fixed } }
  - { id: join, type: merge, from: [nodes.long.completion, nodes.next.completion], separator: \"\" }
  - { id: answer, type: stream, from: nodes.join.completion }
edges:
  - { from: short, to: next }
  - { from: [long, next], to: join }
  - { from: join, to: answer }
";
    let script = Script::new(vec![
        ("long", vec![Says::Text(100, "L")]),
        ("short", vec![Says::Text(10, "S")]),
        ("next", vec![Says::Text(10, "N")]),
    ]);
    let (answer, steps) = go(body, &script).await;
    assert_eq!(
        (answer.as_str(), steps.join(" ").as_str()),
        ("LN|none", "short:ok next:ok long:ok join:merged answer:delivered")
    );
}

/// 4: `strict`, `any` and `at_least`, each with sources that are skipped, fail, and come late.
#[tokio::test(start_paused = true)]
async fn scenario_04_joins() {
    let body = |join: &str| {
        format!(
            "\
nodes:
  - {{ id: a, type: generate, route: {{ strategy: fixed }} }}
  - {{ id: b, type: generate, route: {{ strategy: fixed }}, when: flag }}
  - {{ id: c, type: generate, route: {{ strategy: fixed }} }}
  - {{ id: join, type: merge, join: {join}, from: [nodes.a.completion, nodes.b.completion, nodes.c.completion], separator: \"\" }}
  - {{ id: answer, type: stream, from: nodes.join.completion }}
  - {{ id: none, type: fail, code: none, message: x }}
edges:
  - {{ from: [a, b, c], to: join, outcome: completed }}
  - {{ from: join, to: answer, outcome: merged }}
  - {{ from: join, to: none, outcome: skipped }}
  - {{ from: [a, b, c], to: none, outcome: error }}
"
        )
    };
    let late = || {
        Script::new(vec![
            ("a", vec![Says::Text(30, "A")]),
            ("b", vec![Says::Text(10, "B")]),
            ("c", vec![Says::Text(20, "C")]),
        ])
    };
    // Late ones: the first, the first two, all.
    assert_eq!(go(&body("any"), &late()).await.0, "B|none");
    assert_eq!(go(&body("{ at_least: 2 }"), &late()).await.0, "BC|none");
    assert_eq!(go(&body("strict"), &late()).await.0, "ABC|none");
    // One is skipped.
    let skipped = |join: &str| body(join).replace("when: flag", "enabled: false");
    let two = || Script::new(vec![("a", vec![Says::Text(30, "A")]), ("c", vec![Says::Text(20, "C")])]);
    assert_eq!(go(&skipped("any"), &two()).await.0, "C|none");
    assert_eq!(go(&skipped("{ at_least: 2 }"), &two()).await.0, "AC|none");
    assert_eq!(go(&skipped("{ at_least: 3 }"), &two()).await.0, "workflow.none");
    assert_eq!(go(&skipped("strict"), &two()).await.0, "workflow.none");
    // One fails, and nothing but the join takes notice.
    let fails = |join: &str| {
        body(join)
            .replace("strategy: fixed }, when: flag", "strategy: fixed }, on_error: skip")
            .replace("  - { from: [a, b, c], to: none, outcome: error }\n", "")
    };
    let broken = || {
        Script::new(vec![
            ("a", vec![Says::Text(30, "A")]),
            ("b", vec![Says::Fail(unavailable())]),
            ("c", vec![Says::Text(20, "C")]),
        ])
    };
    assert_eq!(go(&fails("any"), &broken()).await.0, "C|none");
    assert_eq!(go(&fails("{ at_least: 2 }"), &broken()).await.0, "AC|none");
    assert_eq!(go(&fails("{ at_least: 3 }"), &broken()).await.0, "workflow.none");
    assert_eq!(go(&fails("strict"), &broken()).await.0, "workflow.none");
}

/// 5: loops within loops run exactly as often as was planned; three iterations are three.
#[tokio::test(start_paused = true)]
async fn scenario_05_nested_loops_run_as_planned() {
    let body = "\
limits: { calls: 12, node_runs: 40 }
nodes:
  - id: outer
    type: loop
    max_iterations: 3
    until: carry.never
    carry: { never: { init: flag == false, next: carry.never } }
    body:
      nodes:
        - id: inner
          type: loop
          max_iterations: 4
          until: carry.never
          carry: { never: { init: carry.never, next: carry.never } }
          body:
            nodes:
              - { id: ask, type: generate }
  - { id: end, type: fail, code: end, message: \"${ nodes.outer.iterations } ${ spent.calls }\", needs: { node: outer, outcome: [done, exhausted] } }
";
    // `carry` of the outer loop is hidden within the inner one, but not where the inner one begins.
    let w = workflow(body);
    assert_eq!((w.max_calls(), w.root.max_runs()), (12, 3 * (4 + 1) + 1 + 1));
    let lines: Vec<(&'static str, Vec<Says>)> = (0..3)
        .flat_map(|o| (0..4).map(move |i| (o, i)))
        .map(|(o, i)| (&*format!("outer[{o}]/inner[{i}]/ask").leak(), vec![Says::Text(1, "x")]))
        .collect();
    let script = Script::new(lines);
    let (ending, steps) = play(&w, prose(), &script).await;
    let crate::Ending::Failed(f) = ending else { panic!("{steps:?}") };
    assert_eq!(f.message, "3 12");
    assert_eq!(steps.len(), 17, "{steps:?}");
    // One call less than planned is refused when the file is read.
    let (_, p) = load_all(&[file(&body.replace("calls: 12", "calls: 11"))]);
    assert_eq!(p[0].code, "WF401");
    let (_, p) = load_all(&[file(&body.replace("node_runs: 40", "node_runs: 16"))]);
    assert_eq!(p[0].code, "WF401");
}

/// 6: an edge back is an error that names the circle.
#[test]
fn scenario_06_an_edge_back() {
    let body = "\
nodes:
  - { id: ask, type: generate }
  - { id: check, type: validate, validators: [json] }
  - { id: fix, type: generate }
  - { id: answer, type: stream, from: nodes.check.best }
edges:
  - { from: ask, to: check }
  - { from: check, to: fix, outcome: failed }
  - { from: fix, to: check }
  - { from: check, to: answer, outcome: [passed, unverified] }
";
    let (library, p) = load_all(&[SourceFile::new("w.yaml", format!("version: 1\nname: w\n{body}"))]);
    let found = p.iter().find(|d| d.code == "WF310").unwrap();
    assert_eq!((found.line, found.message.as_str()), (11, "the edges run in a circle: check → fix → check"));
    assert!(library.get("w").is_none());
}

/// 9: many runs against one budget never use more than it holds.
#[tokio::test(start_paused = true)]
async fn scenario_09_a_budget_race() {
    let tenant = Budget::new(Amounts { usd: Some(Usd::from_dollars(1.0)), ..Amounts::default() }, None);
    let refused = AtomicU32::new(0);
    let runs = (0..50_u64).map(|i| {
        let (tenant, refused) = (tenant.clone(), &refused);
        async move {
            let run = Budget::new(Amounts::default(), Some(tenant.clone()));
            for step in 0..3_u64 {
                let amount = Usd::from_dollars(0.04);
                if !run.reserve(amount) {
                    refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                assert!(tenant.left().unwrap() >= Usd::ZERO);
                tokio::time::sleep(Duration::from_millis(i * 7 % 13 + step)).await;
                // What it costs is never more than what was set aside.
                run.settle(amount, Usd::from_dollars(0.03), 0);
                assert!(tenant.used().usd <= Usd::from_dollars(1.0));
            }
        }
    });
    join_all(runs).await;
    assert!(tenant.used().usd <= Usd::from_dollars(1.0) && refused.load(Ordering::Relaxed) > 0);
    // And through whole runs: calls of a model that costs a dollar against three of them.
    let w = workflow(
        "limits: { calls: 9 }\nnodes:\n  - { id: ask, type: generate, samples: 5, min_ok: 1, budget: { usd: 2.5 } }\noutput: nodes.ask.completion\n",
    );
    let script = Script::new(vec![("ask", (0..5).map(|i| Says::Text(i, "x")).collect())]);
    *script.price.lock().unwrap() = Some(types::matrix::Price::new(1e5, 0.0));
    script.reserves.store(true, Ordering::Relaxed);
    assert_eq!(text(&run(&w, input(prose(), None), &script).await), "x|none");
    assert_eq!(script.paid.load(Ordering::Relaxed), 2, "a third would pass the budget");
}

/// 10: with 300 ms left nothing is tried again; the best answer so far is delivered, and says why.
#[tokio::test(start_paused = true)]
async fn scenario_10_the_deadline_delivers_the_best_so_far() {
    let body = "\
limits: { finish_reserve: 300ms }
nodes:
  - { id: ask, type: generate }
  - { id: check, type: validate, validators: [json] }
  - { id: fix, type: repair, from: check, strategies: [reprompt, resample], on_exhausted: best }
  - { id: pick, type: select, from: [nodes.check.usable, nodes.fix.completion], when_none: best }
  - { id: answer, type: stream, from: nodes.pick.completion }
edges:
  - { from: ask, to: check }
  - { from: check, to: pick, outcome: [passed, unverified] }
  - { from: check, to: fix, outcome: failed }
  - { from: fix, to: pick }
  - { from: pick, to: answer }
";
    let script = Script::new(vec![
        ("ask", vec![Says::Text(600, "no json")]),
        ("fix", vec![Says::Text(400, "still none"), Says::Text(1, "{}")]),
    ]);
    let w = workflow(body);
    let mut i = input(prose(), None);
    let start = tokio::time::Instant::now();
    i.deadline = Some(start + Duration::from_millis(1000));
    let trace = i.trace.clone();
    let ending = run(&w, i, &script).await;
    assert_eq!(text(&ending), "no json|failed");
    assert_eq!(start.elapsed(), Duration::from_millis(700), "300 ms before the deadline");
    assert_eq!(trace.take().exhausted.as_deref(), Some("wall"));
    assert_eq!(script.asked.lock().unwrap().len(), 2, "the repair under way was the last call");
    // Where there is nothing to deliver it is an error.
    let script = Script::new(vec![("ask", vec![Says::Never])]);
    let mut i = input(prose(), None);
    i.deadline = Some(tokio::time::Instant::now() + Duration::from_millis(300));
    assert_eq!(text(&run(&w, i, &script).await), "budget.wall");
}
