//! Laws of the decision as a whole, over what a learner really learned.

use super::*;
use crate::bundle::Files;
use crate::learn::{Learner, Limits, Statistics, learner};
use crate::outcome::tests::sample;
use std::collections::BTreeMap;
use std::time::Duration;
use types::doc::SourceFile;
use types::matrix::{Abilities, Dialect, Matrix, Model, Price, Provider};
use types::store::Observer as _;

const RULES: &str = "version: 1\npools: { default: { models: [\"*\"] }, extraction: { models: [\"*\"] }, judge: { models: [\"*\"] } }\n";

fn model(name: &str, price: f64) -> Model {
    Model {
        abilities: Abilities { streaming: true, ..Abilities::default() },
        price: Some(Price::new(price, price)),
        speed_tier: 1,
        ..Model::new(format!("p/{name}"), 0, (100_000, 4_000))
    }
}

fn provider() -> Provider {
    Provider::new("p", Dialect::Recorded)
}

/// A router with a learner of its own, over models named `m0`, `m1`, … of these prices.
struct Table {
    router: Router,
    availability: Vec<Availability>,
    learner: Learner,
    statistics: Statistics,
    request: Arc<ChatRequest>,
    profile: WorkloadProfile,
    features: Features,
}

impl Table {
    fn new(prices: &[f64]) -> Self {
        Table::with(prices, Vec::new())
    }

    /// The same with workflows of its own.
    fn with(prices: &[f64], workflows: Vec<SourceFile>) -> Self {
        Table::ruled(prices, workflows, RULES)
    }

    /// The same under other numbers.
    fn ruled(prices: &[f64], workflows: Vec<SourceFile>, rules: &str) -> Self {
        let models = prices.iter().enumerate().map(|(i, p)| model(&format!("m{i}"), *p)).collect();
        let files =
            Files { workflows, runner: true, ..Files::new(SourceFile::new("routing_rules.yaml", rules)) };
        let (bundle, problems) = Bundle::load(Arc::new(Matrix::new(vec![provider()], models)), &files);
        let router = Router::new(bundle.unwrap_or_else(|| panic!("{problems:?}")));
        let body = serde_json::json!({"model": "auto", "messages": [{"role": "user",
            "content": "Tell me something about the history of bridges, please."}]});
        let request = Arc::new(ChatRequest::from_value(&body).unwrap());
        let (profile, features) = router.profile(&request);
        let (learner, statistics) = learner(Limits::default());
        let availability = vec![Availability::Ready; prices.len()];
        Table { router, availability, learner, statistics, request, profile, features }
    }

    async fn decide(&self, seed: u64) -> Decision {
        self.decide_at(0, seed).await.unwrap()
    }

    async fn decide_at(&self, ts_ms: i64, seed: u64) -> Result<Decision, Error> {
        let statistics = self.statistics.load();
        let ask = Ask {
            id: "req_1",
            request: &self.request,
            profile: &self.profile,
            features: &self.features,
            availability: &self.availability,
            statistics: &statistics,
            seed,
            ts_ms,
        };
        self.router.decide(ask).await
    }

    fn asks(&mut self, body: &serde_json::Value) {
        self.request = Arc::new(ChatRequest::from_value(body).unwrap());
    }

    /// An arm turned out as `reward`, at `factor` times the cost that was forecast before anything was learned.
    fn tell(&mut self, d: &Decision, model: &str, reward: f64, factor: f64) {
        let arm = d.arms.iter().find(|a| &*a.model == model).unwrap();
        let mut o = sample(&arm.workflow, model, reward);
        o.cell = d.cell;
        let forecast = arm.expected_cost_usd.unwrap().dollars() / arm.cost_correction;
        o.cost_usd = Usd::from_dollars(factor * forecast);
        o.basis = basis(d, self.features, model)
            .map(|b| Basis { forecast_usd: Some(Usd::from_dollars(forecast)), ..b });
        self.learner.outcome(0, &o);
        let _ = self.learner.batch_done();
    }
}

#[tokio::test]
async fn every_eligible_arm_is_reachable() {
    for good in 0..6 {
        let mut t = Table::new(&[1.0; 6]);
        let name = format!("p/m{good}");
        let mut late = 0;
        for i in 0..300 {
            let d = t.decide(i).await;
            let chosen = d.choice().unwrap().model.clone();
            late += usize::from(i >= 250 && *chosen == *name);
            // Spread evenly, so that no seed is lucky.
            let p = if *chosen == *name { 9 } else { 4 };
            t.tell(&d, &chosen, if i % 10 < p { 1.0 } else { 0.0 }, 1.0);
        }
        assert!(late >= 40, "{name} was chosen {late} of the last 50 times");
    }
}

#[tokio::test]
async fn propensities_sum_to_one_and_match_frequencies() {
    let mut t = Table::new(&[1.0, 0.9, 0.8, 30.0]);
    for i in 0..60 {
        let d = t.decide(i).await;
        let chosen = d.choice().unwrap().model.clone();
        t.tell(&d, &chosen, if i % 3 == 0 { 0.0 } else { 1.0 }, 1.0);
    }
    let mut counts: BTreeMap<Arc<str>, (f64, f64)> = BTreeMap::new();
    let n = 4_000;
    for seed in 0..n {
        let d = t.decide(seed).await;
        let sum: f64 = d.arms.iter().map(|a| a.propensity).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        assert_eq!(d.propensity, d.choice().unwrap().propensity);
        for a in &d.arms {
            counts.entry(a.model.clone()).or_default().1 = a.propensity;
        }
        counts.entry(d.choice().unwrap().model.clone()).or_default().0 += 1.0;
    }
    assert!(counts.values().filter(|(_, p)| *p > 0.0).count() >= 2, "{counts:?}");
    for (model, (count, p)) in &counts {
        let sd = (p * (1.0 - p) / n as f64).sqrt();
        assert!((count / n as f64 - p).abs() <= 4.0 * sd, "{model}: {count} of {n}, stated {p}");
    }
}

#[tokio::test]
async fn more_success_raises_the_utility_and_more_cost_lowers_it() {
    // Two models that are told the same number of outcomes; the first one's differ.
    let utility = async |reward: f64, factor: f64| {
        let mut t = Table::new(&[1.0, 1.0]);
        for i in 0..30 {
            let d = t.decide(i).await;
            t.tell(&d, "p/m0", reward, factor);
            t.tell(&d, "p/m1", 0.6, 1.0);
        }
        let d = t.decide(0).await;
        d.arms.iter().find(|a| &*a.model == "p/m0").unwrap().utility
    };
    let (mut last, mut values) = (f64::NEG_INFINITY, Vec::new());
    for reward in [0.2, 0.5, 0.8, 1.0] {
        values.push(utility(reward, 1.0).await);
        assert!(values.last().is_some_and(|u| *u > last), "{values:?}");
        last = *values.last().unwrap();
    }
    let mut values = vec![utility(0.8, 1.0).await];
    for factor in [2.0, 4.0, 8.0] {
        values.push(utility(0.8, factor).await);
    }
    assert!(values.windows(2).all(|w| w[1] < w[0]), "{values:?}");
}

#[tokio::test]
async fn the_same_seed_over_the_same_statistics_decides_the_same() {
    let t = Table::new(&[1.0, 0.9, 0.8]);
    for seed in 0..50 {
        let (a, b) = (t.decide(seed).await, t.decide(seed).await);
        assert_eq!(serde_json::to_value(&a).unwrap(), serde_json::to_value(&b).unwrap());
    }
}

/// A model that was seen to change is drawn beside the best few until it has shown what it does now.
#[tokio::test]
async fn a_model_that_changed_is_tried_out_more_for_a_while() {
    let mut t = Table::new(&[1.0; 5]);
    let of = |d: &Decision, name: &str| d.arms.iter().find(|a| &*a.model == name).unwrap().propensity;
    for i in 0..60 {
        let d = t.decide(i).await;
        for (name, fails) in [("p/m0", 40), ("p/m1", 40), ("p/m2", 40), ("p/m3", 8), ("p/m4", 3)] {
            t.tell(&d, name, if i % fails == 1 { 0.0 } else { 1.0 }, 1.0);
        }
    }
    let before = t.decide(1_000).await;
    assert!(before.epsilon > 0.0 && of(&before, "p/m3") == 0.0 && of(&before, "p/m4") == 0.0, "{before:?}");
    let changed = |t: &Table| !t.statistics.load().changes.is_empty();
    for _ in 0..40 {
        if !changed(&t) {
            t.tell(&before, "p/m3", 0.0, 1.0);
        }
    }
    assert!(changed(&t));
    let after = t.decide(1_000).await;
    assert!(of(&after, "p/m3") > 0.0 && of(&after, "p/m4") == 0.0, "{after:?}");
    for _ in 0..30 {
        t.tell(&after, "p/m3", 0.7, 1.0);
    }
    assert_eq!(of(&t.decide(1_000).await, "p/m3"), 0.0, "as everybody else");
}

/// Where a slip breaks the use, the dearer and better model wins that loses where it does not matter.
#[tokio::test]
async fn precision_weighs_what_money_is_worth() {
    let mut t = Table::ruled(&[1.0, 8.0], Vec::new(), &format!("{RULES}{PRECISION}"));
    for i in 0..60 {
        let d = t.decide(i).await;
        t.tell(&d, "p/m0", f64::from(u8::from(i % 10 < 8)), 1.0);
        t.tell(&d, "p/m1", 1.0, 1.0);
    }
    for (level, best) in [("low", "p/m0"), ("medium", "p/m0"), ("high", "p/m1")] {
        t.asks(&serde_json::json!({"model": "auto", "routing": {"precision": level, "explore": "none"},
            "messages": [{"role": "user", "content": "Tell me something about the history of bridges, please."}]}));
        (t.profile, t.features) = t.router.profile(&t.request);
        let d = t.decide(0).await;
        assert_eq!(&*d.arms[0].model, best, "{level}: {:?}", d.arms);
    }
}

/// Where safety is locked down, the arm wins whose answers rules let out, which is behind where it is not.
#[tokio::test]
async fn locked_down_weighs_what_rules_refuse() {
    let mut t = Table::ruled(&[1.0; 2], Vec::new(), &format!("{RULES}{LOCKED}"));
    for i in 0..100 {
        let d = t.decide(i).await;
        t.tell(&d, "p/m0", f64::from(u8::from(i % 5 != 4)), 1.0);
        t.tell(&d, "p/m1", 1.0, 1.0);
        if i % 8 == 0 {
            let mut o = sample("default", "p/m1", 1.0);
            (o.status, o.served_by, o.reward) = (types::outcome::Status::Denied, None, None);
            t.learner.outcome(0, &o);
            let _ = t.learner.batch_done();
        }
    }
    for (level, best) in [("standard", "p/m1"), ("locked_down", "p/m0")] {
        t.asks(&serde_json::json!({"model": "auto", "routing": {"safety": level, "explore": "none"},
            "messages": [{"role": "user", "content": "Tell me something about the history of bridges, please."}]}));
        (t.profile, t.features) = t.router.profile(&t.request);
        let d = t.decide(0).await;
        assert_eq!(&*d.arms[0].model, best, "{level}: {:?}", d.arms);
    }
}

const LOCKED: &str = "rules:\n  - { id: safe, owner: o, description: d, when: 'workload.safety_posture == \"locked_down\"', actions: { weight: { safety: 4.0 } } }\n";
const PRECISION: &str = "utility: { precision: { high: { cost: 0.0 } }, lambda: { balanced: 0.3 } }\n";
const OWN: &str = "version: 1
name: own
nodes:
  - { id: fast, type: generate, model: p/m0 }
  - { id: check, type: validate, input: nodes.fast.completion, validators: [contract], needs: fast }
  - { id: strong, type: generate, model: p/m1 }
  - { id: pick, type: select, from: [nodes.fast.completion, nodes.strong.completion], method: first_passing, join: any }
  - { id: answer, type: stream, from: nodes.pick.completion, needs: pick }
edges:
  - { from: check, to: pick, outcome: [passed, unverified] }
  - { from: check, to: strong, outcome: failed }
  - { from: strong, to: pick }
";

/// Who was too slow for a ceiling is asked again after a minute, also where the workflow chooses the model.
#[tokio::test]
async fn what_was_seen_of_times_speaks_against_nobody_for_long() {
    let mut t = Table::with(&[1.0, 1.0], vec![SourceFile::new("workflows/own.yaml", OWN)]);
    let d = t.decide(0).await;
    for name in ["p/m0", "p/m1"] {
        for _ in 0..20 {
            let mut o = sample("default", name, 1.0);
            (o.cell, o.ts_ms) = (d.cell, 1_000);
            let slow = o.observations.first_mut().unwrap();
            (slow.total_ms, slow.output_tokens) = (60_000.0, 10);
            t.learner.outcome(0, &o);
        }
    }
    let _ = t.learner.batch_done();
    for model in ["workflow/own", "p/m0", "auto"] {
        t.asks(&serde_json::json!({"model": model, "messages": [{"role": "user", "content": "hi"}],
            "routing": {"max_latency_ms": 500}}));
        let refused = t.decide_at(10_000, 0).await.unwrap_err();
        // It passes, and says when, whoever chooses the model.
        assert_eq!(refused.code(), "no_candidates", "{model}: {refused}");
        assert_eq!(refused.retry_after, Some(Duration::from_secs(51)), "{model}");
        assert!(t.decide_at(61_001, 0).await.is_ok(), "{model}");
    }
}

const DEAR: &str = "version: 1
name: dear
serves: \"true\"
nodes:
  - { id: one, type: generate, primary: true }
  - { id: two, type: generate }
  - { id: three, type: generate }
  - { id: four, type: generate }
  - { id: five, type: generate }
  - { id: six, type: generate }
  - { id: answer, type: stream, from: nodes.six.completion }
edges:
  - { from: one, to: two }
  - { from: two, to: three }
  - { from: three, to: four }
  - { from: four, to: five }
  - { from: five, to: six }
  - { from: six, to: answer }
";

/// What a model misses in one workflow is compared with what it misses in another by how much more would do, whatever it
/// is measured in.
#[tokio::test]
async fn the_ceiling_that_is_missed_by_least_is_told() {
    let mut t = Table::with(&[1.0], vec![SourceFile::new("workflows/dear.yaml", DEAR)]);
    let body = |routing: serde_json::Value| {
        serde_json::json!({"model": "auto", "routing": routing, "messages": [{"role": "user",
            "content": "Tell me something about the history of bridges, please."}]})
    };
    let free = t.decide(0).await;
    let cost = |workflow: &str| {
        let arm = free.arms.iter().find(|a| &*a.workflow == workflow).unwrap();
        arm.expected_cost_usd.unwrap().dollars()
    };
    assert!(cost("dear") > 4.0 * cost("default"), "{:?}", free.arms);
    let refused = async |t: &mut Table, routing: serde_json::Value| {
        t.asks(&body(routing));
        match t.decide_at(0, 0).await.map_err(|e| e.kind) {
            Err(Kind::Unfit { param, message, .. }) => (param, message),
            other => panic!("{other:?}"),
        }
    };
    let floor = serde_json::json!({"min_quality": 0.99, "workflow": "default"});
    let (param, poor) = refused(&mut t, floor).await;
    assert_eq!(param, "routing.min_quality", "{poor}");
    let (_, lower) = poor.split_once("lower bound ").unwrap();
    let lower: f64 = lower.split_whitespace().next().unwrap().parse().unwrap();
    for (floor, cap, want) in [
        (0.99, cost("dear") / 1.05, "routing.max_cost_usd"),
        (1.05 * lower, 1.05 * cost("default"), "routing.min_quality"),
    ] {
        let both = serde_json::json!({"min_quality": floor, "max_cost_usd": cap});
        let (param, message) = refused(&mut t, both).await;
        assert_eq!(param, want, "{message}");
    }
}
