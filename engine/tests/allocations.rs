//! How often a decision asks for memory: as often among two hundred arms as among twenty; and how often a run does.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells its figure"
)]

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
    let files = Files { runner: true, ..Files::new(SourceFile::new("routing_rules.yaml", RULES)) };
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

/// A model that answers at once.
struct Instantly(Arc<Model>);

impl workflows::World for Instantly {
    fn generate(
        &self,
        _: workflows::Ask,
    ) -> futures_util::future::BoxFuture<'_, Result<workflows::Generated, workflows::Failure>> {
        let choice = types::completion::Choice {
            text: "The answer is forty-two.".to_owned(),
            finish_reason: Some(types::completion::FinishReason::Stop),
            ..types::completion::Choice::default()
        };
        let completion = types::Completion { choices: vec![choice], ..types::Completion::default() };
        let model = self.0.clone();
        Box::pin(async move { Ok(workflows::Generated::whole(completion, model)) })
    }
}

/// Most allocations of a run of ten nodes, its three answers included.
const TEN_NODES: u64 = 400;

/// A run asks for little memory beside what it puts out, the hundredth as little as the second.
#[test]
fn a_run_of_ten_nodes_asks_for_memory_a_bounded_number_of_times() {
    let model = |name: &str, tier| Model {
        price: Some(Price::new(1.0, 1.0)),
        quality_tier: tier,
        ..Model::new(format!("p/{name}"), 0, (8_000, 1_000))
    };
    let matrix = Matrix::new(
        vec![Provider::new("p", Dialect::Recorded)],
        vec![model("a", 1), model("b", 2), model("c", 3)],
    );
    let language = policies::language();
    let names = workflows::Names {
        matrix: &matrix,
        pools: &[],
        approvers: None,
        tools: &[],
        language: &*language,
        variables: &Vec::new(),
        scripts: &[],
        runner: false,
        may_ask: None,
    };
    let (library, problems) =
        workflows::load(&[SourceFile::new("ten.yaml", include_str!("../../bench/ten.yaml"))], &names);
    assert!(problems.is_empty(), "{problems:?}");
    let ten = library.get("ten").unwrap();
    let body = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": "What is it?"}]});
    let request = Arc::new(ChatRequest::from_value(&body).unwrap());
    let world: Arc<dyn workflows::World> = Arc::new(Instantly(Arc::new(model("a", 1))));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let counts: Vec<u64> = (0..100)
        .map(|_| {
            let input =
                workflows::Input::new(request.clone(), language.clone(), language.scope(None, Vec::new()));
            let mut ending = None;
            let run = workflows::run(ten.clone(), input, world.clone());
            let counted = measure(|| ending = Some(runtime.block_on(run).ending));
            assert!(matches!(ending, Some(workflows::Ending::Delivered { .. })), "{ending:?}");
            counted.count_total
        })
        .collect();
    let (second, last) = (counts.get(1).unwrap(), counts.last().unwrap());
    eprintln!("ten nodes: {last} allocations a run");
    assert!(last <= second && *last <= TEN_NODES, "{second} allocations, then {last}");
}
