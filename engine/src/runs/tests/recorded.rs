//! A journal that was written once: whatever keeps it from coming again keeps every journal of its version from that.

use super::*;
use std::path::PathBuf;
use types::runs::JOURNAL;

/// Samples, a check, a repair, a tool, a map and a loop.
const KEPT: &str = r#"
limits: { calls: 20, wall: 10m }
nodes:
  - { id: ask, type: generate, samples: 2, params: { temperature: 0.5 } }
  - { id: check, type: validate, input: nodes.ask.completions, validators: [json] }
  - { id: fix, type: repair, from: check, max_attempts: 1, strategies: [reprompt] }
  - { id: look, type: tool, tool: look, args: { q: "x" } }
  - id: each
    type: map
    over: "[1, 2]"
    as: n
    max_items: 2
    body:
      nodes: [{ id: say, type: generate }]
      edges: []
      result: nodes.say.completion
  - id: again
    type: loop
    max_iterations: 2
    carry: { n: { init: "0", next: "carry.n + 1" } }
    until: carry.n >= 2
    body:
      nodes: [{ id: more, type: generate }]
      edges: []
  - { id: pick, type: select, from: [nodes.fix.completion, nodes.check.completions], method: first, require_passing: false }
  - { id: all, type: merge, from: [nodes.pick.completion, nodes.each.results, nodes.look.text] }
  - { id: answer, type: stream, from: nodes.all.completion }
edges:
  - { from: ask, to: check }
  - { from: check, to: fix, outcome: failed }
  - { from: check, to: pick, outcome: [passed, unverified] }
  - { from: fix, to: pick }
  - { from: [pick, look, each, again], to: all }
  - { from: all, to: answer }
"#;

/// Every key that changes what happens, so that the hash of the plan is made of each.
const PINNED: &str = r#"
limits: { calls: 20, wall: 10m, tokens: 9000, usd: 0.5, node_runs: 50, parallel: 3, finish_reserve: 1s, on_exhausted: fail }
defaults: { retry: { max_attempts: 2, codes: [timeout], reroute: false }, timeout: 20s }
nodes:
  - id: ask
    type: generate
    samples: 2
    min_ok: 1
    distinct: provider
    on_upstream_loss: fail
    hedge: { after: p95, max: 1 }
    params: { temperature: 0.5, top_p: 0.9, max_tokens: 200, seed: 7, stop: ["END"] }
    response: { format: json_schema, schema: { type: object, required: [a] }, enforce: json_mode }
  - id: check
    type: validate
    input: nodes.ask.completions
    validators: [json, { use: length, with: { chars: { max: 900 } }, weight: 2, needed: true, on_fail: warn, as: short }]
  - { id: fix, type: repair, from: check, max_attempts: 2, feedback: { max_findings: 3 }, on_exhausted: fail }
  - { id: rate, type: judge, input: nodes.ask.completions, mode: rubric, rubric: { criteria: [{ name: right, weight: 2 }] }, samples: 3, aggregate: mean, independent: prefer }
  - { id: pick, type: select, join: any, from: [nodes.fix.completion, nodes.check.completions], method: first, require_passing: false, when_none: fail, tie_break: [cost, index] }
  - { id: answer, type: stream, from: nodes.pick.completion, mode: buffered, on_late_failure: error, header_hold: 2s, keepalive: 5s, trailer: always }
edges:
  - { from: ask, to: [check, rate] }
  - { from: check, to: fix, outcome: failed }
  - { from: check, to: pick, outcome: [passed, unverified] }
  - { from: fix, to: pick }
  - { from: pick, to: answer }
"#;

/// What to do where it does not come again.
const HINT: &str = "journals of this version do not come again as they were: raise `types::runs::JOURNAL`, have \
                    UPDATE_FIXTURES=1 write one of the new version, and remove the old one";

/// `UPDATE_FIXTURES=1` writes it, unless there is one of this version.
#[tokio::test(start_paused = true)]
async fn a_journal_of_this_version_comes_again_as_it_was() {
    let workflow = workflow(KEPT);
    let name = format!("fixtures/journal.v{JOURNAL}.jsonl");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    if !path.exists() && std::env::var_os("UPDATE_FIXTURES").is_some() {
        let went = begin(&workflow, &[], SYNC, &Script::new(5), "hi").walk(&[], &[]).await;
        let lines: Vec<String> =
            went.journal.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let record = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{HINT}: {e}: {line}"));
    let journal: Vec<Record> = text.lines().map(record).collect();
    let nobody = Script::new(99);
    let walk = begin(&workflow, &journal, Keep::Repeat, &nobody, "hi");
    let shared = walk.shared.clone();
    let stop = repeat(walk.run, &shared).await;
    assert!(matches!(stop, Stop::Ended(_)), "{HINT}: {stop:?}");
    assert!(shared.is_over() && shared.take_fresh().0.is_empty(), "{HINT}: there is more to it now");
    assert!(nobody.out.lock().unwrap().is_empty(), "{HINT}: somebody was asked");
}

/// Runs that wait find their plan by this hash alone. The file is written as the journal is.
#[test]
fn a_plan_of_this_version_has_the_hash_it_had() {
    let hash = workflow(PINNED).plan_hash.clone();
    let name = format!("fixtures/plan.v{JOURNAL}.txt");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    if !path.exists() && std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, format!("{hash}\n")).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(
        hash,
        kept.trim(),
        "runs that wait do not find their plan: leave what is new out of `workflows::canonical` where it is as usual, or \
         raise `types::runs::JOURNAL`, write the files of the new version and remove the old ones"
    );
}
