//! How often a decision asks for memory: as often among two hundred arms as among twenty.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use allocation_counter::measure;
use engine::learn::Limits;
use engine::route::{Ask, Router, basis};
use engine::{Bundle, Files, Statistics, learner};
use futures_util::FutureExt as _;
use std::sync::Arc;
use types::doc::SourceFile;
use types::matrix::{Abilities, Availability, Dialect, Matrix, Model, Price, Provider};
use types::outcome::Outcome;
use types::store::Observer as _;
use types::{ChatRequest, Decision};

const RULES: &str = "version: 1\npools: { default: { models: [\"*\"] }, extraction: { models: [\"*\"] }, judge: { models: [\"*\"] } }\n";

fn router(models: u16) -> Router {
    let files = Files {
        rules: SourceFile::new("routing_rules.yaml", RULES),
        defaults: None,
        scripts: Vec::new(),
        workflows: Vec::new(),
        schemas: Vec::new(),
        runner: true,
        around: None,
    };
    let model = |i: u16| Model {
        abilities: Abilities { streaming: true, ..Abilities::default() },
        price: Some(Price::new(0.2 + f64::from(i % 7), 1.0)),
        speed_tier: 1,
        ..Model::new(format!("test/m{i}"), 0, (128_000, 8_192))
    };
    let providers = vec![Provider::new("test", Dialect::Recorded)];
    let matrix = Matrix::new(providers, (0..models).map(model).collect());
    Router::new(Bundle::load(Arc::new(matrix), &files).0.unwrap())
}

/// Decides; gives the decision and how often memory was asked for.
fn decide(
    router: &Router,
    statistics: &Statistics,
    request: &Arc<ChatRequest>,
    arms: u16,
    seed: u64,
) -> (Decision, u64) {
    let (profile, features) = router.profile(request);
    let availability = vec![Availability::Ready; usize::from(arms)];
    let snapshot = statistics.load();
    let (profile, features, statistics) = (&profile, &features, &snapshot);
    let ask =
        Ask { id: "r", request, profile, features, availability: &availability, statistics, seed, ts_ms: 0 };
    let mut decision = None;
    // Policies are asked in a future that is ready at once.
    let counted = measure(|| decision = router.decide(ask).now_or_never());
    (decision.unwrap().unwrap(), counted.count_total)
}

/// Allocations of a decision, once every arm was learned of.
fn allocations(arms: u16) -> u64 {
    let router = router(arms);
    let (mut learner, statistics) = learner(Limits::default());
    let body = serde_json::json!({"model": "workflow/default", "messages": [{"role": "user", "content": "Why do bridges sway?"}]});
    let request = Arc::new(ChatRequest::from_value(&body).unwrap());
    for i in 0..3 * u64::from(arms) {
        let (decision, _) = decide(&router, &statistics, &request, arms, i);
        let model = &decision.arms.get((i % u64::from(arms)) as usize).unwrap().model;
        let features = router.profile(&request).1;
        let mut outcome = Outcome::answered(&decision, model, (i % 2) as f64, None, 100.0);
        outcome.basis = basis(&decision, features, model);
        learner.outcome(i, &outcome);
        let _ = learner.batch_done();
    }
    // The first decision under a snapshot prepares it for all others.
    decide(&router, &statistics, &request, arms, 0);
    let (decision, count) = decide(&router, &statistics, &request, arms, 1);
    assert_eq!(decision.arms.len(), usize::from(arms));
    count
}

#[test]
fn no_arm_asks_for_memory_of_its_own() {
    let (few, many) = (allocations(20), allocations(200));
    assert!(few > 0, "the counter counts");
    // The words of the reason grow by more or less; a single list of arms that grows would ask four times more.
    assert!(many < few + 4, "{few} allocations among 20 arms, {many} among 200");
}
