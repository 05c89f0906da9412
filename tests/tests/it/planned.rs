//! What `plan` says a run may take at most holds for what runs really take, whatever goes wrong in them.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::time::Duration;
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Reply, Seen, Vendor};

const CHAT: &str = "/v1/chat/completions";

/// A workflow of these nodes and edges, with more than enough room.
fn file(name: &str, body: &str) -> (String, String) {
    let text = format!("version: 1\nname: {name}\nlimits: {{ calls: 400, wall: 60s }}\n{body}");
    (format!("workflows/{name}.yaml"), text)
}

const JUDGED: &str = "nodes:
  - { id: ask, type: generate, samples: 4, min_ok: 4, model: alpha/a, on_upstream_loss: fail }
  - { id: rank, type: judge, input: nodes.ask.completions, mode: pairwise, independent: any, route: { model: alpha/a }, on_error: skip }
  - { id: pick, type: select, from: [nodes.rank.best, nodes.ask.completions], method: first }
  - { id: answer, type: stream, from: nodes.pick.completion }
edges:
  - { from: ask, to: rank }
  - { from: rank, to: pick, outcome: [completed, skipped] }
  - { from: pick, to: answer }
";

const HEDGED: &str = "nodes:
  - { id: ask, type: generate, model: alpha/a, hedge: { after: 30ms, max: 1, to: strong } }
output: nodes.ask.completion
pools: { strong: { model: beta/b } }
";

const FALLS_BACK: &str = "on_failure: { fallback: twice }
nodes:
  - { id: ask, type: generate, retry: { max_attempts: 4, backoff: { initial: 1ms } } }
output: nodes.ask.completion
";

const TWICE: &str = "nodes:
  - { id: ask, type: generate, samples: 2 }
output: nodes.ask.completion
";

const REPAIRED: &str = "nodes:
  - { id: ask, type: generate }
  - { id: check, type: validate, validators: [json] }
  - { id: fix, type: repair, from: check, max_attempts: 3, strategies: [reprompt, resample, escalate] }
  - { id: pick, type: select, from: [nodes.check.usable, nodes.fix.completion], method: first }
  - { id: answer, type: stream, from: nodes.pick.completion }
  - { id: none, type: fail, code: none, message: nothing passed }
edges:
  - { from: ask, to: check }
  - { from: check, to: fix, outcome: failed }
  - { from: check, to: pick, outcome: [passed, unverified] }
  - { from: fix, to: pick }
  - { from: pick, to: answer, outcome: selected }
  - { from: pick, to: none, outcome: [none, no_consensus] }
";

struct Loop {
    vendor: Vendor,
    house: House,
}

impl Loop {
    async fn start() -> Loop {
        let vendor = Vendor::start(Dialect::OpenAi).await;
        let mut plan = Plan::new()
            .vendor("alpha", &vendor)
            .vendor("beta", &vendor)
            .model(&Model::new("alpha/a"))
            .model(&Model::new("alpha/b"))
            .model(&Model::new("beta/b").success(0.7))
            .rules(NO_CHANCE)
            .settings(
                "retry: { budget_per_second: 1000, backoff: 1ms, max_attempts: 3 }\n\
                 breaker: { consecutive: 1000, min_calls: 1000 }\n",
            );
        let all = [
            ("judged", JUDGED),
            ("hedged", HEDGED),
            ("falls_back", FALLS_BACK),
            ("twice", TWICE),
            ("repaired", REPAIRED),
        ];
        for (name, body) in all {
            let (path, text) = file(name, body);
            plan = plan.file(&path, &text);
        }
        let house = plan.start().await;
        Loop { vendor, house }
    }

    async fn plan(&self, name: &str) -> Value {
        self.house.client().get(&format!("/v1/workflows/{name}/plan")).await.json()
    }

    /// Runs a workflow; how often vendors were asked, within what its plan says.
    async fn run(&self, name: &str, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (u64, Value) {
        self.vendor.otherwise(script);
        let before = self.vendor.count();
        let body =
            json!({"model": format!("workflow/{name}"), "messages": [{"role": "user", "content": "hi"}]});
        self.house.client().post(CHAT, &body).await;
        let made = u64::try_from(self.vendor.count() - before).unwrap();
        let plan = self.plan(name).await;
        let most = plan["most"]["calls"].as_u64().unwrap();
        assert!(made <= most, "{name}: {made} calls, planned are {most}: {plan}");
        (made, plan)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_run_takes_more_calls_than_its_plan_says() {
    let all = Loop::start().await;
    let asks = |plan: &Value| plan["most"]["asks"].as_u64().unwrap();
    let calls = |plan: &Value| plan["most"]["calls"].as_u64().unwrap();

    // Six pairs in both orders, each asked for twice since no verdict can be read.
    let (made, plan) = all.run("judged", |_| Reply::text("neither")).await;
    assert_eq!((made, asks(&plan)), (4 + 6 * 2 * 2, 4 + 6 * 2 * 2), "{plan}");

    // The model that hedges a slow one is in the plan, by name.
    let (made, plan) = all.run("hedged", |_| Reply::text("late").slow(Duration::from_secs(3))).await;
    assert_eq!((made, asks(&plan)), (2, 2), "{plan}");
    assert_eq!(plan["most"]["calling"][0]["models"], json!(["alpha/a", "beta/b"]), "{plan}");

    // As often as it says, whichever of three models is asked; then two samples of the workflow that takes over, each of
    // which asks every model, and the last one again.
    let (made, plan) = all.run("falls_back", |_| Reply::error(500)).await;
    assert_eq!(made, 4 + 2 * (2 + 3), "{plan}");
    assert_eq!(asks(&plan), 3);
    let paths: Vec<&str> =
        plan["most"]["calling"].as_array().unwrap().iter().map(|r| r["node"].as_str().unwrap()).collect();
    assert_eq!(paths, ["ask", "fallback/ask"]);

    // Nothing passes, and whatever can be lost is lost.
    let (made, plan) = all.run("repaired", |_| Reply::text("no JSON at all")).await;
    assert_eq!((made, asks(&plan)), (4, 4), "{plan}");
    let lost = |_: &Seen| Reply::Answer(Answer::text("{\"a\": 1, \"b\":").fault(2, Fault::Cut));
    let (made, _) = all.run("repaired", lost).await;
    assert_eq!(made, 2, "an answer that is lost is asked for once more");
    for name in ["judged", "hedged", "twice", "repaired", "default", "consensus_vote", "cheap_first_cascade"]
    {
        for status in [429, 500, 400] {
            all.run(name, move |_| Reply::error(status)).await;
        }
        all.run(name, lost).await;
        all.run(name, |_| Reply::Close).await;
    }

    // A limit is what a run takes at most, whatever its nodes ask for.
    let default = all.plan("default").await;
    assert_eq!(Some(calls(&default)), default["limits"]["calls"].as_u64(), "{default}");
}
